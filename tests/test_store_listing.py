"""LIST through the whole store, against a plain account of what S3 shows: settled or not, volumes behind or away."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from abixio.store import lister
from abixio.store.store import Store
from abixio.store.types import Bucket
from tests.store_local import Disks, put, rest

ALPHABET = ["a", "b", "/", "//", "é", "😀", "z", "\x01", "~", " ", "+", "%"]


def some_keys(rng: random.Random, count: int) -> list[str]:
    keys = {"".join(rng.choices(ALPHABET, k=rng.randrange(1, 7))) for _ in range(count)}
    return sorted(keys, key=str.encode)


def expected(keys: list[str], prefix: str, delimiter: str, after: str) -> list[tuple[str, bool]]:
    """Everything behind `after`: (key or common prefix, whether it is a prefix)."""
    shown: list[tuple[str, bool]] = []
    cut = after.find(delimiter, len(prefix)) if delimiter and after.startswith(prefix) else -1
    covered = after if cut >= 0 and cut + len(delimiter) == len(after) else None
    for key in keys:
        if not key.startswith(prefix) or key.encode() <= after.encode() or (covered and key.startswith(covered)):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = (key, False) if at < 0 else (key[: at + len(delimiter)], True)
        if not shown or shown[-1] != entry:
            shown.append(entry)
    return shown


async def every_page(store: Store, bucket: Bucket, prefix: str, delimiter: str, after: str, limit: int) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for _ in range(1000):
        page = await store.list(bucket, prefix, delimiter, after, limit)
        entries = [(item.key, False) for item in page.items] + [(p, True) for p in page.prefixes]
        assert len(entries) <= limit
        assert entries or not page.truncated
        found += sorted(entries, key=lambda entry: entry[0].encode())
        if not page.truncated:
            return found
        assert page.next is not None
        after = page.next
    raise AssertionError("the pages do not end")


async def check(store: Store, bucket: Bucket, keys: list[str], rng: random.Random, queries: int) -> None:
    for _ in range(queries):
        prefix = rng.choice(["", "", "a", "a/", "/", "é", "b", "zz"])
        delimiter = rng.choice(["", "/", "/", "//", "a", "😀"])
        after = rng.choice(["", "", rng.choice(keys or ["k"]), "a/", "b", rng.choice(keys or ["k"])[:2]])
        limit = rng.choice([1, 2, 3, 7, 1000])
        found = await every_page(store, bucket, prefix, delimiter, after, limit)
        assert found == expected(keys, prefix, delimiter, after), (prefix, delimiter, after, limit)


@pytest.mark.parametrize("batch", [1000, 5])
async def test_pages_show_what_is_there_settled_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(lister, "BATCH", batch)
    monkeypatch.setattr(lister, "LEAST", min(batch, lister.LEAST))
    rng = random.Random(batch)
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        keys = some_keys(rng, 250)
        await asyncio.gather(*(put(store, bucket, key, b"x") for key in keys))
        await check(store, bucket, keys, rng, 40)
        await rest(store)
        await check(store, bucket, keys, rng, 40)
        gone = set(rng.sample(keys, 60))
        await asyncio.gather(*(store.delete(bucket, key) for key in gone))
        keys = [key for key in keys if key not in gone]
        await check(store, bucket, keys, rng, 40)
    async with disks.store(missing=(0,)) as store:
        late = some_keys(rng, 40)
        await asyncio.gather(*(put(store, bucket, key, b"y") for key in late))
        dead = set(rng.sample(keys, 30)) - set(late)
        await asyncio.gather(*(store.delete(bucket, key) for key in dead))
        keys = sorted((set(keys) | set(late)) - dead, key=str.encode)
        await check(store, bucket, keys, rng, 40)
    async with disks.store() as store:
        await check(store, bucket, keys, rng, 40)
        await rest(store)
        await check(store, bucket, keys, rng, 20)


async def test_keys_written_before_a_walk_through_the_pages_come_exactly_once_under_writes(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        keys = [f"k{n:04}" for n in range(500)]
        await asyncio.gather(*(put(store, bucket, key, b"x") for key in keys))
        ended = asyncio.Event()

        async def write() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                await put(store, bucket, f"k{number * 7 % 500:04}", b"again")
                await put(store, bucket, f"k{number * 7 % 500:04}x{number}", b"more")

        writers = [asyncio.create_task(write()) for _ in range(3)]
        for _ in range(3):
            found = [key for key, _ in await every_page(store, bucket, "", "", "", 70) if "x" not in key]
            assert found == keys
        ended.set()
        await asyncio.gather(*writers)


async def test_a_page_of_common_prefixes_reads_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Disks(tmp_path, 1).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        await asyncio.gather(*(put(store, bucket, f"{a}/{b:03}", b"") for a in "abcdefghij" for b in range(60)))
        await rest(store)
        rows = 0
        scan = lister.Lister._scan

        def counting(self: lister.Lister, *args: object) -> object:
            nonlocal rows
            found = scan(self, *args)  # type: ignore[arg-type]
            rows += len(found)
            return found

        monkeypatch.setattr(lister.Lister, "_scan", counting)
        page = await store.list(bucket, "", "/", "", 5)
        assert page.prefixes == ["a/", "b/", "c/", "d/", "e/"]
        assert rows <= 2 * 6
