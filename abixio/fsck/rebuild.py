"""A new catalog for a volume that lost its own. Its rows come from its peers; from what the damaged one still shows; and
where too few catalogs are left to know what was deleted, and the operator accepts that, from the footers of shard files.

With R peers or more the peers decide alone: what they do not know was deleted, and neither the old catalog nor a footer
brings it back. The volume is marked as filling, so that its silence says nothing before a server has compared it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack

from abixio.errors import StartupError, VolumeError
from abixio.fsck.footers import Footers, Spaces
from abixio.fsck.keys import Key
from abixio.fsck.outcome import Rebuilt
from abixio.fsck.progress import Meter
from abixio.fsck.target import Inline, Target, move_aside
from abixio.fsck.volumes import Site, Volumes
from abixio.fsck.walk import Shown, from_ruins, in_order, is_sound
from abixio.store.assembly import FILLING
from abixio.store.opening import REGRESSED
from abixio.store.pool import Quorum
from abixio.store.resolve import DATA_KINDS, Fate, Version, View
from abixio.store.versions import FLEETING, hides
from abixio.volume import names
from abixio.volume.files import volume_error
from abixio.volume.interface import State


def rebuild(volumes: Volumes, slots: Collection[int], without_peers: bool, meter: Meter) -> Rebuilt:
    """Replace the catalogs of those slots, whose sites have been checked. Nothing is changed before all new ones are whole.
    StartupError when too few peers are left and that was not accepted."""
    least = Quorum(volumes.n).r
    peers = len(volumes.vouching(without=slots))
    if peers < least and not without_peers:
        raise StartupError(_refusal(volumes, peers, least))
    for slot in slots:
        _finish_move(volumes, volumes.sites[slot])
    result = Rebuilt(sorted(slots))
    with ExitStack() as undo:
        targets = []
        for slot in sorted(slots):
            targets.append(Target(volumes.sites[slot], volumes.files))
            undo.callback(targets[-1].abandon)
        work = _Rebuild(volumes, targets, result, meter)
        work.notes(filling=peers >= least)
        if peers >= least:
            work.from_peers()
        else:
            work.from_everything()
        for target in targets:
            kept = target.install()
            result.kept += [kept] if kept else []
    return result


def _refusal(volumes: Volumes, peers: int, least: int) -> str:
    path = volumes.plan.present[min(volumes.plan.present)].path
    away = ", ".join(map(str, volumes.missing))
    missing = f" Slot {away} is not among --volumes: name its directory if it exists." if away else ""
    return (
        f"{path}: {peers} other catalogs are sound, {least} are needed to know what was deleted.{missing} "
        "With --without-peers the rest is put together from damaged catalogs and shard files: deleted objects may return, and "
        "small ones that no catalog shows stay lost"
    )


def _finish_move(volumes: Volumes, site: Site) -> None:
    """A rebuild that was cut short may have left the old WAL behind."""
    try:
        if volumes.files.exists(names.aside_catalog(site.path)) and not volumes.files.exists(names.catalog(site.path)):
            move_aside(volumes.files, site.path)
            volumes.reopen(site)
    except OSError as error:
        raise volume_error(error, site.path) from error


class _Rebuild:
    """The work on all targets at once."""

    def __init__(self, volumes: Volumes, targets: Sequence[Target], result: Rebuilt, meter: Meter) -> None:
        self._volumes = volumes
        self._targets = targets
        self._result = result
        self._meter = meter
        self._slots = frozenset(target.slot for target in targets)
        self._spaces = Spaces({}, set())

    def notes(self, filling: bool) -> None:
        """The counters go on where the old catalog's may have ended, or the volume would pass for a restored snapshot."""
        peers = [site.catalog.notes() for site in self._volumes.sites.values() if site.sound and site.catalog is not None]
        for target in self._targets:
            commits = max((notes.get(f"peer{target.slot}", 0) for notes in peers), default=0) + 1
            target.note(commits=commits, seq=max((notes.get("seq", 0) for notes in peers), default=0))
            if filling:
                target.note(**{FILLING: 1})

    # ---- from peers --------------------------------------------------------------------------------------------------
    def from_peers(self) -> None:
        """Enough of them: what they hold as committed, and nothing else."""
        self._meter.phase("rows from peers", None)
        sites = [site for site in self._volumes.sites.values() if site.slot not in self._slots and site.sound]
        filling = frozenset(site.slot for site in sites if site.filling) | self._slots
        regressed = frozenset(site.slot for site in sites if site.filling == REGRESSED)
        for space, key, shown in in_order(sites, _failed):
            rows = {site.slot: [row for row in shown.get(site.slot, []) if is_sound(row)] for site in sites}
            own = Key(space, key, "", rows, filling, regressed, self._volumes.n)
            for version, fate in reversed(own.fates):  # the newest last: what LIST shows is the last word on a key
                if version in own.living:
                    self._take(version)
                    self._result.from_peers += 1
                elif fate is Fate.OPEN:
                    self._unfinished(version)
            self._meter.step(1)

    def _unfinished(self, version: Version) -> None:
        """A write that may have been answered, and that the peers alone can neither complete nor take back. Where the old
        catalog shows it, or a whole shard file of a volume that was addressed, that copy counts, as the pending one it was."""
        copies = version.copies.values()
        in_files = version.record.kind in DATA_KINDS and all(row.inline is None for row in copies)
        for target in self._targets:
            own = target.old_row(version.id)
            shard: bytes | bool = own is not None
            if in_files:
                # (Of a rename its files are none: they were there before, and its other row would lack such a copy.)
                addressed = own is not None or (not version.record.pair and any(row.to >> target.slot & 1 for row in copies))
                shard = addressed and target.shard(version.record, None)
            elif version.record.kind in DATA_KINDS:
                shard = own is not None and target.shard(version.record, {})
            if shard is not False:
                target.take(version.id, version.stored, shard, self._everybody, state=State.PENDING)

    def _take(self, version: Version) -> None:
        """Put a version on every target that has its shards, or had it."""
        record, others = version.record, self._inline(version)
        self._spaces.take(record)
        shards: dict[int, bytes | bool] = {}
        for target in self._targets:
            shard = target.shard(record, others)
            self._result.left += shard is False
            # Where its own old catalog shows the row, the row comes back without its shard: too little is better than to take
            # an older version for the newest.
            if shard is not False or target.slot in version.copies:
                shards[target.slot] = shard
        everywhere = all(
            slot in shards or (slot in version.copies and version.copies[slot].state is State.COMMITTED)
            for slot in range(self._volumes.n)
        )
        settled = everywhere and record.kind not in FLEETING
        for target in self._targets:
            if target.slot in shards:
                target.take(version.id, version.stored, shards[target.slot], self._everybody, settled)

    @property
    def _everybody(self) -> int:
        return (1 << self._volumes.n) - 1

    def _inline(self, version: Version) -> Inline | None:
        """The inline shards of all volumes that show the version; None when it has files."""
        if version.record.kind not in DATA_KINDS or all(row.inline is None for row in version.copies.values()):
            return None
        found: dict[int, bytes] = {}
        for slot, row in version.present.items():
            catalog = self._volumes.sites[slot].catalog
            try:
                stored = catalog.inline(row.inline) if catalog is not None and row.inline is not None else None
            except VolumeError:
                stored = None  # a shard fewer
            if stored is not None:
                found[slot] = stored
        return found

    # ---- from whatever there is --------------------------------------------------------------------------------------
    def from_everything(self) -> None:
        """Too few peers: their rows, those that damaged catalogs still show, and what no catalog knows from footers."""
        self._meter.phase("rows from what is left of the catalogs", None)
        for shown in from_ruins(self._volumes.sites.values()):
            self._decide(shown)
            self._meter.step(1)
        Footers(self._volumes, self._targets, self._result, self._spaces, self._meter).run()

    def _decide(self, shown: Shown) -> None:
        """What the rule cannot tell for lack of volumes is taken for committed: that loses nothing that was answered."""
        vouching = {site.slot for site in self._volumes.vouching()}
        view = View(self._volumes.n, shown.rows, frozenset(range(self._volumes.n)) - vouching)
        taken: list[Version] = []
        for version in view.versions:
            row = next(iter(version.copies.values()))
            hidden = any(hides(newer.record, row) for newer in taken)
            if version.present and not hidden and view.judge(version) in _MAY_BE:
                taken.append(version)
        for version in reversed(taken):
            self._take(version)
            if self._slots.issuperset(version.present):
                self._result.from_old += 1
            else:
                self._result.from_peers += 1


_MAY_BE = frozenset((Fate.COMMITTED, Fate.FINISH, Fate.OPEN))


def _failed(site: Site, error: VolumeError) -> None:
    """Half of what a peer knows is not enough to rebuild from."""
    raise error
