"""Everything at once, and everything that can happen to a disk: `python -m tests.soak --seconds 120`.

Writers with a ledger (puts, deletes, uploads in parts, copies), readers and listers work on a real server with four volumes.
Act after act, one volume (sometimes two) is removed, corrupted, made read-only, filled, slowed, or fails, and returns; the
server is killed with -9, stopped in its tracks and restarted. After each act the store must come to rest, and every key
must hold what the ledger says. At the end all of it is verified once more, scanned, and counted offline.

Never more is broken at a time than the objects are made for, so nothing may be lost: that is the only good result.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_plus

import apsw

from tests import census
from tests.damage import flip, shard_files, unsound
from tests.disks import Disk, LoopDisk, make_disks
from tests.kills import scan, settle
from tests.ledger import Ledger
from tests.load import BUCKET, HURT, Surprise, Writer, verify
from tests.rawclient import RawClient
from tests.server import SECRET, Server, empty, signal_all
from tests.soak_report import Reader, Report

VOLUMES = 4
KEYS = 8
ACT = 3.0
"""Seconds that a fault lasts, about."""
REST = 60.0
"""Seconds to come to rest after a fault before a restart is tried: a write may have hung for its whole deadline of 30 seconds."""
LEISURE = 60.0
"""Seconds that a server has to end in good order: six times what it promises, for a machine that is busy with other things."""
HESITATION = 4.0
"""Seconds that the store has to come to rest before somebody helps it."""
FLIPS = 6
"""Shard files that are hurt in one act."""


class Task(NamedTuple):
    """A writer's own keys and what it puts there."""

    name: str
    ftts: str


WRITERS = (Task("one", "1"), Task("two", "12"), Task("many", "123"), Task("none", "0"), Task("mixed", "0123"))


class Soak:
    """A server over disks, and the acts of the play."""

    def __init__(self, home: Path, seed: int, only: Collection[str] = (), workers: int = 1) -> None:
        self.random = random.Random(seed)
        self.disks, reason = make_disks(home, VOLUMES)
        self.report = Report(seed, VOLUMES, "plain directories" if reason else "ext4 on loop devices")
        access = f"soak-{self.random.randrange(10**9)}"
        self.server = Server(
            [disk.volume for disk in self.disks], home / "log", ["--workers", str(workers)],
            {"ABIXIO_ACCESS_KEY": access, "ABIXIO_SECRET_KEY": SECRET},
        )
        self._crewed = workers > 1
        self.ledger = Ledger(home / "ledger")
        self._hurt: dict[bytes, int] = {}
        """Write ids with a shard that was hurt, and on which disk: no other one of them may be hurt before it is healed."""
        self._acts = [act for act in self._possible(reason) if not only or act.__name__ in only]
        self._writers: list[Writer] = []
        self._doubt = False
        """A disk is gone for good that may have had the only word on a write that was not answered."""

    def _possible(self, reason: str) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = [
            self.kill, self.stop_in_its_tracks, self.remove_while_it_runs, self.remove_while_it_is_down, self.remove_two,
            self.corrupt, self.replace, *([self.kill_workers] if self._crewed else []),
        ]
        more: list[Callable[[], None]] = [
            self.read_only_while_it_runs, self.read_only_from_the_start, self.fill, self.fill_two, self.slow, self.fail,
        ]
        if all(isinstance(disk, LoopDisk) for disk in self.disks):
            return found + more
        self.report.left_out.append(f"{', '.join(act.__name__.replace('_', ' ') for act in more)}: {reason}")
        return found

    # ---- the play ----------------------------------------------------------------------------------------------------
    def run(self, seconds: float, progress: bool = False) -> Report:
        """Acts until the time is over, each at least once if there is time for it, then the end."""
        began = time.monotonic()
        try:
            self._first()
            while time.monotonic() - began < seconds:
                for act in self.random.sample(self._acts, len(self._acts)):
                    if time.monotonic() - began < seconds:
                        if progress:
                            print(f"{time.monotonic() - began:6.1f} s: {act.__name__.replace('_', ' ')}", flush=True)
                        self._act(act)
            self._last()
        except Exception as error:
            self.report.failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.report.seconds = time.monotonic() - began
            self.report.acknowledged = self.ledger.acknowledged
        return self.report

    def close(self) -> None:
        for disk in self.disks:
            if isinstance(disk, LoopDisk):
                disk.thaw()
        if self.server.process is not None:
            self.server.kill()
        self.ledger.close()
        for disk in self.disks:
            disk.close()

    def _first(self) -> None:
        self.server.start()
        with self._client() as client:
            created = client.call("PUT", BUCKET)
        if created.status != 200:
            raise Surprise(f"no bucket: {created}")
        with self._load():
            time.sleep(ACT)
        self._rest("the beginning")

    def _act(self, act: Callable[[], None]) -> None:
        name = act.__name__.replace("_", " ")
        with self._load():
            time.sleep(self.random.uniform(0, 0.5))
            act()
        self.report.faults[name] += 1
        self._rest(name)
        self._check()

    @contextmanager
    def _load(self) -> Iterator[None]:
        """Writers and readers work while inside. What they find wrong is raised at the end."""
        self._writers = []
        self._write(WRITERS)
        readers = [Reader(self.ledger, self.random.random(), self.server) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            yield
        finally:
            threads: list[Writer | Reader] = [*self._writers, *readers]
            for thread in threads:
                thread.stop()
            for thread in threads:
                thread.join()
            self._count(self._writers, readers)
        for thread in threads:
            if thread.error is not None:
                raise thread.error

    def _write(self, tasks: Sequence[Task]) -> None:
        """More writers, to the end of the act."""
        for task in tasks:
            writer = Writer(
                self.ledger, [f"{task.name}/{key}" for key in range(KEYS)], self.random.random(), lambda: self.server.port,
                again=True, refusals=HURT, ftts=task.ftts, pause=0.01, timeout=60.0, access=self.server.env["ABIXIO_ACCESS_KEY"],
            )
            self._writers.append(writer)
            writer.start()

    def _hush(self, writers: Sequence[Writer]) -> None:
        """They end what they are at, and no more."""
        for writer in writers:
            writer.stop()
        for writer in writers:
            writer.join()

    def _count(self, writers: Sequence[Writer], readers: Sequence[Reader]) -> None:
        for writer in writers:
            for name, count in writer.counts.items():
                failed = "refused" in name or name in ("cut", "outcome unknown")
                (self.report.refusals if failed else self.report.operations)[name] += count
            self.report.written += writer.sent
        for reader in readers:
            self.report.reads.update(reader.counts)
            self.report.verified += reader.bytes

    def _client(self) -> RawClient:
        return RawClient(self.server.port, 60.0, self.server.env["ABIXIO_ACCESS_KEY"])

    # ---- between the acts --------------------------------------------------------------------------------------------
    def _rest(self, after: str) -> None:
        """Nobody writes: within some seconds all volumes must have everything. Surprise."""
        began = time.monotonic()
        if self._doubt:
            self._decide()
        quiet = self._quiet(REST)
        if time.monotonic() - began > self.report.slowest_rest[0]:
            self.report.slowest_rest = (time.monotonic() - began, after)
        if quiet:
            return
        self.report.restarts_needed.append(after)
        self.server.kill()
        self.server.start()
        if not self._quiet(REST):
            state = [(_unsettled(disk.volume), _note(disk.volume, "filling")) for disk in self.disks]
            raise Surprise(f"after {after}, the store does not come to rest: journal entries and filling by volume: {state}")

    def _decide(self) -> None:
        """The operator's part: to discard, while no volume is away, the writes of which the server says that nobody can tell, and
        to end uploads that nobody goes on with. What was answered is not among them, or the ledger knows."""
        self._doubt = False
        deadline = time.monotonic() + 2 * REST
        while not self._quiet(HESITATION) and time.monotonic() < deadline:
            with self._client() as client:
                self._abort_uploads(client)
                status = json.loads(client.call("GET", "_admin/v1/status").body)["repair"]
                if not {volume["state"] for volume in status["volumes"]} <= {"up", "slow", "filling"}:
                    continue
                for key in [key for bucket, key in status["undecided"] if bucket == BUCKET]:
                    answer = client.call("POST", "_admin/v1/discard", body=json.dumps({"bucket": BUCKET, "key": key}).encode())
                    if answer.status != 200:
                        raise Surprise(f"{key} cannot be discarded: {answer.status} {answer.body!r}")
                    self.ledger.discarded(key)
                    self.report.faults["write discarded"] += len(json.loads(answer.body)["discarded"])

    def _quiet(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while any(_unsettled(disk.volume) or _note(disk.volume, "filling") for disk in self.disks):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def _check(self) -> None:
        """Nothing is wrong with any volume now: every key can be read and holds what it may."""
        with self._client() as client:
            self.report.verified += verify(client, self.ledger, self.ledger.keys)
            self.report.keys_verified += len(self.ledger.keys)

    def _last(self) -> None:
        self._check()
        self._scan()
        self._check()
        settle(self.server)
        volumes = [disk.volume for disk in self.disks]
        found = census.take(volumes)
        self.report.orphans, self.report.missing, self.report.uneven = len(found.orphans), len(found.missing), len(found.uneven)
        self.report.unsound = sum(1 for _ in unsound(volumes))

    # ---- faults ------------------------------------------------------------------------------------------------------
    def _wait(self) -> None:
        """The fault lasts; half of the time the server is killed meanwhile."""
        seconds = self.random.uniform(0.5, 1.5) * ACT
        if self.random.random() < 0.5:
            time.sleep(seconds * self.random.random())
            self._killed()
        time.sleep(seconds)

    def _killed(self) -> None:
        self.report.faults["kill -9"] += 1
        self.server.kill()
        self.server.start()

    def _stopped(self) -> None:
        """Stopped in good order, or not."""
        if self.random.random() < 0.5:
            self.report.faults["kill -9"] += 1
            self.server.kill()
        else:
            self.server.stop(within=LEISURE)

    def _victims(self, count: int) -> list[Disk]:
        return self.random.sample(self.disks, count)

    def kill(self) -> None:
        """Three times in a row."""
        for _ in range(3):
            time.sleep(self.random.uniform(0.1, 1.0))
            self._killed()
        time.sleep(1.0)

    def kill_workers(self) -> None:
        """Some of them, and the server as a whole goes on."""
        for _ in range(self.random.randrange(1, 4)):
            time.sleep(self.random.uniform(0.1, 1.0))
            signal_all([self.random.choice(self.server.workers)], signal.SIGKILL)
            self.report.faults["worker killed"] += 1
        time.sleep(2.0)

    def stop_in_its_tracks(self) -> None:
        """For longer than a volume's read may take, and less than clients wait."""
        self.server.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.5, 4.0))
        self.server.send_signal(signal.SIGCONT)
        time.sleep(1.0)

    def remove_while_it_runs(self) -> None:
        """The directory is renamed; what the server has open stays open."""
        [disk] = self._victims(1)
        disk.remove()
        try:
            self._wait()
        finally:
            self._stopped()
            disk.bring_back()
            self.server.start()

    def remove_while_it_is_down(self) -> None:
        self._remove(1)

    def remove_two(self) -> None:
        """Then there are no writes, and objects of FTT 2 and 3 can be read."""
        self._remove(2)

    def _remove(self, count: int) -> None:
        disks = self._victims(count)
        self._stopped()
        for disk in disks:
            disk.remove()
        self.server.start()
        self._wait()
        self._stopped()
        for disk in disks:
            disk.bring_back()
        self.server.start()

    def replace(self) -> None:
        """A new, empty disk in the place of an old one, and a server that is killed just before: the moment the last answers are
        out, or while it writes. Objects that can lose none would be lost with the disk: they go before."""
        self._scan()
        self._drop_unprotected()
        [disk] = self._victims(1)
        if self.random.random() < 0.5:
            self._hush(self._writers)
        else:
            self._doubt = True
        self.report.faults["kill -9"] += 1
        self.server.kill()
        empty(disk.volume)
        self.server.start()
        if not any(writer.is_alive() for writer in self._writers):
            self._write([task for task in WRITERS if "0" not in task.ftts])
        self._wait()

    def _drop_unprotected(self) -> None:
        """Writers of FTT 0 are told to stop, and what they wrote, or began to, is deleted."""
        self._hush([writer for writer in self._writers if "0" in writer.ftts])
        doomed = tuple(task.name + "/" for task in WRITERS if "0" in task.ftts)
        with self._client() as client:
            for key in self.ledger.keys:
                if key.startswith(doomed):
                    number = self.ledger.ask(key, None)
                    if client.call("DELETE", BUCKET, key).status != 204:
                        raise Surprise(f"{key} cannot be deleted")
                    self.ledger.answer(key, number, "done")
            self._abort_uploads(client, doomed)

    @staticmethod
    def _abort_uploads(client: RawClient, prefixes: tuple[str, ...] = ("",)) -> None:
        uploads = client.call("GET", BUCKET, query={"uploads": "", "encoding-type": "url"}).body.decode()
        for key, upload in re.findall(r"<Key>([^<]*)</Key><UploadId>([^<]*)</UploadId>", uploads):
            if unquote_plus(key).startswith(prefixes):
                client.call("DELETE", BUCKET, unquote_plus(key), {"uploadId": upload})

    def corrupt(self) -> None:
        """Bits flip on one disk, in files of objects that can lose one more."""
        number = self.random.randrange(VOLUMES)
        files = [
            file for file in shard_files(self.disks[number].volume) if file.m and self._hurt.get(file.write_id, number) == number
        ]
        for file in self.random.sample(files, min(FLIPS, len(files))):
            try:
                flip(file.path, self.random)
            except OSError:
                continue  # its object is just being deleted
            self._hurt[file.write_id] = number
            self.report.faults["bits flipped"] += 1
        self._wait()
        self._scan()

    def _scan(self) -> None:
        """What was hurt is whole after it."""
        scan(self.server, self.server.env["ABIXIO_ACCESS_KEY"])
        self._hurt.clear()

    def _loop(self, count: int = 1) -> list[LoopDisk]:
        return [disk for disk in self._victims(count) if isinstance(disk, LoopDisk)]

    def read_only_while_it_runs(self) -> None:
        """The kernel meets an error and lets nobody write any more."""
        [disk] = self._loop()
        disk.go_read_only()
        self._return_after(disk)

    def fail(self) -> None:
        """Every access is an error, and what was not synced is lost."""
        [disk] = self._loop()
        disk.fail()
        self._return_after(disk)

    def _return_after(self, disk: LoopDisk) -> None:
        time.sleep(self.random.uniform(0.5, 1.5) * ACT)
        self._stopped()
        disk.mount_again()
        self.server.start()

    def read_only_from_the_start(self) -> None:
        [disk] = self._loop()
        self._stopped()
        disk.mount_again(read_only=True)
        self.server.start()
        self._wait()
        self._stopped()
        disk.mount_again()
        self.server.start()

    def fill(self) -> None:
        self._fill(1)

    def fill_two(self) -> None:
        """Too many: writes are refused."""
        self._fill(2)

    def _fill(self, count: int) -> None:
        disks = self._loop(count)
        try:
            for disk in disks:
                disk.fill()
            self._wait()
        finally:
            for disk in disks:
                disk.empty_again()

    def slow(self) -> None:
        """Writes to one disk hang, again and again."""
        [disk] = self._loop()
        for _ in range(self.random.randrange(1, 4)):
            disk.freeze()
            try:
                time.sleep(self.random.uniform(0.2, 4.0))
            finally:
                disk.thaw()
            time.sleep(0.3)


def _note(volume: Path, name: str) -> int:
    """A value of the book-keeping of a volume in use."""
    try:
        with census.catalog(volume) as connection:
            return int(connection.execute("SELECT value FROM note WHERE name = ?", (name,)).get or 0)
    except apsw.Error:
        return -1


def _unsettled(volume: Path) -> int:
    """Entries in the journal of a volume in use."""
    try:
        with census.catalog(volume) as connection:
            return int(connection.execute("SELECT count(*) FROM unsettled").get)
    except apsw.Error:
        return -1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--act", action="append", help="play this one, and others so named, alone: kill, replace, fill_two, ...")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where the disks are made; default: a temporary directory")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="soak-", dir=given.directory))
    soak = Soak(home, given.seed, given.act or (), given.workers)
    print(f"seed {given.seed}, in {home}", flush=True)
    try:
        soak.run(given.seconds, progress=True)
    except Exception:
        print(soak.report, file=sys.stderr)
        print(f"FAILED; log and ledger are left in {home}", file=sys.stderr)
        raise
    finally:
        soak.close()
    print(soak.report)
    if soak.report.good:
        shutil.rmtree(home)
    return 0 if soak.report.good else 1


if __name__ == "__main__":
    sys.exit(main())
