"""The documents that are kept with a bucket: CORS rules, tags, lifecycle. Records in a space of the bucket, keyed by the name of
the sub-resource, so that a long one costs nobody who does not ask for it."""

from __future__ import annotations

import time
from typing import Final

from blake3 import blake3

from abixio.store.bucketstore import Buckets, certain
from abixio.store.commit import Committer, Draft
from abixio.store.lister import Query
from abixio.store.lookup import Found
from abixio.store.pages import Pages
from abixio.store.record import Record
from abixio.store.types import Bucket

_BODY: Final = "body"


def configs_space(bucket: Bucket) -> bytes:
    """Where the documents of a bucket are."""
    return blake3(bucket.space + b"configs").digest(length=16)


class Configs:
    """Keeps documents by name."""

    def __init__(self, committer: Committer, buckets: Buckets, pages: Pages) -> None:
        self._committer = committer
        self._buckets = buckets
        self._pages = pages

    async def get(self, bucket: Bucket, name: str) -> str | None:
        """The document, or None."""
        found = await self._committer.current(configs_space(bucket), name.encode())
        return None if found is None else found.record.settings[_BODY]

    async def all(self, bucket: Bucket, prefix: str) -> dict[str, str]:
        """The documents whose names begin so, by name."""
        found: dict[str, str] = {}
        start = b""
        while True:
            page = await self._pages.get(Query(configs_space(bucket), prefix.encode(), b"", start, 1000))
            found |= {key.decode(): each.record.settings[_BODY] for key, each in page.found.items()}
            if not page.truncated:
                return found
            start = page.last + b"\0"

    async def set(self, bucket: Bucket, name: str, body: str | None) -> None:
        """Keep a document, or with None forget it."""
        space, key = configs_space(certain(bucket)), name.encode()

        def build(seq: int, w: int, found: Found | None) -> Record:
            now = time.time_ns() // 1_000_000
            if body is None:
                return Record("tombstone", space, key, seq, w, modified=now)
            return Record("setting", space, key, seq, w, modified=now, settings={_BODY: body})

        async with self._buckets.kept(bucket):
            if body is not None or await self._committer.current(space, key) is not None:
                await self._committer.commit(Draft(space, key, 0, build, lambda found: None))

    async def forget_all(self, bucket: Bucket) -> None:
        """Of a bucket that is about to go; its lock is held."""
        space = configs_space(bucket)
        for name in await self.all(bucket, ""):
            key = name.encode()

            def build(seq: int, w: int, found: Found | None, key: bytes = key) -> Record:
                return Record("tombstone", space, key, seq, w, modified=time.time_ns() // 1_000_000)

            await self._committer.commit(Draft(space, key, 0, build, lambda found: None))
