"""What a script plays: each operation of the store is announced, done, and its answer told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any, Final, TypeVar

from msgspec import structs

from abixio.errors import AbixioError, OutcomeUnknown, PreconditionFailed
from abixio.store.store import Store
from abixio.store.types import Bucket, Condition, PartRef, PutSpec, Upload, always
from tests.crash.model import Thing, Value
from tests.store_rig import BytesSource

T = TypeVar("T")
SMALL: Final = 300
"""Bytes of an object whose shards live in the catalog."""
LARGE: Final = 70_000
"""Bytes of one whose shards are files, of up to two blocks."""


@cache
def content(value: str) -> bytes:
    """The bytes of a value: "name:size", or several joined by "+"."""
    if "+" in value:
        return b"".join(content(part) for part in value.split("+"))
    return Random(value).randbytes(int(value.partition(":")[2]))


class Run:
    """What a script sees. Each method is one operation of the store: announced, done, and its answer told."""

    def __init__(self, store: Store, say: Callable[[dict[str, Any]], None]) -> None:
        self.store = store
        self.ids: dict[str, str] = {}
        self._say = say
        self._count = 0

    async def step(self, name: str, sets: Sequence[tuple[Thing, Value]], work: Callable[[], Awaitable[T]]) -> T | None:
        """One operation; None when it was not done."""
        number, self._count = self._count, self._count + 1
        self._say({"at": "begin", "name": name, "sets": sets})
        try:
            result = await work()
        except OutcomeUnknown as error:
            self._say({"at": "unknown", "op": number, "error": type(error).__name__})
            return None
        except AbixioError as error:
            self._say({"at": "refused", "op": number, "error": type(error).__name__})
            return None
        ids = {name: result.id} if isinstance(result, Upload) else {}
        self.ids |= ids
        self._say({"at": "ack", "op": number, "ids": ids})
        return result

    async def bucket(self, name: str = "b") -> Bucket:
        return await self.store.bucket(name)

    def id(self, label: str) -> str:
        """Of an upload; of none when it could not be begun."""
        return self.ids.get(label, "0" * 32)

    def _object(self, bucket: str, key: str, value: Value, ftt: str | None = None) -> list[tuple[Thing, Value]]:
        """An object and its fault tolerance."""
        m = None if value is None else ftt or str(min(1, self.store.n - 1))
        return [(("object", bucket, key), value), (("m", bucket, key), m), (("tag", bucket, key), None)]

    # ---- operations --------------------------------------------------------------------------------------------------
    async def create_bucket(self, name: str) -> None:
        await self.step("create_bucket", [(("bucket", name), "there")], lambda: self.store.create_bucket(name, "me", {}))

    async def delete_bucket(self, name: str, *uploads: Thing) -> None:
        sets: list[tuple[Thing, Value]] = [*((upload, None) for upload in uploads), (("bucket", name), None)]
        await self.step("delete_bucket", sets, lambda: self.store.delete_bucket(name))

    async def change_bucket(self, name: str, value: str) -> None:
        def edit(settings: Mapping[str, str]) -> dict[str, str]:
            return {**settings, "note": value}

        await self.step("change_bucket", [(("note", name), value)], lambda: self.store.change_bucket(name, edit))

    async def set_config(self, name: str, value: Value, bucket: str = "b") -> None:
        async def work() -> None:
            await self.store.set_config(await self.bucket(bucket), name, value)

        await self.step("set_config", [(("setting", bucket, name), value)], work)

    async def tag(self, key: str, value: str, bucket: str = "b") -> None:
        async def work() -> object:
            return await self.store.amend(
                await self.bucket(bucket), key, None, lambda record: structs.replace(record, tags={"tag": value})
            )

        await self.step("amend", [(("tag", bucket, key), value)], work)

    async def put(self, key: str, value: str, ftt: str | None = None, condition: Condition = always, bucket: str = "b") -> None:
        spec = PutSpec("me", meta={"value": value}, ftt=ftt, condition=condition)

        async def work() -> object:
            return await self.store.put(await self.bucket(bucket), key, spec, BytesSource(content(value)))

        await self.step("put", self._object(bucket, key, value, ftt), work)

    async def delete(self, key: str, bucket: str = "b") -> None:
        async def work() -> object:
            return await self.store.delete(await self.bucket(bucket), key)

        await self.step("delete", self._object(bucket, key, None), work)

    async def copy(self, source: str, key: str, value: str) -> None:
        """As the front copies: a put whose bytes come from an open object."""
        async def work() -> object:
            bucket = await self.bucket()
            reader = await self.store.open(bucket, source)
            try:
                data = b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)])
                return await self.store.put(bucket, key, PutSpec("me", meta={"value": value}), BytesSource(data))
            finally:
                await reader.aclose()

        await self.step("copy", self._object("b", key, value), work)

    async def create_upload(self, key: str, label: str) -> None:
        async def work() -> object:
            return await self.store.create_upload(await self.bucket(), key, PutSpec("me"))

        await self.step(label, [(("upload", "b", key, label), "open")], work)

    async def put_part(self, key: str, label: str, number: int, value: str) -> None:
        async def work() -> object:
            source = BytesSource(content(value))
            return await self.store.put_part(await self.bucket(), key, self.id(label), number, source, real_md5=True)

        await self.step("put_part", [(("part", label, str(number)), value)], work)

    async def complete(self, key: str, label: str, values: Mapping[int, str]) -> None:
        async def work() -> object:
            bucket = await self.bucket()
            have, _ = await self.store.parts(bucket, key, self.id(label), 0, 1000)
            refs = [PartRef(part.number, part.etag) for part in have if part.number in values]
            return await self.store.complete_upload(bucket, key, self.id(label), refs)

        value = "+".join(values[number] for number in sorted(values))
        await self.step("complete_upload", [*self._object("b", key, value), (("upload", "b", key, label), None)], work)

    async def abort(self, key: str, label: str) -> None:
        async def work() -> object:
            await self.store.abort_upload(await self.bucket(), key, self.id(label))
            return None

        await self.step("abort_upload", [(("upload", "b", key, label), None)], work)

    async def heal(self, key: str) -> None:
        async def work() -> object:
            return await self.store.heal(await self.bucket(), key)

        await self.step("heal", [], work)

    async def reencode(self, key: str, ftt: str) -> None:
        async def work() -> object:
            return await self.store.reencode(await self.bucket(), key, ftt)

        await self.step("reencode", [(("m", "b", key), ftt)], work)

    async def refill(self, slot: int) -> None:
        await self.step("refill", [], lambda: self.store.refill.run_once(slot))

    async def scan(self) -> None:
        await self.step("scan_now", [], lambda: self.store.scan_now())

    async def repair(self) -> None:
        """A pass of all that goes on in the background after a start."""
        for _ in range(3):
            await self.step("journal", [], self.store.journal.run_once)
            await self.cycle()
        await self.scan()

    async def settle(self) -> None:
        """What follows answered writes in a running server, at once."""
        for _ in range(2):
            await self.cycle()
        await self.barrier()

    async def cycle(self) -> None:
        with suppress(AbixioError):
            await self.store.settler.cycle()

    async def barrier(self) -> None:
        with suppress(AbixioError):
            if len(await self.store.settler.barrier()) == self.store.n:
                self._say({"at": "safe"})


def if_none_match(current: object) -> None:
    """The condition `If-None-Match: *`."""
    if current is not None:
        raise PreconditionFailed("If-None-Match")


Script = Callable[[Run], Awaitable[None]]
