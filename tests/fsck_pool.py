"""Pools for the tests of fsck: made as the server makes them, filled through the store, damaged by hand while stopped."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import apsw

from abixio.fsck.findings import Finding, Level, Report
from abixio.fsck.progress import Silent
from abixio.fsck.run import check
from abixio.store.assembly import carry_out, survey
from abixio.store.store import Store
from abixio.store.types import PartRef, PutSpec
from abixio.volume.files import Files
from abixio.volume.local import LocalVolume
from tests.store_local import Disks, get, put, rest
from tests.store_rig import BytesSource, noise
from tests.volume_fixtures import Unsynced

SMALL, LARGE, PART = 3_000, 1_200_000, 5 << 20
CONTENT: Mapping[str, bytes] = {
    "small": noise(SMALL), "empty": b"", "dir/b": noise(40, 3), "large": noise(LARGE, 7), "large two": noise(LARGE, 99),
    "many": noise(PART, 11) + noise(70_000, 13),
}
"""What `fill` leaves, by key. Shards in catalogs and files, and one object of two parts."""
FEW: Mapping[str, bytes] = {key: data for key, data in CONTENT.items() if key != "many"}
"""For tests that copy a pool again and again."""


class Pool(Disks):
    """Directories of a pool with volume.json files that belong together."""

    def __init__(self, root: Path, n: int) -> None:
        self._name(root, n)
        for slot in range(n):
            (root / f"v{slot}").mkdir(parents=True)
        carry_out(survey(self.paths), Unsynced()).close()

    def _name(self, root: Path, n: int) -> None:
        self.root, self.n = root, n
        self.missing: set[int] = set()
        self.filling: set[int] = set()
        self.clean = True
        self.content = dict(CONTENT)

    @classmethod
    def named(cls, root: Path, n: int) -> Pool:
        """Those directories, as they are."""
        pool = cls.__new__(cls)
        pool._name(root, n)
        return pool

    def at(self, root: Path) -> Pool:
        """The same pool in a copy of its directories."""
        pool = Pool.named(root, self.n)
        pool.content = dict(self.content)
        return pool

    def copy(self, root: Path) -> Pool:
        """A pool of its own with the same content."""
        return self.at(shutil.copytree(self.root, root))

    @property
    def paths(self) -> list[str]:
        return [str(self.root / f"v{slot}") for slot in range(self.n)]

    def volumes(self) -> dict[int, LocalVolume]:
        return {slot: LocalVolume.open(self.paths[slot], Unsynced()) for slot in range(self.n) if slot not in self.missing}

    def path(self, slot: int) -> Path:
        return self.root / f"v{slot}"

    def catalog(self, slot: int) -> Path:
        return self.path(slot) / ".abixio" / "catalog.db"

    def shards(self, slot: int) -> list[Path]:
        return sorted((self.path(slot) / "shards").glob("*/*"))

    def sql(self, slot: int, text: str, *values: Any) -> list[Any]:
        """Run it on that catalog."""
        connection = apsw.Connection(str(self.catalog(slot)))
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        try:
            return connection.execute(text, values).fetchall()
        finally:
            connection.close()

    def check(self, without: Collection[int] = ()) -> Report:
        return check([path for slot, path in enumerate(self.paths) if slot not in without], Files(), Silent())

    def print(self) -> dict[str, tuple[int, str]]:
        """Of every file: when it was changed, and what is in it."""
        found = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder) / name
                found[str(path)] = path.stat().st_mtime_ns, hashlib.md5(path.read_bytes()).hexdigest()
        return found


async def fill(store: Store, ftt: int | None, content: Mapping[str, bytes]) -> None:
    """Objects of every sort, all but one of them overwritten, and some that are deleted again."""
    bucket = await store.create_bucket("photos", "me", {})
    for key in content.keys() - {"many"}:
        await put(store, bucket, key, noise(5_000, 21), ftt)
        await put(store, bucket, key, content[key], ftt)
    if "many" in content:
        upload = await store.create_upload(bucket, "many", PutSpec("me", ftt=None if ftt is None else str(ftt)))
        refs = []
        for number, data in ((1, content["many"][:PART]), (2, content["many"][PART:])):
            part = await store.put_part(bucket, "many", upload.id, number, BytesSource(data))
            refs.append(PartRef(number, part.etag, {}))
        await store.complete_upload(bucket, "many", upload.id, refs)
    for key, data in (("gone", noise(SMALL)), ("gone large", noise(LARGE))):
        await put(store, bucket, key, data, ftt)
        await store.delete(bucket, key)
    await rest(store)


async def filled(root: Path, n: int, ftt: int | None = None, content: Mapping[str, bytes] = CONTENT) -> Pool:
    """A pool with all of that, stopped in good order."""
    pool = Pool(root, n)
    pool.content = dict(content)
    async with pool.store() as store:
        await fill(store, ftt, content)
    return pool


async def reads_all(pool: Pool, without: Collection[int] = (), expected: Mapping[str, bytes] | None = None) -> None:
    """Exactly that is there, byte for byte, also without those volumes."""
    async with pool.store(missing=without) as store:
        bucket = await store.bucket("photos")
        expected = pool.content if expected is None else expected
        for key, data in expected.items():
            assert await get(store, bucket, key) == data, key
        listed = await store.list(bucket, "", "", "", 1000)
        assert sorted(item.key for item in listed.items) == sorted(expected)


def found(report: Report, level: Level = Level.DAMAGE) -> list[str]:
    """Kinds of the findings of that level, in words that a test can compare."""
    return sorted(f"{one.kind}" for one in report.findings if one.level is level)


def texts(report: Report) -> str:
    return "\n".join(f"{one.level}: {one.text}" for one in report.findings)


def only(report: Report, kind: str) -> Finding:
    (finding,) = (one for one in report.findings if one.kind == kind and one.level is not Level.NOTICE)
    return finding


def name(damage: object) -> str:
    """Of a damage, for the name of its test."""
    return getattr(damage, "__name__", str(damage))
