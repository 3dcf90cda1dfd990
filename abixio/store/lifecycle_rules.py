"""Lifecycle rules: what they say of the versions of one key, or of an upload, at one moment. No I/O.

A version is due at the first midnight UTC behind its age, and the age of one that is not current counts from the moment at which
the next version took its place. A day may be made shorter, for tests (`--debug-day`); midnights are then those of such days.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

import msgspec

from abixio.errors import CatalogCorrupt
from abixio.store.record import NULL, Record
from abixio.store.versions import Which

CONFIG: Final = "lifecycle"
"""The name of the document that is kept with a bucket."""
SETTING: Final = "lifecycle"
"""The bucket setting that says that there may be such a document, so that nobody else has to look for one. It is set ahead of the
first document and stays."""
DAY: Final = 86_400_000
"""Milliseconds."""

Form = Literal["prefix", "filter", "and"]


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which objects a rule is about: all that fit everything that is given."""

    prefix: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    larger: int | None = None
    smaller: int | None = None

    def fits(self, key: str, record: Record) -> bool:
        return (
            key.startswith(self.prefix or "")
            and all(record.tags.get(name) == value for name, value in self.tags)
            and (self.larger is None or record.size > self.larger)
            and (self.smaller is None or record.size < self.smaller)
        )


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule, as it was put."""

    id: str
    enabled: bool
    filter: Filter = Filter()
    form: Form = "filter"
    """How the filter was written: a prefix of the rule itself, one criterion, several."""
    days: int | None = None
    date: int | None = None
    """ms since 1970."""
    markers: bool | None = None
    """ExpiredObjectDeleteMarker."""
    noncurrent_days: int | None = None
    newer: int | None = None
    """So many noncurrent versions stay whatever their age."""
    abort_days: int | None = None


class Rules(msgspec.Struct, frozen=True, omit_defaults=True):
    """The document."""

    rules: tuple[Rule, ...]
    minimum: str
    """x-amz-transition-default-minimum-object-size: kept and shown, for there is nothing to move objects to."""

    @property
    def enabled(self) -> Iterable[Rule]:
        return (rule for rule in self.rules if rule.enabled)


@lru_cache(maxsize=64)
def decode(kept: str) -> Rules:
    """The document that `encode` made. CatalogCorrupt for one that this version does not understand."""
    try:
        return msgspec.json.decode(kept, type=Rules)
    except msgspec.MsgspecError as error:
        raise CatalogCorrupt(f"lifecycle rules that this version does not understand: {error}") from error


def encode(rules: Rules) -> str:
    return msgspec.json.encode(rules).decode()


def now() -> int:
    """ms since 1970."""
    return time.time_ns() // 1_000_000


class Calendar:
    """Days, and the midnights between them."""

    def __init__(self, seconds: int | None = None) -> None:
        """`seconds`: of a day that is none."""
        self.day = DAY if seconds is None else seconds * 1000

    def due(self, since: int, days: int) -> int:
        """When something of that time is so many days old, rounded to the midnight behind that."""
        return self.midnight(since + days * self.day)

    def midnight(self, moment: int) -> int:
        """The next one behind a moment."""
        return moment - moment % self.day + self.day

    def horizon(self, now: int, days: int) -> int:
        """What was there before that moment is due by now."""
        return now - now % self.day - days * self.day


# ---- one key ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Doom:
    """What is due for deletion: the current version, or one by its id."""

    of: Which
    rule: str


@dataclass(slots=True)
class Judgement:
    dooms: list[Doom] = field(default_factory=list)
    later: int | None = None
    """When the first retention ends that keeps a version which would be due."""


def judge(rules: Rules, versions: Sequence[Record], now: int, calendar: Calendar) -> Judgement:
    """What is due of a key, whose objects and delete markers are given newest first."""
    judged = Judgement()
    if not versions:
        return judged
    key, current = versions[0].key.decode(), versions[0]
    rule = _expires(rules, key, current, len(versions) == 1, now, calendar)
    if rule is not None:
        judged.dooms.append(Doom(None if current.kind == "object" else _which(current), rule.id))
    for at, version in enumerate(versions[1:]):
        due = _noncurrent(rules, key, version, versions[at].modified, at, now, calendar)
        if due is None:
            continue
        until = _locked_until(version, now)
        if until == 0:
            judged.dooms.append(Doom(_which(version), due.id))
        elif until is not None:
            judged.later = until if judged.later is None else min(judged.later, until)
    return judged


def _locked_until(record: Record, now: int) -> int | None:
    """When its retention ends; 0: nothing protects it; None: a legal hold. (Whoever takes that off makes a new rev, which is
    looked at.)"""
    if record.lock.get("hold") == "ON":
        return None
    until = int(record.lock.get("until", 0))
    return until if until > now else 0


def _which(record: Record) -> Which:
    return record.seq if record.versioned else NULL


def _expires(rules: Rules, key: str, current: Record, alone: bool, now: int, calendar: Calendar) -> Rule | None:
    """The rule by which the current version is due; a delete marker only ever is when nothing is below it any more."""
    marker = current.kind == "marker"
    if marker and not alone:
        return None
    for rule in rules.enabled:
        if not rule.filter.fits(key, current):
            continue
        when = _expiry(rule, current, calendar)
        if (when is not None and when <= now) or (marker and rule.markers):
            return rule
    return None


def _expiry(rule: Rule, current: Record, calendar: Calendar) -> int | None:
    return rule.date if rule.days is None else calendar.due(current.modified, rule.days)


def _noncurrent(rules: Rules, key: str, version: Record, since: int, newer: int, now: int, calendar: Calendar) -> Rule | None:
    """The rule by which a version is due that so many noncurrent ones are newer than."""
    for rule in rules.enabled:
        days = rule.noncurrent_days
        if days is None or newer < (rule.newer or 0) or not rule.filter.fits(key, version):
            continue
        if calendar.due(since, days) <= now:
            return rule
    return None


def expiry(rules: Rules, record: Record, calendar: Calendar) -> tuple[int, str] | None:
    """When a current object goes, and by which rule: the first to be due."""
    key = record.key.decode()
    found = (
        (when, rule.id) for rule in rules.enabled
        if (when := _expiry(rule, record, calendar)) is not None and rule.filter.fits(key, record)
    )
    return min(found, key=lambda each: each[0], default=None)


def abortion(rules: Rules, key: str, initiated: int, calendar: Calendar) -> tuple[int, str] | None:
    """When an upload that is not complete goes, and by which rule."""
    found = (
        (calendar.due(initiated, rule.abort_days), rule.id) for rule in rules.enabled
        if rule.abort_days is not None and key.startswith(rule.filter.prefix or "")
    )
    return min(found, key=lambda each: each[0], default=None)
