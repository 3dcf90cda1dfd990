"""From the directories of --volumes to open volumes: looks at them, lets `membership` decide, writes what it decided.

Nothing is written before `carry_out`. A crash at any step of it leaves what the next start recognizes and finishes:
volumes that join are whole, and known to be filling, before any member names them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from abixio.errors import IdentityDamaged, StartupError, VolumeError
from abixio.store.membership import Found, Plan, decide, refuse_overlap
from abixio.volume import identity, names
from abixio.volume.company import Company
from abixio.volume.files import Files
from abixio.volume.formatting import begin_volume, format_volume
from abixio.volume.identity import Look
from abixio.volume.interface import Note
from abixio.volume.local import LocalVolume
from abixio.volume.lock import VolumeLock

_log = logging.getLogger(__name__)

FILLING: Final = "filling"
"""Name of the note that says so in a volume's catalog."""


@dataclass(slots=True)
class PoolVolumes:
    """The pool's volumes, open."""

    n: int
    by_slot: dict[int, LocalVolume] = field(default_factory=dict)
    filling: set[int] = field(default_factory=set)

    def close(self) -> None:
        for volume in self.by_slot.values():
            volume.close()


def survey(paths: Sequence[str], slot: int | None = None, files: Files | None = None) -> Plan:
    """What to do with these directories; writes nothing. StartupError when the answer is: not like this."""
    files = files or Files()
    refuse_overlap(paths)
    found = [_look(files, path) for path in paths]
    inodes: dict[tuple[int, int], str] = {}
    for one in found:
        if one.look is not Look.MISSING and not one.damage:
            twin = inodes.setdefault(files.inode(one.path), one.path)
            if twin != one.path:
                raise StartupError(f"{one.path}: is the same directory as {twin}; name it once")
    plan = decide(found, slot)
    devices: list[int] = []
    for one in (plan.present | plan.fresh).values():
        with suppress(OSError):  # a disk that does not tell is said to be sick when it is opened
            devices.append(files.device(one.path))
    if len(set(devices)) < len(devices):
        plan.warnings.append("some volumes share a device: when it fails, all of them do")
    return plan


def _look(files: Files, path: str) -> Found:
    try:
        look = identity.look(files, path)
        if look is Look.FOREIGN and files.exists(names.home(path)):
            return Found(path, Look.FORMATTED, damage="its volume.json is gone")
        own = identity.read(files, path) if look is Look.FORMATTED else None
        return Found(path, look, own, mount_point=look is not Look.MISSING and files.is_mount(path))
    except IdentityDamaged as error:
        return Found(path, Look.FORMATTED, damage=str(error))


def carry_out(
    plan: Plan, files: Files | None = None, company: Callable[[int], Company] | None = None
) -> PoolVolumes:
    """Format, join and update as planned, then open. Volumes that do not open are left out with a warning. `company`: of a slot,
    where other processes will use it too."""
    files = files or Files()
    _refuse_in_use(files, plan)
    for warning in plan.warnings:
        _log.warning("%s", warning)
    with _locked(files, plan):
        _format(plan, files)
        _update(plan, files)
    if plan.fresh and not plan.present:
        _log.warning("made a new pool of %d volumes: %s", plan.n, ", ".join(found.path for found in plan.fresh.values()))
    volumes = PoolVolumes(plan.n)
    try:
        for slot, found in sorted((plan.present | plan.fresh).items()):
            _open(volumes, slot, found.path, files, None if company is None else company(slot))
    except BaseException:
        volumes.close()
        raise
    return volumes


def rejoin(n: int, places: Mapping[int, str], companies: Mapping[int, Company], files: Files) -> PoolVolumes:
    """Open the volumes of a pool of n that other processes serve already: what is to be decided was decided."""
    volumes = PoolVolumes(n)
    try:
        for slot, path in places.items():
            _open(volumes, slot, path, files, companies[slot])
    except BaseException:
        volumes.close()
        raise
    return volumes


def replace_slot(paths: Sequence[str], slot: int) -> str:
    """Give `slot` to an empty directory among `paths`; says what was done."""
    plan = survey(paths, slot)
    carry_out(plan).close()
    return f"{plan.fresh[slot].path} is slot {slot} now, and empty; start the server with it among --volumes"


def _refuse_in_use(files: Files, plan: Plan) -> None:
    """StartupError when another server has one of the volumes: that alone is to be said then."""
    for found in plan.present.values():
        with suppress(VolumeError):  # will be said when it is opened
            VolumeLock(files, found.path).release()


@contextmanager
def _locked(files: Files, plan: Plan) -> Iterator[None]:
    """Keep other servers off the volumes while their identities are written."""
    with ExitStack() as stack:
        for slot, found in plan.present.items():
            if plan.fresh or found.identity != plan.identity_of(slot, plan.identity.epoch):
                try:
                    stack.callback(VolumeLock(files, found.path).release)
                except VolumeError as error:
                    _log.warning("%s", error)
        yield


def _format(plan: Plan, files: Files) -> None:
    """Make the fresh volumes: with epoch 0 first, so that a crash before the last step is seen, then fit to serve."""
    blank = {slot: found for slot, found in plan.fresh.items() if found.look is not Look.FORMATTED}
    for found in blank.values():
        begin_volume(found.path, files)
    for slot, found in blank.items():
        format_volume(found.path, plan.identity_of(slot, epoch=0), files)
    for slot, found in plan.fresh.items():
        if plan.filling:
            # Before the volume names itself a member: an empty disk must never pass for one that knows of no object.
            volume = LocalVolume.open(found.path, files)
            try:
                volume.apply([[Note(FILLING, 1)]], durable=True)
            finally:
                volume.close()
            _write(files, found, plan, slot)


def _update(plan: Plan, files: Files) -> None:
    """Tell every member of the new epoch. One that cannot be written learns it later; it is named by the others."""
    if not plan.filling:
        for slot, found in plan.fresh.items():
            _write(files, found, plan, slot)
    for slot, found in plan.present.items():
        if found.identity == plan.identity_of(slot, plan.identity.epoch):
            continue
        try:
            _write(files, found, plan, slot)
        except VolumeError as error:
            _log.warning("%s", error)


def _write(files: Files, found: Found, plan: Plan, slot: int) -> None:
    identity.write(files, found.path, plan.identity_of(slot, plan.identity.epoch))


def _open(volumes: PoolVolumes, slot: int, path: str, files: Files, company: Company | None) -> None:
    try:
        volume = LocalVolume.open(path, files, company)
    except VolumeError as error:
        _log.warning("%s: %s; starting without it", path, error)
        return
    volumes.by_slot[slot] = volume
    if volume.slot != slot:
        raise StartupError(f"{path}: was changed by somebody else during the start; start again")
    try:
        if volume.notes().get(FILLING):
            volumes.filling.add(slot)
            if company is None or not company.joins:
                _log.warning(
                    "%s: slot %d was replaced and lacks the data of before; replace no other disk that holds it", path, slot
                )
    except VolumeError as error:
        _log.warning("%s: %s; starting without it", path, error)
        del volumes.by_slot[slot]
        volume.close()
