"""The look at a pool after a crash: opened again, read, repaired, read again, searched for what is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import structs

from abixio.codec.checksum import block_seed
from abixio.errors import AbixioError, VolumeError
from abixio.fsck.progress import Silent
from abixio.fsck.run import check
from abixio.store.inline import unpack_shard
from abixio.store.opening import whole
from abixio.store.record import unpack
from abixio.store.store import Store
from abixio.store.types import Bucket, PutSpec
from abixio.volume.local import LocalVolume
from tests.crash.child import opened, serving
from tests.crash.layer import BOOT
from tests.crash.leftovers import Leftovers
from tests.crash.look import observe
from tests.crash.model import Model, Thing, Value
from tests.crash.run import content
from tests.crash.workbench import Bench, Booted
from tests.store_rig import BytesSource

ROUNDS: Final = 8
"""Rounds of repair after which a pool with all its volumes must have come to rest; two are the rule."""


# ---- at rest ---------------------------------------------------------------------------------------------------------
async def to_rest(store: Store) -> bool:
    """Everything that a server does in the background, until nothing is left to do. The scanner looks first, at what the crash
    has left, and last: what the others no longer name may have come back on one volume."""
    await store.scan_now()
    for _ in range(ROUNDS):
        store.journal._later.clear()  # what has to wait for another key is tried again after a second, which nobody has here
        for slot in sorted(store.pool.filling):
            await store.refill.run_once(slot)
        await store.repairs.run_once()
        await store.journal.run_once()
        await store.settler.cycle()
        await store.settler.cycle()
        if _quiet(store):
            found = await store.scan_now()
            if not found.orphans and not found.repaired and _quiet(store):
                return True
    return False


def _quiet(store: Store) -> bool:
    volumes = [lane.volume for lane in store.pool.lanes if lane is not None]
    return not store.pool.filling and not any(volume.unsettled(None, 1) or volume.garbage(1) for volume in volumes)


def unsound(volumes: Mapping[int, LocalVolume]) -> list[str]:
    """Shards of rows that a volume does not have whole. Reads would get by without them; at rest none is missing."""
    wrong = []
    for slot, volume in volumes.items():
        after = None
        while rows := volume.walk(after, 1000):
            for row in rows:
                after = row.id[:2]
                record = unpack(row.record)
                if row.inline is not None:
                    part = record.parts[0]
                    try:
                        unpack_shard(volume.inline(row.inline), block_seed(part.write_id, part.number, slot))
                    except VolumeError as error:
                        wrong.append(f"volume {slot}: inline shard of {row.id.key!r}: {error}")
                elif not whole(volume, row):
                    wrong.append(f"volume {slot}: a shard file of {row.id.key!r} is not whole")
    return wrong


# ---- the whole look --------------------------------------------------------------------------------------------------
def verify(
    bench: Bench, model: Model, durability: str, lossy: bool, drain: bool, filling: frozenset[int] = frozenset(),
    boot: str = BOOT, undecided: Sequence[tuple[str, str]] = (), lossy_before: bool = False,
) -> list[str]:
    """Open the pool again, all volumes up, and demand what was promised; repair, and demand that nothing is left over.
    `lossy`: the power was cut. `filling`: volumes that may be. `boot`: id of the kernel's start before the crash. `undecided`:
    what an operator discards first. `lossy_before`: a power cut may take what was acknowledged before this process."""
    try:
        work = _verify(bench, model, durability, lossy, drain, filling, boot, undecided, lossy_before)
        return asyncio.run(asyncio.wait_for(work, 30))
    except AbixioError as error:
        return [f"the pool, whole again, does not work: {error!r}"]
    except TimeoutError:
        return ["the pool, whole again, hangs"]


async def _verify(
    bench: Bench, model: Model, durability: str, lossy: bool, drain: bool, filling: frozenset[int], boot: str,
    undecided: Sequence[tuple[str, str]], lossy_before: bool,
) -> list[str]:
    volumes = opened(bench.root, bench.n, lambda _: Booted("boot-after" if lossy else boot))
    if len(volumes) != bench.n:
        return [f"volumes {set(range(bench.n)) - volumes.keys()} do not open"]
    async with serving(volumes, bench.n, durability) as store:
        if not store.pool.filling <= filling:
            return [f"volumes {store.pool.filling} are taken for regressed"]
        for bucket, key in undecided:
            await store.discard(await store.bucket(bucket), key)
        seen, wrong = await observe(store, model)
        wrong += model.judge(seen, lossy and (durability == "page-cache" or lossy_before))
        if not await to_rest(store):
            wrong.append("does not come to rest")
        again, more = await observe(store, model)
        wrong += more
        wrong += [f"{'/'.join(t)} was {seen.get(t)} and is {again.get(t)} after repair" for t in again if again[t] != seen.get(t)]
        wrong += unsound(volumes)
        if drain and not wrong:
            wrong += await _drain(store, again)
            again = {}
    wrong += Leftovers(bench, again).look()
    return wrong if wrong or not drain else _second_opinion(bench)


def _second_opinion(bench: Bench) -> list[str]:
    """What `abixio fsck` says of the pool: nothing."""
    report = check([str(path) for path in bench.paths], Booted(BOOT), Silent())
    return [f"fsck: {finding.level.value}: {finding.text}" for finding in report.findings]


async def _drain_versions(store: Store, bucket: Bucket) -> None:
    """A new version of every key, then all go by their ids, from the oldest on."""
    page = await store.versions(bucket, "", "", ("", None), 1000)
    for key in {info.key for info, _ in page.versions}:
        await store.put(bucket, key, PutSpec("me"), BytesSource(content("again:100")))
    page = await store.versions(bucket, "", "", ("", None), 1000)
    for info, _ in reversed(page.versions):
        if info.record.lock:
            await store.amend(bucket, info.key, info.version, lambda record: structs.replace(record, lock={}))
        await store.delete(bucket, info.key, version=info.version)


async def _drain(store: Store, seen: dict[Thing, Value]) -> list[str]:
    """Work goes on: every key takes a new value, then all is deleted, and nothing may stay."""
    for bucket in await store.buckets():
        for thing in [thing for thing in seen if thing[0] == "object" and thing[1] == bucket.name]:
            await store.put(bucket, thing[2], PutSpec("me"), BytesSource(content("again:100")))
            await store.delete(bucket, thing[2])
        if any(thing[0] == "history" and thing[1] == bucket.name for thing in seen):
            await _drain_versions(store, bucket)
        await store.delete_bucket(bucket.name)
    return [] if await to_rest(store) else ["does not come to rest after all was deleted"]
