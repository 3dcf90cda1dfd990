"""One whole check: identities, catalogs, directories, then everything together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

from abixio.errors import VolumeError
from abixio.fsck.check import check_ages, check_catalog, check_directories
from abixio.fsck.cross import Cross
from abixio.fsck.findings import Finding, Kind, Level, Report
from abixio.fsck.progress import Meter
from abixio.fsck.volumes import Site, Volumes
from abixio.volume.files import Files


def check(paths: Sequence[str], files: Files, meter: Meter) -> Report:
    """Look at everything, change nothing. StartupError when the paths are not those of one stopped pool."""
    with Volumes(paths, files) as volumes:
        return examine(volumes, meter)


def examine(volumes: Volumes, meter: Meter) -> Report:
    """`check` of volumes that are open."""
    report, lock = Report(), Lock()

    def add(finding: Finding) -> None:
        with lock:
            report.add(finding)

    _members(volumes, add)
    boot = volumes.files.boot_id()
    sites = [site for slot, site in volumes.sites.items() if slot not in volumes.unusable]
    with ThreadPoolExecutor(max(1, len(sites)), thread_name_prefix="fsck") as executor:

        def on_each(work: Callable[[Site], None]) -> None:
            list(executor.map(work, sites))

        meter.phase("catalogs", len(sites))
        on_each(lambda site: check_catalog(site, boot, meter, add))
        check_ages(volumes, add)
        report.commits = commits_of(volumes)
        meter.phase("directories", 256 * len(sites))
        on_each(lambda site: check_directories(site, volumes.files, meter, add))
        meter.phase("objects", max((_rows(site) for site in sites), default=0))
        Cross(volumes, report, meter, executor).run()
    return report


def _members(volumes: Volumes, add: Callable[[Finding], None]) -> None:
    for one in volumes.damaged:
        add(Finding(Level.DAMAGE, Kind.IDENTITY, f"{one.path}: {one.why}"))
    for slot in volumes.missing:
        add(Finding(Level.DAMAGE, Kind.VOLUME, f"slot {slot}: none of the directories is its volume", slot))
    for slot, why in volumes.unusable.items():
        add(Finding(Level.DAMAGE, Kind.VOLUME, f"slot {slot}: {why}", slot))


def commits_of(volumes: Volumes) -> dict[int, int]:
    """How many changes each readable catalog has seen."""
    found: dict[int, int] = {}
    for slot, site in volumes.sites.items():
        if site.catalog is not None:
            with suppress(VolumeError):
                found[slot] = site.catalog.notes().get("commits", 0)
    return found


def _rows(site: Site) -> int:
    return site.catalog.size().rows if site.sound and site.catalog is not None else 0
