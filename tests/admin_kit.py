"""The admin surface without a socket: a front over a store in memory that can be told how its objects are."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from abixio.admin.front import Front
from abixio.admin.jobs import Jobs
from abixio.admin.router import Admin
from abixio.errors import NoSuchKey
from abixio.s3.service import S3Service
from abixio.store.health import Discarded, Healed, KeyHealth, RepairStatus, ScanStatus, ShardHealth, VolumeStatus
from abixio.store.types import Bucket, Listing, ObjectInfo, PutSpec
from tests.s3_fakestore import FakeStore
from tests.s3_harness import Answer, Harness
from tests.s3_wire import CREDENTIALS

DIRECTORIES = {slot: f"/mnt/disk{slot + 1}" for slot in range(4)}


class Nothing:
    """A source of no bytes."""

    length = 0
    algorithms = ()

    async def readinto(self, view: memoryview) -> int:
        return 0

    def verify(self, digests: Any) -> dict[str, str]:
        return {}


class RepairableFake(FakeStore):
    """Counts what it is asked. `trouble`: what healing or re-encoding a key raises or says."""

    def __init__(self) -> None:
        super().__init__(4)
        self.healed: Counter[str] = Counter()
        self.reencoded: dict[str, str] = {}
        self.discarded: list[str] = []
        self.trouble: dict[str, Exception | Healed] = {}
        self.scans = self.listed = 0
        self.gate = asyncio.Event()
        """Closed, healing waits behind it."""
        self.gate.set()
        self.at_once = self.most_at_once = 0

    async def add(self, name: str, *keys: str) -> Bucket:
        bucket = self.contents[name].bucket if name in self.contents else await self.create_bucket(name, "owner", {})
        for key in keys:
            await self.put(bucket, key, PutSpec("owner"), Nothing())
        return bucket

    async def inspect(self, bucket: Bucket, key: str, deep: bool = True) -> list[KeyHealth]:
        info = await self.head(bucket, key)
        shards = [
            ShardHealth(1, index, "data" if index < 3 else "parity", index, "ok" if deep else "missing", "file", 100, "ab" * 8)
            for index in range(4)
        ]
        states = dict.fromkeys(range(4), "committed")
        return [KeyHealth(bucket.name, key, 7, 0, "object", info.size, info.etag, 3, 1, states, shards, True, deep)]

    async def heal(self, bucket: Bucket, key: str) -> Healed:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.at_once -= 1
        self.healed[f"{bucket.name}/{key}"] += 1
        return self._outcome(key, Healed(examined_shards=4))

    async def reencode(self, bucket: Bucket, key: str, ftt: str) -> ObjectInfo:
        await asyncio.sleep(0)
        self._outcome(key, Healed())
        self.reencoded[f"{bucket.name}/{key}"] = ftt
        return await self.head(bucket, key)

    async def discard(self, bucket: Bucket, key: str) -> list[Discarded]:
        self.discarded.append(f"{bucket.name}/{key}")
        return [Discarded(7, 0, "object", 1, 3)]

    async def repair_status(self) -> RepairStatus:
        volumes = [VolumeStatus(slot=slot, state="up", why="", since=0, unsettled=0) for slot in range(4)]
        return RepairStatus(volumes, [], ScanStatus(True, "", 5, 900, 0, 0, 0, 0, 1, 0), 0, 0)

    async def list(self, *args: Any, **more: Any) -> Listing:
        self.listed += 1
        return await super().list(*args, **more)

    async def scan_now(self) -> ScanStatus:
        self.scans += 1
        await self.gate.wait()
        return ScanStatus(False, "", 6, 1000, 3, 2, 1, 0, 1, 2)

    def _outcome(self, key: str, usual: Healed) -> Healed:
        told = self.trouble.get(key, usual)
        if isinstance(told, NoSuchKey):
            self.contents = {}
        if isinstance(told, Exception):
            raise told
        return told


class AdminHarness(Harness):
    """Asks the front."""

    store: RepairableFake

    def renew(self, store: FakeStore) -> None:
        assert isinstance(store, RepairableFake)
        self.store = store
        self.jobs = Jobs()
        admin = Admin(store, self.jobs, CREDENTIALS, DIRECTORIES)
        self.service = Front(S3Service(store, CREDENTIALS, self.config), admin, self.config)  # type: ignore[assignment]

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def job(self, path: str, content: Any) -> dict[str, Any]:
        """Start a job by a signed request, let it end, and ask for it."""
        answer = self.ask("POST", f"/_admin/v1/{path}", body=json.dumps(content).encode())
        assert answer.status == 200, answer.body
        number = told(answer)["job"]
        for _ in range(2000):
            job = told(self.ask("GET", f"/_admin/v1/jobs/{number}"))
            if job["ended"] is not None:
                return job
            self.run(asyncio.sleep(0.001))
        raise AssertionError(job)


def told(answer: Answer) -> Any:
    """The JSON of an answer, which says that it is JSON and names the request."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-amz-request-id"] == "0123456789ABCDEF"
    return json.loads(answer.body)


def problem(answer: Answer) -> tuple[int, str]:
    """Status and code of a refusal, which has a message for people."""
    content = told(answer)
    assert content.keys() == {"code", "message", "request_id"}
    assert content["request_id"] == "0123456789ABCDEF"
    assert content["message"]
    return answer.status, content["code"]
