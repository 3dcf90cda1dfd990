"""The directories of a stopped pool, locked and open for looking. Nothing is written here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

from abixio.errors import IdentityDamaged, StartupError, VolumeError
from abixio.store.assembly import survey
from abixio.store.membership import Plan
from abixio.volume import identity, names
from abixio.volume.catalog_check import Examiner
from abixio.volume.files import Files
from abixio.volume.identity import Identity, Look
from abixio.volume.lock import VolumeLock


@dataclass(slots=True)
class Site:
    """One volume."""

    slot: int
    path: str
    identity: Identity
    catalog: Examiner | None = None
    """None when there is no database at all."""
    defects: list[str] = field(default_factory=list)
    """Why the catalog cannot be trusted; empty: it can."""
    filling: int = 0
    """Its note of that name: its silence says nothing."""

    clean: bool = True
    """False when the machine went down under it: shard files that the journal names may be torn."""

    @property
    def sound(self) -> bool:
        """Whether its silence counts as far as the file itself goes."""
        return self.catalog is not None and not self.defects


@dataclass(slots=True)
class Damaged:
    """A directory that holds a volume without a readable volume.json."""

    path: str
    why: str


class Volumes:
    """All of them, by slot, while inside `with`. StartupError when the paths are not those of one stopped pool."""

    def __init__(self, paths: Sequence[str], files: Files) -> None:
        self.files = files
        self.plan = survey(paths, files=files)
        if self.plan.filling:
            # Nothing is given away here: the pool as it is, without its empty directories.
            blank = {found.path for found in self.plan.fresh.values()}
            paths = [path for path in paths if path not in blank]
            self.plan = survey(paths, files=files)
        self.damaged = _damaged(paths, self.plan, files)
        if not self.plan.present:
            raise StartupError(f"{paths[0]}: no directory of --volumes is a volume; there is nothing to check")
        if self.plan.fresh:
            raise StartupError(f"{paths[0]}: belongs to a pool whose making was cut short; start the server to finish it")
        self.sites: dict[int, Site] = {}
        self.unusable: dict[int, str] = {}
        """Slots whose directory is there and cannot be read."""
        self._stack = ExitStack()

    @property
    def n(self) -> int:
        return self.plan.n

    @property
    def missing(self) -> list[int]:
        """Slots that no directory answers for."""
        return [slot for slot in range(self.n) if slot not in self.plan.present]

    def __enter__(self) -> Volumes:
        with ExitStack() as undo:
            for slot, found in sorted(self.plan.present.items()):
                assert found.identity is not None
                try:
                    undo.callback(VolumeLock(self.files, found.path).release)
                    site = self.sites[slot] = Site(slot, found.path, found.identity)
                    self._open(site)
                except VolumeError as error:
                    self.unusable[slot] = str(error)
                if site.catalog is not None:
                    undo.callback(site.catalog.close)
            self._stack = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self, site: Site) -> None:
        path = names.catalog(site.path)
        try:
            if not self.files.exists(path):
                site.defects.append(f"{path}: is missing")
                path = names.aside_catalog(site.path)
                if not self.files.exists(path):
                    return  # otherwise a rebuild was cut short, and this is what it reads
            wal = self.files.exists(f"{path}-wal")
        except OSError as error:
            raise VolumeError(f"{path}: {error.strerror}") from error
        try:
            site.catalog = Examiner(path, wal)
        except VolumeError as error:
            site.defects.append(str(error))

    def reopen(self, site: Site) -> None:
        """After its catalog was moved."""
        if site.catalog is not None:
            site.catalog.close()
        moved = self.sites[site.slot] = Site(site.slot, site.path, site.identity)
        self._open(moved)
        if moved.catalog is not None:
            self._stack.callback(moved.catalog.close)

    def vouching(self, without: Collection[int] = ()) -> list[Site]:
        """Those whose silence is evidence."""
        return [site for site in self.sites.values() if site.sound and not site.filling and site.slot not in without]


def _damaged(paths: Sequence[str], plan: Plan, files: Files) -> list[Damaged]:
    """Directories that the plan leaves out for their volume.json."""
    used = {found.path for found in (*plan.present.values(), *plan.fresh.values())}
    found = []
    for path in paths:
        if path in used:
            continue
        try:
            look = identity.look(files, path)
            if look is Look.FORMATTED:
                identity.read(files, path)
            elif look is Look.FOREIGN:
                found.append(Damaged(path, "its volume.json is gone"))
        except IdentityDamaged as error:
            found.append(Damaged(path, str(error)))
    return found
