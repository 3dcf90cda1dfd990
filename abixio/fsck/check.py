"""What one volume shows on its own: its catalog as a file and as tables that must agree, and what lies in its directories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os.path import basename
from typing import Final

from abixio.errors import VolumeError
from abixio.fsck.findings import Finding, Kind, Level
from abixio.fsck.progress import Meter
from abixio.fsck.volumes import Site, Volumes
from abixio.store.assembly import FILLING
from abixio.store.opening import REGRESSED
from abixio.volume import names
from abixio.volume.catalog_check import Examiner, Mend
from abixio.volume.files import Files
from abixio.volume.interface import RowId, State
from abixio.volume.local import BOOT, CLOSED, YES

Add = Callable[[Finding], None]

_HOME_FILES: Final = frozenset(
    basename(path("")) for path in (
        names.identity, names.catalog, names.wal, names.shm, names.credentials, names.keys, names.lock, names.formatting,
        names.tmp,
    )
)


def check_catalog(site: Site, boot: str, meter: Meter, add: Add) -> None:
    """The database as a whole; what is found makes the site unsound. `boot`: the kernel's boot id."""
    catalog = site.catalog
    if catalog is not None:
        refusal = catalog.refusal(site.identity.volume)
        site.defects += [refusal] if refusal else catalog.integrity(lambda: meter.step())
    for defect in site.defects:
        add(Finding(Level.DAMAGE, Kind.CATALOG, f"slot {site.slot}: {defect}", site.slot))
    meter.step(1)
    if not site.sound or catalog is None:
        return
    try:
        site.filling = catalog.notes().get(FILLING, 0)
        meta = catalog.meta()
        site.clean = meta.get(CLOSED, YES) == YES or meta.get(BOOT) == boot
        for finding in (*_use(site, catalog), *_strays(site.slot, catalog), *_numbers(site.slot, catalog)):
            add(finding)
    except VolumeError as error:
        site.defects.append(str(error))
        add(Finding(Level.DAMAGE, Kind.CATALOG, f"slot {site.slot}: {error}", site.slot))


def _use(site: Site, catalog: Examiner) -> Iterator[Finding]:
    """How the volume was left."""
    if site.filling:
        yield Finding(Level.NOTICE, Kind.AGE, f"slot {site.slot}: is being filled: what it lacks is not counted", site.slot)
    if catalog.meta().get(CLOSED, YES) != YES:
        text = f"slot {site.slot}: was not closed in good order; what was under way then is finished at the next start"
        yield Finding(Level.NOTICE, Kind.UNFINISHED, text, site.slot)


def _strays(slot: int, catalog: Examiner) -> Iterator[Finding]:
    """Entries with nothing behind them."""
    for space, key in catalog.stray_heads():
        yield _entry(slot, Kind.HEAD, f"key {key!r} is listed, but there is no such row", Mend("drop_head", (space, key)))
    for ref in catalog.stray_refs():
        yield _entry(slot, Kind.REF, f"shard {ref[0].hex()} is kept for a row that is not there", Mend("drop_ref", ref))
    for id in catalog.stray_journal():
        yield _entry(slot, Kind.JOURNAL, f"the journal names a row of key {id[1]!r} that is not there", Mend("drop_journal", id))
    for number in catalog.stray_inline():
        yield _entry(slot, Kind.INLINE, f"inline shard {number} belongs to no row", Mend("drop_inline", (number,)))
    for write_id in catalog.wrong_garbage():
        text = f"shard {write_id.hex()} is about to be removed, but a row needs it"
        yield _entry(slot, Kind.GARBAGE, text, Mend("keep", (write_id,)))
    for id in catalog.odd_states():
        mends = Mend("state", (State.PENDING, *id)), Mend("journal", id)
        yield _entry(slot, Kind.ROW, f"a row of key {id[1]!r} is in a state that cannot be", *mends, row=RowId(*id))


def _numbers(slot: int, catalog: Examiner) -> Iterator[Finding]:
    """Counters that would give a number twice."""
    notes = catalog.notes()
    for name, least in catalog.greatest().items():
        if notes.get(name, 0) < least:
            yield _entry(slot, Kind.NOTE, f"the counter {name!r} is behind what the catalog holds", Mend("note", (name, least)))
    if "commits" not in notes:
        yield _entry(slot, Kind.NOTE, "the counter 'commits' is gone", Mend("note", ("commits", 0)))


def _entry(slot: int, kind: Kind, text: str, *cures: Mend, row: RowId | None = None) -> Finding:
    return Finding(Level.DAMAGE, kind, f"slot {slot}: {text}", slot, row, cures)


def check_ages(volumes: Volumes, add: Add) -> None:
    """Volumes that are older than their peers remember them. They were put back from a copy, or lost their WAL."""
    notes = {site.slot: site.catalog.notes() for site in volumes.sites.values() if site.sound and site.catalog is not None}
    for slot, own in notes.items():
        known = max((other.get(f"peer{slot}", 0) for other in notes.values()), default=0)
        if own.get("commits", 0) < known and not volumes.sites[slot].filling:
            volumes.sites[slot].filling = REGRESSED
            text = f"slot {slot}: is older than its peers remember (change {own.get('commits', 0)}, they know of {known})"
            add(Finding(Level.DAMAGE, Kind.AGE, text, slot))


# ---- directories -----------------------------------------------------------------------------------------------------
def check_directories(site: Site, files: Files, meter: Meter, add: Add) -> None:
    """Files that nothing names, and what is not ours."""
    try:
        for finding in _home(site, files):
            add(finding)
        for directory in range(256):
            for finding in _shards(site, files, directory):
                add(finding)
            meter.step(1)
    except OSError as error:
        add(Finding(Level.DAMAGE, Kind.VOLUME, f"slot {site.slot}: {error.filename}: {error.strerror}", site.slot))
    except VolumeError as error:
        add(Finding(Level.DAMAGE, Kind.CATALOG, f"slot {site.slot}: {error}", site.slot))


def _home(site: Site, files: Files) -> Iterator[Finding]:
    home = names.home(site.path)
    for name in sorted(set(files.names(home)) - _HOME_FILES):
        if not names.is_set_aside(name):
            yield Finding(Level.NOTICE, Kind.FOREIGN, f"{home}/{name}: is not ours; left alone", site.slot)
    if not files.exists(names.tmp(site.path)):
        yield Finding(Level.DAMAGE, Kind.VOLUME, f"{names.tmp(site.path)}: the directory is missing", site.slot)
    elif left := files.names(names.tmp(site.path)):
        text = f"slot {site.slot}: {len(left)} unfinished files in {names.tmp(site.path)}; the next start removes them"
        yield Finding(Level.NOTICE, Kind.UNFINISHED, text, site.slot)


def _shards(site: Site, files: Files, directory: int) -> Iterator[Finding]:
    path = names.shard_files(site.path, directory)
    if not files.exists(path):
        yield Finding(Level.DAMAGE, Kind.VOLUME, f"{path}: the directory is missing; shards cannot be written", site.slot)
        return
    catalog = site.catalog if site.sound else None
    for name in files.names(path):
        write_id = names.write_id(name, directory)
        if write_id is None:
            yield Finding(Level.NOTICE, Kind.FOREIGN, f"{path}/{name}: is not ours; left alone", site.slot)
        elif catalog is not None and not catalog.named(write_id):
            if catalog.garbage(write_id):
                yield Finding(Level.NOTICE, Kind.UNFINISHED, f"{path}/{name}: is removed at the next start", site.slot)
            elif site.filling:
                yield Finding(Level.NOTICE, Kind.ORPHAN, f"{path}/{name}: no row names it yet", site.slot)
            else:
                yield Finding(Level.DAMAGE, Kind.ORPHAN, f"{path}/{name}: no row names it", site.slot)
