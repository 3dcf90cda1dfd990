"""The store: buckets, objects and uploads over one pool. The facade that `abixio.store.api.StoreAPI` describes."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from abixio.errors import AbixioError
from abixio.store.append import Appender
from abixio.store.bucketstore import Buckets, certain
from abixio.store.bytelocks import ByteLocks
from abixio.store.clock import Clock
from abixio.store.commit import Committer
from abixio.store.completion import Completion
from abixio.store.configs import Configs
from abixio.store.crew import Topic
from abixio.store.discard import Discarder
from abixio.store.glance import Glances
from abixio.store.heal import Healer
from abixio.store.health import Discarded, Healed, KeyHealth, RepairStatus, ScanStatus
from abixio.store.history import History
from abixio.store.instant import Instant
from abixio.store.journal import Journal
from abixio.store.lifecycle import Lifecycle
from abixio.store.lifecycle_rules import CONFIG, SETTING
from abixio.store.lister import Query, successor
from abixio.store.locks import KeyLocks
from abixio.store.mend import Mender
from abixio.store.multipart import Uploads
from abixio.store.news import News
from abixio.store.objects import Objects
from abixio.store.opening import adopt, mark_regressed, newest_seq, verify_unclean
from abixio.store.pages import Pages
from abixio.store.pool import Pool
from abixio.store.record import Record, version_id
from abixio.store.reencode import Reencoder
from abixio.store.refill import Refill
from abixio.store.rename import Renamer
from abixio.store.repairs import Repairs
from abixio.store.scanner import Scanner
from abixio.store.settle import Settler
from abixio.store.status import volume_status
from abixio.store.types import (
    AtHand,
    Bucket,
    Condition,
    Deleted,
    Listing,
    Move,
    ObjectInfo,
    PartInfo,
    PartRef,
    PutSpec,
    Reader,
    Says,
    Seal,
    Source,
    Unlock,
    Upload,
    UploadListing,
    VersionListing,
    always,
    info_of,
    no_key,
)
from abixio.store.versions import which

T = TypeVar("T")


class Store:
    """Opened with `await Store.start(pool)`, closed with `aclose`, which closes the pool too."""

    def __init__(self, pool: Pool, newest_seq: int) -> None:
        self.pool = pool
        self.n = pool.n
        self.settler = Settler(pool)
        elsewhere = None if pool.crew is None else ByteLocks(pool.crew, b"key")
        self.committer = Committer(pool, KeyLocks(elsewhere), Clock(newest_seq, pool.crew), self.settler)
        self.mender = Mender(self.committer, self.settler)
        self.healer = Healer(self.mender)
        self._discarder = Discarder(self.mender)
        self.journal = Journal(self.mender)
        self.repairs = Repairs(self.healer, pool)
        self.refill = Refill(self.mender)
        self.scanner = Scanner(self.committer, self.healer, pool.config.scan_rate)
        self._pages = Pages(self.committer)
        self._history = History(self.committer)
        self._buckets = Buckets(self.committer, self._pages, self._history)
        self._objects = Objects(self.committer, self._buckets)
        self._glances = Glances(self.committer)
        self._instant = Instant(self.committer, self._objects, self._glances.bucket)
        self._appender = Appender(self.committer, self._buckets, self._objects)
        self._renamer = Renamer(self.committer, self._buckets, self._objects)
        self._uploads = Uploads(self.committer, self._buckets, self._objects, self._pages)
        self._configs = Configs(self.committer, self._buckets, self._pages)
        self._completion = Completion(self.committer, self._buckets, self._objects, self._pages)
        self.lifecycle = Lifecycle(self.committer, self._buckets, self._configs, self._objects, self._completion)
        self._reencoder = Reencoder(self.committer, self._buckets, self._objects)
        self.notice: Callable[[bytes, bytes], None] = self.lifecycle.notice
        """Told of keys of which a client deleted a version; where another process carries out the rules, it is."""
        self._news = None if pool.crew is None else News(pool, pool.crew, self.lifecycle.wake)

    @classmethod
    async def start(cls, pool: Pool) -> Store:
        """Check what a crash or a restored snapshot may have done to the volumes, then serve; repair goes on meanwhile. Of
        several processes the first one checks, and the runner does what is to be done once for all."""
        if pool.joins:
            await adopt(pool)
        else:
            await mark_regressed(pool)
            await verify_unclean(pool)
        store = cls(pool, await newest_seq(pool))
        store.settler.start()
        store.repairs.start()
        if store._news is not None:
            store._news.start()
        if pool.crew is None or pool.crew.runner:
            store.journal.start()
            store.refill.start()
            store.scanner.start()
            store.lifecycle.start()
        return store

    async def aclose(self) -> None:
        """Finish the commits under way, settle what they left, close the volumes."""
        await self._instant.drain()
        await self._objects.drain()
        if self._news is not None:
            await self._news.stop()
        await self.lifecycle.stop()
        await self.scanner.stop()
        await self.refill.stop()
        await self.repairs.stop()
        await self.journal.stop()
        await self.settler.stop()
        await self.pool.close()

    # ---- buckets -----------------------------------------------------------------------------------------------------
    async def create_bucket(self, name: str, owner: str, settings: Mapping[str, str]) -> Bucket:
        return await self._objects.sheltered(self._buckets.create(name, owner, settings))

    async def bucket(self, name: str) -> Bucket:
        return await self._buckets.find(name)

    async def buckets(self) -> list[Bucket]:
        return await self._buckets.all()

    async def change_bucket(self, name: str, edit: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Bucket:
        return await self._objects.sheltered(self._buckets.change(name, edit))

    async def delete_bucket(self, name: str) -> None:
        await self._objects.sheltered(self._buckets.delete(name, self._forget))

    async def config(self, bucket: Bucket, name: str) -> str | None:
        return await self._configs.get(bucket, name)

    async def configs(self, bucket: Bucket, prefix: str) -> dict[str, str]:
        return await self._configs.all(bucket, prefix)

    async def set_config(self, bucket: Bucket, name: str, body: str | None) -> None:
        await self._objects.sheltered(self._configs.set(bucket, name, body))
        if name == CONFIG:
            self.lifecycle.wake()
            if self.pool.crew is not None:
                self.pool.crew.tell(Topic.RULES)

    async def _forget(self, bucket: Bucket) -> None:
        await self._completion.abort_all(bucket)
        await self._configs.forget_all(bucket)

    # ---- objects -----------------------------------------------------------------------------------------------------
    def at_hand(self, bucket: str, key: str, data: bool) -> AtHand | None:
        return self._glances.look(bucket, key, data)

    def bucket_at_hand(self, name: str) -> Bucket | None:
        return self._glances.bucket(name)

    def put_at_once(
        self, bucket: Bucket, key: str, spec: PutSpec, source: Source, data: bytes, says: Says[ObjectInfo, T]
    ) -> Future[T] | None:
        return self._instant.put(bucket, key, spec, source, data, says)

    def delete_at_once(
        self, bucket: Bucket, key: str, condition: Condition, bypass: bool, says: Says[Deleted | None, T]
    ) -> Future[T] | None:
        return self._instant.delete(bucket, key, condition, bypass, says)

    async def put(self, bucket: Bucket, key: str, spec: PutSpec, source: Source) -> ObjectInfo:
        return await self._objects.put(bucket, key, spec, source)

    async def append(self, bucket: Bucket, key: str, spec: PutSpec, offset: int, source: Source) -> ObjectInfo:
        return await self._appender.append(bucket, key, spec, offset, source)

    async def rename(self, bucket: Bucket, key: str, move: Move) -> ObjectInfo:
        return await self._renamer.rename(bucket, key, move)

    async def head(self, bucket: Bucket, key: str, version: str | None = None) -> ObjectInfo:
        return await self._objects.head(bucket, key, version)

    async def open(self, bucket: Bucket, key: str, version: str | None = None, unlock: Unlock = no_key) -> Reader:
        return await self._objects.open(bucket, key, version, unlock)

    async def delete(
        self, bucket: Bucket, key: str, condition: Condition = always, version: str | None = None, bypass: bool = False
    ) -> Deleted | None:
        deleted = await self._objects.delete(bucket, key, condition, version, bypass)
        if version is not None and SETTING in bucket.settings:
            self.notice(bucket.space, key.encode())
        return deleted

    async def amend(self, bucket: Bucket, key: str, version: str | None, edit: Callable[[Record], Record]) -> ObjectInfo:
        return await self._objects.amend(bucket, key, version, edit)

    async def versions(
        self, bucket: Bucket, prefix: str, delimiter: str, after: tuple[str, str | None], limit: int
    ) -> VersionListing:
        key, version = after
        behind = None if version is None else which(certain(bucket).space, version)
        start = after_marker(prefix, delimiter, key) if version is None else key.encode()
        query = Query(certain(bucket).space, prefix.encode(), delimiter.encode(), start, limit)
        page = await self._history.page(query, behind)
        last = page.last.decode()
        ends_in_key = bool(page.versions) and page.versions[-1][0].key == page.last
        following = (last, version_id(page.versions[-1][0]) if ends_in_key else None) if page.truncated else None
        found = [(info_of(record), latest) for record, latest in page.versions]
        return VersionListing(found, [p.decode() for p in page.prefixes], page.truncated, following)

    async def list(
        self, bucket: Bucket, prefix: str, delimiter: str, after: str, limit: int, inclusive: bool = False
    ) -> Listing:
        start = after_marker(prefix, delimiter, after, inclusive)
        page = await self._pages.get(Query(certain(bucket).space, prefix.encode(), delimiter.encode(), start, limit))
        items = [info_of(found.record) for found in page.found.values()]
        return Listing(items, [p.decode() for p in page.prefixes], page.truncated, page.last.decode() if page.truncated else None)

    # ---- multipart uploads -------------------------------------------------------------------------------------------
    async def create_upload(self, bucket: Bucket, key: str, spec: PutSpec) -> Upload:
        return await self._uploads.create(bucket, key, spec)

    async def upload(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        return await self._uploads.find(bucket, key, upload_id)

    async def put_part(
        self, bucket: Bucket, key: str, upload_id: str, number: int, source: Source, real_md5: bool = False,
        seal: Seal | None = None,
    ) -> PartInfo:
        return await self._uploads.put_part(bucket, key, upload_id, number, source, real_md5, seal)

    async def parts(self, bucket: Bucket, key: str, upload_id: str, after: int, limit: int) -> tuple[Sequence[PartInfo], bool]:
        return await self._uploads.parts(bucket, key, upload_id, after, limit)

    async def uploads(self, bucket: Bucket, prefix: str, delimiter: str, after: tuple[str, str], limit: int) -> UploadListing:
        return await self._uploads.page(bucket, prefix, delimiter, after, limit)

    async def complete_upload(
        self, bucket: Bucket, key: str, upload_id: str, parts: Sequence[PartRef], condition: Condition = always,
        checksums: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        return await self._completion.complete(bucket, key, upload_id, parts, condition, checksums)

    async def abort_upload(self, bucket: Bucket, key: str, upload_id: str) -> None:
        await self._completion.abort(bucket, key, upload_id)

    # ---- repair ------------------------------------------------------------------------------------------------------
    async def inspect(self, bucket: Bucket, key: str, deep: bool = True) -> Sequence[KeyHealth]:
        return await self.healer.inspect(bucket, key, deep)

    async def heal(self, bucket: Bucket, key: str) -> Healed:
        return await self.healer.heal(bucket, key)

    async def reencode(self, bucket: Bucket, key: str, ftt: str) -> ObjectInfo:
        return await self._reencoder.reencode(bucket, key, ftt)

    async def discard(self, bucket: Bucket, key: str) -> Sequence[Discarded]:
        discarded = await self._objects.sheltered(self._discarder.discard(bucket, key))
        self.journal.undecided.pop((bucket.space, key.encode()), None)
        return discarded

    async def scan_now(self) -> ScanStatus:
        """A whole pass of the scanner at once; what it found and repaired."""
        return await self.scanner.scan_now()

    async def repair_status(self) -> RepairStatus:
        volumes = [await volume_status(self.pool, slot, self.refill.why(slot)) for slot in range(self.n)]
        return RepairStatus(
            volumes, self.refill.status(), self.scanner.status(), len(self.pool.bad), self.journal.waiting,
            self.lifecycle.status(), await self._undecided(),
        )

    async def _undecided(self) -> Sequence[tuple[str, str]]:
        """What waits for an operator, by the names that clients know."""
        if not self.journal.undecided:
            return []
        with suppress(AbixioError):  # then their spaces have to do
            names = {bucket.space: bucket.name for bucket in await self.buckets()}
            return [(names.get(s, s.hex()), key.decode(errors="replace")) for s, key in self.journal.undecided]
        return [(space.hex(), key.decode(errors="replace")) for space, key in self.journal.undecided]


def after_marker(prefix: str, delimiter: str, marker: str, inclusive: bool = False) -> bytes:
    """Where a page goes on behind a marker: behind all keys of a common prefix that the marker is."""
    start, cut = marker.encode(), delimiter.encode()
    behind = len(prefix.encode())
    if cut and start.startswith(prefix.encode()) and start.endswith(cut) and start.find(cut, behind) == len(start) - len(cut):
        return successor(start) or start
    return start + b"\0" if start and not inclusive else start
