"""Which rows of a bucket have to be looked at for its lifecycle rules, and in which order: those that are as old as a rule wants,
from the oldest on. No I/O.

A sweep is one such order. Rules of the same age share it, so that a row is read once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from abixio.store.lifecycle_rules import Rule, Rules
from abixio.store.multipart import TAIL
from abixio.volume.interface import Aged

Prefixes = tuple[bytes, ...]


@dataclass(slots=True)
class Sweep:
    """Rows of one age, of which those are looked at that may be what a rule is about."""

    name: str
    days: int | None
    """So old are they at least; None: of any age."""
    uploads: bool = False
    """Open uploads and not objects."""
    amended: bool = False
    """Later revs, in order of amendment: what was judged already may be judged otherwise."""
    every: Prefixes = field(default=())
    """All keys that begin so, ..."""
    older: Prefixes = field(default=())
    """... those that have older versions, ..."""
    unlisted: Prefixes = field(default=())
    """... and those of which the newest version is a delete marker."""

    def wants(self, row: Aged) -> bool:
        name = row.key[:-TAIL] if self.uploads else row.key
        return (
            name.startswith(self.every)
            or (row.older and name.startswith(self.older))
            or (not row.listed and name.startswith(self.unlisted))
        )


def sweeps(rules: Rules, now: int) -> list[Sweep]:
    """All that the enabled rules need now."""
    found: dict[str, Sweep] = {}

    def sweep(name: str, days: int | None, uploads: bool = False) -> Sweep:
        return found.setdefault(name, Sweep(name, days, uploads))

    for rule in rules.enabled:
        prefix = _prefix(rule)
        if rule.days is not None:
            sweep(f"{rule.days} days", rule.days).every += prefix
        if rule.date is not None and rule.date <= now:
            sweep(f"since {rule.date}", None).every += prefix
        if rule.markers:
            sweep("any age", None).unlisted += prefix
        if rule.noncurrent_days is not None:
            sweep(f"{rule.noncurrent_days} days", rule.noncurrent_days).older += prefix
        if rule.newer is not None:  # a new version may be the one too many above old ones that are due but for that
            sweep("any age", None).older += prefix
        if rule.abort_days is not None:
            sweep(f"uploads of {rule.abort_days} days", rule.abort_days, True).every += prefix
    every = tuple(prefix for rule in rules.enabled if _takes_objects(rule) for prefix in _prefix(rule))
    if every:
        found["amended"] = Sweep("amended", None, amended=True, every=every)
    return list(found.values())


def _takes_objects(rule: Rule) -> bool:
    return rule.days is not None or rule.date is not None or rule.noncurrent_days is not None


def _prefix(rule: Rule) -> Prefixes:
    return ((rule.filter.prefix or "").encode(),)
