"""Buckets: records under the root space, keyed by name. A bucket's own space is random per creation, so that deleting and
re-creating a name mixes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from msgspec.structs import replace

from abixio.errors import BucketExists, BucketNotEmpty, NoSuchBucket, Unavailable
from abixio.store.commit import Committer, Draft
from abixio.store.history import History
from abixio.store.lister import Query
from abixio.store.lookup import Found
from abixio.store.pages import Pages
from abixio.store.record import ROOT, Record
from abixio.store.types import Bucket


class Buckets:
    """Creates, finds and deletes buckets."""

    def __init__(self, committer: Committer, pages: Pages, history: History) -> None:
        self._committer = committer
        self._pages = pages
        self._history = history

    async def find(self, name: str) -> Bucket:
        """NoSuchBucket; Unavailable when that cannot be told."""
        found = await self._committer.current(ROOT, name.encode())
        if found is None:
            raise NoSuchBucket(name)
        return bucket_of(found)

    async def all(self) -> list[Bucket]:
        """By name."""
        buckets: list[Bucket] = []
        start = b""
        while True:
            page = await self._pages.get(Query(ROOT, b"", b"", start, 1000))
            buckets += [bucket_of(found) for found in page.found.values()]
            if not page.truncated:
                return buckets
            start = page.last + b"\0"

    async def create(self, name: str, owner: str, settings: Mapping[str, str]) -> Bucket:
        """BucketExists when there is one."""
        own = {**settings, "id": os.urandom(16).hex()}

        def check(found: Found | None) -> None:
            if found is not None:
                raise BucketExists(name)

        def build(seq: int, w: int, found: Found | None) -> Record:
            return Record("bucket", ROOT, name.encode(), seq, w, modified=time.time_ns() // 1_000_000, owner=owner, settings=own)

        record = await self._committer.commit(Draft(ROOT, name.encode(), 0, build, check))
        return bucket_of(Found(record, {}))

    async def change(self, name: str, edit: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Bucket:
        """New settings from the old ones, while nobody writes into the bucket. NoSuchBucket."""

        def check(found: Found | None) -> None:
            settings(found)

        def settings(found: Found | None) -> dict[str, str]:
            if found is None:
                raise NoSuchBucket(name)
            return {**edit(found.record.settings), "id": found.record.settings["id"]}

        def build(seq: int, w: int, found: Found | None) -> Record:
            assert found is not None
            return replace(found.record, seq=seq, w=w, settings=settings(found))

        record = await self._committer.commit(Draft(ROOT, name.encode(), 0, build, check))
        return bucket_of(Found(record, {}))

    async def delete(self, name: str, end: Callable[[Bucket], Awaitable[None]]) -> None:
        """NoSuchBucket, BucketNotEmpty. Nobody can write into the bucket between the look and the delete."""

        def build(seq: int, w: int, found: Found | None) -> Record:
            return Record("tombstone", ROOT, name.encode(), seq, w, modified=time.time_ns() // 1_000_000)

        committer = self._committer
        # Before the lock too: whoever waits for it makes all later writers wait, and a completion may hold it for minutes.
        if not await self._pages.empty((await self.find(name)).space):
            raise BucketNotEmpty(name)
        async with committer.locks.exclusive(ROOT, name.encode()):
            found = await committer.resolve(await committer.view(ROOT, name.encode()))
            if found is None:
                raise NoSuchBucket(name)
            if not await self._history.empty(bucket_of(found).space):
                raise BucketNotEmpty(name)
            await end(bucket_of(found))
            await committer.commit_locked(Draft(ROOT, name.encode(), 0, build, lambda found: None))

    @asynccontextmanager
    async def kept(self, bucket: Bucket) -> AsyncIterator[Bucket]:
        """While inside, the bucket and its settings, which are given, stay as they are. NoSuchBucket when it is gone already, or
        is another of that name."""
        name = bucket.name.encode()
        async with self._committer.locks.shared(ROOT, name):
            found = await self._committer.seen(ROOT, name)
            if found is None or bucket_of(found).space != bucket.space:
                raise NoSuchBucket(bucket.name)
            yield bucket_of(found)


def certain(bucket: Bucket) -> Bucket:
    """Unavailable unless a newer record of the bucket is ruled out."""
    if not bucket.certain:
        raise Unavailable(f"too few volumes answer for the settings of bucket {bucket.name}")
    return bucket


def bucket_of(found: Found) -> Bucket:
    """The bucket that a record describes."""
    record = found.record
    return Bucket(
        record.key.decode(), bytes.fromhex(record.settings["id"]), record.modified, record.owner, record.settings, found.certain
    )
