"""What a script plays: each operation of the store is announced, done, and its answer told."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any, Final, TypeVar

from msgspec import structs

from abixio.errors import AbixioError, OutcomeUnknown, PreconditionFailed
from abixio.store.lifecycle_rules import CONFIG, SETTING, Filter, Rule, Rules, encode
from abixio.store.record import Record
from abixio.store.store import Store
from abixio.store.types import Bucket, Condition, Deleted, Move, ObjectInfo, PartRef, PutSpec, Says, Upload, always
from tests.crash.histories import MARKER
from tests.crash.model import Thing, Value
from tests.store_rig import BytesSource

T = TypeVar("T")
AS_IT_IS: Final[Says[Any, Any]] = Says(lambda result: result, lambda error: error)
"""The end of a write, told without words."""
LONG_DUE: Final = -2
"""Days after which a rule takes what was just made: no rule of a client has it, and no case can wait for midnight."""
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

    async def step(
        self, name: str, sets: Sequence[tuple[Thing, Value]], work: Callable[[], Awaitable[T]], label: str = ""
    ) -> T | None:
        """One operation; None when it was not done. `label`: what the version that it makes is remembered by."""
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
        if label and isinstance(result, ObjectInfo | Deleted):
            ids[label] = result.version
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

    async def delete_bucket(self, name: str, *things: Thing) -> None:
        """`things`: what goes with it."""
        sets: list[tuple[Thing, Value]] = [*((thing, None) for thing in things), (("bucket", name), None)]
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

    # ---- writes in one call ------------------------------------------------------------------------------------------
    async def put_at_once(self, key: str, value: str, ftt: str | None = None, condition: Condition = always) -> None:
        """As the front puts what is small: in one call, where the store can."""
        spec, data = PutSpec("me", meta={"value": value}, ftt=ftt, condition=condition), content(value)

        async def work() -> object:
            bucket, source = self.store.bucket_at_hand("b"), BytesSource(data)
            source.saw_end = True  # it is at hand
            ended = None if bucket is None else self.store.put_at_once(bucket, key, spec, source, data, AS_IT_IS)
            if ended is None:
                return await self.store.put(await self.bucket(), key, spec, BytesSource(data))
            return await self._in_one_call("put_at_once", ended)

        await self.step("put", self._object("b", key, value, ftt), work)

    async def delete_at_once(self, key: str) -> None:
        async def work() -> object:
            bucket = self.store.bucket_at_hand("b")
            ended = None if bucket is None else self.store.delete_at_once(bucket, key, always, False, AS_IT_IS)
            if ended is None:
                return await self.store.delete(await self.bucket(), key)
            return await self._in_one_call("delete_at_once", ended)

        await self.step("delete", self._object("b", key, None), work)

    async def _in_one_call(self, name: str, ended: Future[object]) -> object:
        """The end of a write that the store did not leave to others; that it was one is told like a method that was called."""
        self._say({"at": "called", "methods": [f"{name} in one call"]})
        result = await ended
        if isinstance(result, AbixioError):
            raise result
        return result

    # ---- more operations ---------------------------------------------------------------------------------------------
    async def append(self, key: str, *values: str) -> None:
        """The last of those to the others, which are there; an appended object is known by its bytes."""
        value = "+".join(values)
        offset = sum(len(content(each)) for each in values[:-1])

        async def work() -> object:
            return await self.store.append(await self.bucket(), key, PutSpec("me"), offset, BytesSource(content(values[-1])))

        await self.step("append", self._object("b", key, value), work)

    async def delete(self, key: str, bucket: str = "b") -> None:
        async def work() -> object:
            return await self.store.delete(await self.bucket(bucket), key)

        await self.step("delete", self._object(bucket, key, None), work)

    async def rename(self, source: str, key: str, value: str, ftt: str | None = None) -> None:
        """`value`: what the source has."""
        async def work() -> object:
            return await self.store.rename(await self.bucket(), key, Move(source))

        await self.step("rename", [*self._object("b", source, None), *self._object("b", key, value, ftt)], work)

    async def expire(self, key: str) -> None:
        """The lifecycle runner takes a key of `b`, by a rule of its own."""
        await self._carry_out(Rule("r", True, Filter(key), date=0), "b", self._object("b", key, None))

    async def _carry_out(self, rule: Rule, bucket: str, sets: list[tuple[Thing, Value]], deletions: int = 1) -> None:
        await self.set_config(CONFIG, encode(Rules((rule,), "")), bucket)

        async def work() -> None:
            await self.store.change_bucket(bucket, lambda settings: {**settings, SETTING: "rules"})
            if await self.store.lifecycle.run_once() < deletions:
                raise OutcomeUnknown("it goes on later")

        await self.step("expire", sets, work)

    async def expire_old(self, key: str, *values: str, markers: bool = False) -> None:
        """The lifecycle runner takes these noncurrent versions of a key of `v`, from the newest down; with `markers` also the
        delete marker that is then all there is."""
        rule = Rule("r", True, Filter(key), noncurrent_days=LONG_DUE, markers=markers or None)
        changes = [f"-{value}" for value in (*values, *((MARKER,) if markers else ()))]
        await self._carry_out(rule, "v", [(("history", "v", key), change) for change in changes], len(changes))

    async def expire_uploads(self, key: str, *labels: str) -> None:
        """The lifecycle runner aborts these uploads of a key of `b`."""
        rule = Rule("r", True, Filter(key), abort_days=LONG_DUE)
        await self._carry_out(rule, "b", [(("upload", "b", key, label), None) for label in labels], len(labels))

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

    # ---- versions ----------------------------------------------------------------------------------------------------
    async def versioning(self, state: str, bucket: str = "v") -> None:
        def edit(settings: Mapping[str, str]) -> dict[str, str]:
            return {**settings, "versioning": state}

        await self.step("versioning", [(("versioning", bucket), state)], lambda: self.store.change_bucket(bucket, edit))

    async def _how(self, bucket: str) -> str | None:
        """How a write into that bucket changes histories; None when that cannot be told now."""
        try:
            state = (await self.bucket(bucket)).settings.get("versioning", "")
        except AbixioError:
            return None
        return {"Enabled": "+", "Suspended": "0", "": "="}[state]

    async def new(self, key: str, value: str, ftt: str | None = None, bucket: str = "v") -> None:
        """A new version of a key."""
        async def work() -> object:
            spec = PutSpec("me", meta={"value": value}, ftt=ftt)
            return await self.store.put(await self.bucket(bucket), key, spec, BytesSource(content(value)))

        if (how := await self._how(bucket)) is not None:
            await self.step("new version", [(("history", bucket, key), how + value)], work, f"{key} {value}")

    async def mark_deleted(self, key: str, bucket: str = "v") -> None:
        async def work() -> object:
            return await self.store.delete(await self.bucket(bucket), key)

        if (how := await self._how(bucket)) is not None:
            change = how if how == "=" else how + MARKER
            await self.step("mark deleted", [(("history", bucket, key), change)], work, f"{key} {MARKER}")

    async def kill(self, key: str, value: str, bucket: str = "v") -> None:
        """Delete one version by its id, if it was made."""
        async def work() -> object:
            return await self.store.delete(await self.bucket(bucket), key, version=self.ids[f"{key} {value}"])

        if f"{key} {value}" in self.ids:
            await self.step("delete a version", [(("history", bucket, key), f"-{value}")], work)

    async def say(self, key: str, value: str, tag: str, bucket: str = "v") -> None:
        """Tag one version; ON and OFF: its legal hold."""
        def edit(record: Record) -> Record:
            held = tag in ("ON", "OFF")
            return structs.replace(record, **({"lock": {"hold": tag}} if held else {"tags": {"tag": tag}}))

        async def work() -> object:
            return await self.store.amend(await self.bucket(bucket), key, self.ids[f"{key} {value}"], edit)

        if f"{key} {value}" in self.ids:
            await self.step("amend a version", [(("history", bucket, key), f"~{value} {tag}")], work)

    async def complete_version(self, key: str, label: str, values: Mapping[int, str], bucket: str = "v") -> None:
        async def work() -> object:
            found = await self.bucket(bucket)
            have, _ = await self.store.parts(found, key, self.id(label), 0, 1000)
            refs = [PartRef(part.number, part.etag) for part in have if part.number in values]
            return await self.store.complete_upload(found, key, self.id(label), refs)

        value = "+".join(values[number] for number in sorted(values))
        if (how := await self._how(bucket)) is not None:
            sets: list[tuple[Thing, Value]] = [(("history", bucket, key), how + value), (("upload", bucket, key, label), None)]
            await self.step("complete a version", sets, work, f"{key} {value}")

    async def rework(self, key: str, ftt: str | None, bucket: str = "v") -> None:
        """Heal a key, or give its newest version another fault tolerance: nobody must see that."""
        async def work() -> object:
            found = await self.bucket(bucket)
            return await (self.store.heal(found, key) if ftt is None else self.store.reencode(found, key, ftt))

        await self.step("heal" if ftt is None else "reencode", [], work)

    # ---- uploads -----------------------------------------------------------------------------------------------------
    async def create_upload(self, key: str, label: str, bucket: str = "b") -> None:
        async def work() -> object:
            return await self.store.create_upload(await self.bucket(bucket), key, PutSpec("me"))

        await self.step(label, [(("upload", bucket, key, label), "open")], work)

    async def put_part(self, key: str, label: str, number: int, value: str, bucket: str = "b") -> None:
        async def work() -> object:
            source = BytesSource(content(value))
            return await self.store.put_part(await self.bucket(bucket), key, self.id(label), number, source, real_md5=True)

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

    async def discard(self, key: str) -> None:
        async def work() -> object:
            return await self.store.discard(await self.bucket(), key)

        await self.step("discard", [], work)

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
