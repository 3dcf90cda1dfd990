"""A range of an object as steps within stripes, and the jobs over a run of them: to have them in memory, verified or not yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from abixio.store.decoder import Decoder
from abixio.store.layout import Stripe
from abixio.store.unverified import Unverified

Pieces = Sequence[memoryview | Unverified]
"""Consecutive bytes; a view is verified."""


class Step(NamedTuple):
    """A range within one stripe of one part."""

    part: int
    stripe: Stripe
    start: int
    stop: int


def resident(source: Decoder, run: list[Step]) -> Pieces | None:
    """On the event loop: a run that is in memory, and needs nothing to be opened or rebuilt; else None."""
    found: list[Unverified] = []
    for _, stripe, start, stop in run:
        pieces = source.resident(stripe, start, stop)
        if pieces is None:
            return None
        found += pieces
    return found


def load(source: Decoder, run: list[Step], room: memoryview) -> Pieces | None:
    """On a thread: have a run in memory. What has to be rebuilt is verified on the way."""
    found: list[memoryview | Unverified] = []
    for _, stripe, start, stop in run:
        pieces = source.load(stripe, start, stop) or source.read(stripe, start, stop, room)
        if pieces is None:
            return None
        found += pieces
    return found


def read(source: Decoder, run: list[Step], room: memoryview) -> list[memoryview] | None:
    """On a thread: have it in memory, verified."""
    found: list[memoryview] = []
    for _, stripe, start, stop in run:
        views = source.read(stripe, start, stop, room)
        if views is None:
            return None
        found += views
    return found


def verified(pieces: Pieces) -> Iterator[memoryview]:
    """Good slices of those pieces, up to the first bytes that are not good as they are."""
    for piece in pieces:
        if isinstance(piece, memoryview):
            yield piece
            continue
        sent = 0
        for view in piece.verified():
            sent += len(view)
            yield view
        if sent < len(piece):
            return


def behind(run: list[Step], sent: int) -> list[Step]:
    """The steps of a run without its first `sent` bytes."""
    rest: list[Step] = []
    for step in run:
        length = step.stop - step.start
        if sent < length:
            rest.append(step._replace(start=step.start + sent))
        sent = max(sent - length, 0)
    return rest


def cut(views: list[memoryview], start: int, stop: int) -> list[memoryview]:
    """The bytes [start, stop) of consecutive views."""
    found, base = [], 0
    for view in views:
        low, high = max(start - base, 0), min(stop - base, len(view))
        if low < high:
            found.append(view[low:high])
        base += len(view)
    return found
