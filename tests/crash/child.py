"""The process that is killed: opens the volumes over the layer, plays a script against the store, and says before and after
each operation what it does and how it was answered."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw

from abixio.config import MIB, Config
from abixio.errors import AbixioError, IdentityDamaged, VolumeError
from abixio.store.buffers import BufferPool
from abixio.store.opening import mark_regressed, newest_seq, verify_unclean
from abixio.store.pool import Pool
from abixio.store.store import Store
from abixio.volume import catalog
from abixio.volume.files import Files
from abixio.volume.local import LocalVolume
from tests.crash.layer import BOOT, Fault, Layer
from tests.crash.layer_files import LayerFiles
from tests.crash.layer_vfs import Connection
from tests.crash.run import Run, Script

HANG: Final = 20.0
"""Seconds after which a child counts as hung: no script takes one, and a store gives a disk 30."""




@dataclass(slots=True)
class Job:
    """What a child is to do."""

    root: Path
    n: int
    durability: str
    script: Script
    fault: Fault | None = None
    record: bool = False
    """Keep a journal of all that the disks are asked to do."""
    close: bool = True
    """End in good order; else by a kill as soon as the script is over."""
    ids: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[Sequence[str]] = ()
    """The files of each volume, so that the journal can name them."""
    boot: str = BOOT
    short_log: bool = False


def opened(root: Path, n: int, files: Callable[[int], Files]) -> dict[int, LocalVolume]:
    """The volumes that open, as at the start of a server: one that does not is left out."""
    volumes: dict[int, LocalVolume] = {}
    for slot in range(n):
        try:
            volume = LocalVolume.open(str(root / f"v{slot}"), files(slot))
        except (VolumeError, IdentityDamaged):
            continue
        try:
            volume.notes()
        except VolumeError:
            volume.close()
        else:
            volumes[slot] = volume
    return volumes


@asynccontextmanager
async def serving(volumes: Mapping[int, LocalVolume], n: int, durability: str) -> Any:
    """A store without its background tasks: they run when the script says so."""
    config = Config(durability=durability)  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as executor:
        filling = {slot for slot, volume in volumes.items() if volume.notes().get("filling")}
        pool = Pool(volumes, n, filling, config, executor, BufferPool(64 * MIB), asyncio.get_running_loop())
        await mark_regressed(pool)
        await verify_unclean(pool)
        store = Store(pool, await newest_seq(pool))
        store.settler._last_barrier = pool.loop.time()  # as in a server that runs: one comes when a script asks for it
        try:
            yield store
        finally:
            await store.aclose()


class _Spy:
    """Which methods of the store were called."""

    def __init__(self, store: Store, called: set[str]) -> None:
        self._store, self._called = store, called

    def __getattr__(self, name: str) -> Any:
        self._called.add(name)
        return getattr(self._store, name)


async def _play(job: Job, layer: Layer, say: Callable[[dict[str, Any]], None], end: Callable[[], None]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: say({"at": "crash", "text": str(context)}))
    names = job.names or [()] * job.n
    volumes = opened(job.root, job.n, lambda slot: LayerFiles(layer, slot, str(job.root / f"v{slot}"), names[slot]))
    called: set[str] = set()
    async with serving(volumes, job.n, job.durability) as store:
        run = Run(_Spy(store, called), say)  # type: ignore[arg-type]
        run.ids.update(job.ids)
        await job.script(run)
        say({"at": "called", "methods": sorted(called)})
        if not job.close:
            end()
            os._exit(0)


def _live(job: Job, out: int, journal: Path) -> None:
    """The child, from fork to end."""
    logging.disable(logging.CRITICAL)
    apsw.Connection = Connection  # type: ignore[misc]
    if job.short_log:
        vars(catalog).update(CHECKPOINT_PAGES=6, _WAL_LIMIT_PAGES=16)
    layer = Layer(job.fault, job.record, job.boot)

    def say(event: dict[str, Any]) -> None:
        line = json.dumps(event)
        with layer.lock:
            layer.note("event", line)
            os.write(out, line.encode() + b"\n")

    layer.doomed = lambda: say({"at": "killed"})
    sys.unraisablehook = lambda args: say({"at": "crash", "text": f"unraisable: {args.exc_value!r}"})

    def end() -> None:
        say({"at": "end", "tripped": layer.tripped})
        if job.record:
            journal.write_bytes(pickle.dumps((layer.journal, layer.counts)))

    try:
        asyncio.run(_play(job, layer, say, end))
    except AbixioError as error:
        say({"at": "stopped", "text": repr(error)})
    except BaseException:
        say({"at": "crash", "text": traceback.format_exc()})
    end()


@dataclass(slots=True)
class Ending:
    """How a child ended."""

    lines: list[str]
    killed: bool
    hung: bool
    journal: list[tuple[Any, ...]]
    counts: Mapping[tuple[int, str], int]


def spawn(job: Job) -> Ending:
    """Fork a child, let it play, and read what it said. Nothing may run on other threads of this process."""
    come, go = os.pipe()
    journal = job.root / "journal"
    journal.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(come)
            _live(job, go, journal)
        finally:
            os._exit(0)
    os.close(go)
    said, hung = _listen(come, pid)
    _, status = os.waitpid(pid, 0)
    lines = said.decode().split("\n")[:-1]
    entries, counts = pickle.loads(journal.read_bytes()) if job.record and journal.exists() else ([], {})
    return Ending(lines, os.WIFSIGNALED(status), hung, entries, counts)


def _listen(pipe: int, pid: int) -> tuple[bytes, bool]:
    """All that the child says until it ends, and whether it had to be ended. Not by SIGALRM, which is the test runner's."""
    said, end, hung = bytearray(), time.monotonic() + HANG, False
    with open(pipe, "rb", buffering=0) as stream:
        while True:
            ready, _, _ = select.select([stream], [], [], max(0.0, end - time.monotonic()))
            if not ready and not hung:
                hung, end = True, end + HANG
                os.kill(pid, signal.SIGKILL)
            elif not (piece := stream.read(1 << 16)):
                return bytes(said), hung
            else:
                said += piece


