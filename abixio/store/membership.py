"""Who belongs to the pool: from what stands at the named directories to who serves which slot. Decides, writes nothing.

`abixio.store.assembly` looks at the directories and carries the decision out. The rules are those of docs/design.md,
*Identity*. Every refusal is a StartupError that names a directory and says what to do.

Epochs: 0 means "being made, nothing was ever stored here"; a pool begins with 1 and gets the next one when a slot is given
away. A volume is first written with epoch 0 and with its own epoch last, so a crash in between is seen and finished.
"""

from __future__ import annotations

import os.path
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from abixio.errors import StartupError
from abixio.volume.identity import Identity, Look, Member


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at one directory of --volumes."""

    path: str
    look: Look
    identity: Identity | None = None
    """Of a volume; None with `look` FORMATTED means that volume.json is damaged."""
    damage: str = ""
    mount_point: bool = False

    @property
    def blank(self) -> bool:
        """Whether it can be made a volume."""
        return self.look in (Look.EMPTY, Look.HALF)


@dataclass(slots=True)
class Plan:
    """Who serves what, and what has to be written before that."""

    identity: Identity
    """Deployment, epoch and members to be. Its own slot and volume mean nothing."""
    present: dict[int, Found] = field(default_factory=dict)
    """Volumes of the pool by slot."""
    fresh: dict[int, Found] = field(default_factory=dict)
    """Directories that become volumes, by slot."""
    filling: bool = False
    """Whether the fresh ones join a pool that holds data."""
    warnings: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        return len(self.identity.members)

    def identity_of(self, slot: int, epoch: int) -> Identity:
        """What the volume of that slot shall say of itself; fields of a newer version stay as they are there."""
        member = self.identity.member(slot)
        assert member is not None
        found = self.present.get(slot)
        base = self.identity if found is None or found.identity is None else found.identity
        return replace(base, slot=slot, volume=member.volume, epoch=epoch, members=self.identity.members)


def decide(found: Sequence[Found], slot: int | None = None) -> Plan:
    """The plan for these directories. With `slot`: give that slot to a blank one, also where it would be left alone."""
    _refuse_foreign(found)
    volumes = [one for one in found if one.identity is not None]
    joining = [one for one in volumes if one.identity is not None and one.identity.epoch == 0]
    settled = [one for one in volumes if one not in joining]
    if not volumes:
        return _new_pool(found, slot)
    _refuse_mixture(volumes)
    plan = _pool_of(settled or joining, volumes)
    if not settled:
        if slot is not None:
            raise StartupError(f"{joining[0].path}: belongs to a pool whose making was cut short; start the server to finish it")
        # A new pool whose making was cut short: all of its members get their first real epoch now.
        _finish_new_pool(plan, found)
    else:
        _give_away(plan, found, slot)
    _warn_missing(plan, found)
    return plan


# ---- a new pool ------------------------------------------------------------------------------------------------------
def _new_pool(found: Sequence[Found], slot: int | None) -> Plan:
    if slot is not None:
        raise StartupError(f"{found[0].path}: no directory of --volumes is a volume yet; start the server to make a pool")
    for one in found:
        if one.look is Look.FORMATTED:
            raise StartupError(f"{one.path}: {one.damage}, and no other volume of its pool is named; name them, or empty it")
    members = tuple(Member(number, uuid.uuid4().hex, one.mount_point) for number, one in enumerate(found))
    identity = Identity(
        deployment=uuid.uuid4().hex, slot=0, volume=members[0].volume, epoch=1, members=members, created=_now()
    )
    return Plan(identity, fresh=dict(enumerate(found)))


def _finish_new_pool(plan: Plan, found: Sequence[Found]) -> None:
    blanks = [one for one in found if one.blank or one.look is Look.MISSING]
    missing = [slot for slot in range(plan.n) if slot not in plan.present]
    if len(missing) != len(blanks):
        known = next(iter(plan.present.values())).path
        raise StartupError(
            f"{known}: belongs to a new pool of {plan.n} volumes whose making was cut short; name the same directories as then, "
            "or empty them all to begin anew"
        )
    plan.fresh = dict(zip(missing, blanks, strict=True))
    plan.identity = replace(plan.identity, epoch=1)


# ---- a pool that is there --------------------------------------------------------------------------------------------
def _refuse_foreign(found: Sequence[Found]) -> None:
    for one in found:
        if one.look is Look.FOREIGN:
            raise StartupError(f"{one.path}: holds files but no volume of abixio; empty it or name another directory")


def _refuse_mixture(volumes: Sequence[Found]) -> None:
    """Two deployments, or one volume twice."""
    deployments = Counter(_identity(one).deployment for one in volumes)
    if len(deployments) > 1:
        most = deployments.most_common(1)[0][0]
        odd = next(one for one in volumes if _identity(one).deployment != most)
        other = next(one for one in volumes if _identity(one).deployment == most)
        raise StartupError(
            f"{odd.path}: belongs to deployment {_identity(odd).deployment}, but {other.path} to {most}; "
            "name the directories of one deployment only"
        )
    seen: dict[str, Found] = {}
    for one in volumes:
        twin = seen.setdefault(_identity(one).volume, one)
        if twin is not one:
            raise StartupError(f"{one.path}: is a copy of the volume in {twin.path}; name only one of them, the newer one")


def _pool_of(current: Sequence[Found], volumes: Sequence[Found]) -> Plan:
    """The pool as the newest list of members has it, and which of these directories are its volumes."""
    epoch = max(_identity(one).epoch for one in current)
    newest = [one for one in current if _identity(one).epoch == epoch]
    members = _identity(newest[0]).members
    for one in newest[1:]:
        if {(m.slot, m.volume) for m in _identity(one).members} != {(m.slot, m.volume) for m in members}:
            raise StartupError(
                f"{one.path}: names other members than {newest[0].path}; they were started apart and took different disks; "
                "name only one side's directories and empty the others"
            )
    plan = Plan(_identity(newest[0]))
    for one in volumes:
        own = _identity(one)
        member = plan.identity.member(own.slot)
        if member is not None and member.volume == own.volume:
            plan.present[own.slot] = one
        elif own.epoch > 0:
            raise StartupError(
                f"{one.path}: was replaced: slot {own.slot} belongs to a newer volume; empty it or leave it out of --volumes"
            )
    return plan


def _give_away(plan: Plan, found: Sequence[Found], slot: int | None) -> None:
    """Find a slot for each blank directory, or the reason why it stays as it is."""
    if len(found) > plan.n:
        extra = next((one for one in found if one not in plan.present.values()), found[-1])
        raise StartupError(f"{extra.path}: is one too many, the pool has {plan.n} volumes; leave it out of --volumes")
    # One that began to join, and no more, goes on with that.
    blanks = [one for one in found if one.blank or (one.identity is not None and one not in plan.present.values())]
    blanks.sort(key=lambda one: not one.mount_point)
    missing = [number for number in range(plan.n) if number not in plan.present]
    if slot is not None:
        plan.fresh = {slot: _replacement(plan, blanks, slot)}
    else:
        plan.fresh = _takers(plan, blanks, missing)
    if not plan.fresh:
        return
    plan.filling = True
    members = tuple(_member(member.slot, plan.fresh.get(member.slot)) or member for member in plan.identity.members)
    plan.identity = replace(plan.identity, epoch=plan.identity.epoch + 1, members=members)


def _member(slot: int, taker: Found | None) -> Member | None:
    """Who takes that slot; a volume that began to join keeps its id, which its catalog knows too."""
    if taker is None:
        return None
    volume = taker.identity.volume if taker.identity is not None else uuid.uuid4().hex
    return Member(slot, volume, taker.mount_point)


def _replacement(plan: Plan, blanks: Sequence[Found], slot: int) -> Found:
    if slot >= plan.n:
        raise StartupError(f"slot {slot}: the pool has the slots 0 to {plan.n - 1}")
    if slot in plan.present:
        holder = plan.present[slot].path
        raise StartupError(f"{holder}: holds slot {slot} and is sound; take it out of --volumes if it shall be replaced")
    if not blanks:
        raise StartupError(f"slot {slot}: no directory of --volumes is empty; name an empty one for it")
    return blanks[0]


def _takers(plan: Plan, blanks: Sequence[Found], missing: Sequence[int]) -> dict[int, Found]:
    """Blank directories by the slot they take."""
    needed = plan.n - plan.n // 2
    takers: dict[int, Found] = {}
    for one in blanks:
        fit = [slot for slot in missing if slot not in takers and (one.mount_point or not _was_mounted(plan, slot))]
        if len(plan.present) < needed:
            plan.warnings.append(
                f"{one.path}: is empty and stays so: a slot is given away only while {needed} of the {plan.n} volumes are here; "
                "bring the others back, or see `abixio volume replace`"
            )
        elif fit:
            # A mounted disk first takes the place of one: the others may be left for plain directories.
            takers[max(fit, key=lambda slot: _was_mounted(plan, slot) == one.mount_point)] = one
        else:
            plan.warnings.append(
                f"{one.path}: is empty and no mount point, but the missing volume was one; mount its disk, or say "
                f"`abixio volume replace {next(slot for slot in missing if slot not in takers)}` if it is lost"
            )
    return takers


def _was_mounted(plan: Plan, slot: int) -> bool:
    member = plan.identity.member(slot)
    return member is not None and member.mount_point


def _warn_missing(plan: Plan, found: Sequence[Found]) -> None:
    gone = [slot for slot in range(plan.n) if slot not in plan.present and slot not in plan.fresh]
    for one in found:
        if one.look is Look.MISSING and one not in plan.fresh.values():
            plan.warnings.append(f"{one.path}: is not there; starting without it")
        elif one.damage:
            plan.warnings.append(f"{one.path}: {one.damage}; starting without it")
    if gone:
        plan.warnings.append(f"no volume for slot {', '.join(map(str, gone))} of 0 to {plan.n - 1}: the pool is degraded")


def refuse_overlap(paths: Sequence[str]) -> None:
    """One directory inside another would be formatted into the other's volume."""
    absolute = [os.path.abspath(path) for path in paths]
    for number, path in enumerate(absolute):
        for other in absolute[:number]:
            if os.path.commonpath((path, other)) in (path, other):
                raise StartupError(f"{path}: is the same as {other} or one is inside the other; name separate directories")


def _identity(found: Found) -> Identity:
    assert found.identity is not None
    return found.identity


def _now() -> int:
    return time.time_ns() // 1_000_000
