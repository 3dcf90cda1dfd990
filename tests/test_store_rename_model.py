"""A random walk over renames, through the real store: three keys, N volumes, any order of events (see test_store_model).

What the keys may show is a set of whole states. A write that was answered makes others of them; one of which that is not known
leaves both. Whatever a reader, a listing or the refusal of a write says of a key rules states out; when none is left,
a promise was broken: an object lost, doubled, come back, or half renamed.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from abixio.errors import AbixioError, NoSuchKey, OutcomeUnknown, PreconditionFailed
from abixio.store.placing import Along, Placer
from abixio.store.resolve import Version
from abixio.store.types import Move, ObjectInfo, PutSpec
from tests.test_store_model import Violation, Walk, in_memory, on_disk

WALKS = int(os.environ.get("ABIXIO_TEST_WALKS", "30"))
KEYS = ("a", "b", "c")
State = tuple[int, ...]
"""What each key has: the number of a write, 0 for nothing."""
Becomes = Callable[[State], State | None]
"""What a write makes of a state; None when it cannot be done in that state."""
Event = tuple[str, Becomes, Awaitable[object]]


def absent(current: ObjectInfo | None) -> None:
    if current is not None:
        raise PreconditionFailed("If-None-Match")


class RenameWalk(Walk):
    """Of three keys, any two of which are the ends of a rename."""

    sizes = (1, 2, 3, 4, 4, 5)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        if self.rng.random() < 0.5 and self.n > 1:
            self.tolerances = [self.n - 2]  # where most often fewer copies than W may be completed
            self.log.append(f"FTT in {self.tolerances}")
        self.states: set[State] = {(0,) * len(KEYS)}

    # ---- events ------------------------------------------------------------------------------------------------------
    async def write(self) -> None:
        if self.rng.random() < 0.4:
            self.fuse.left = self.rng.randrange(1, 2 * self.n + 3)
        for volume in self.volumes:
            volume.flaky = self.rng.choice((0.0, 0.0, 0.0, 0.2))
        await self.change(self.rng.choice((self.put, self.put, self.delete, self.rename, self.rename, self.rename)))
        for volume in self.volumes:
            volume.flaky = 0.0
        if self.fuse.blown:
            await self.crash()
            self.fuse.left = 10**9
            await self.glance()
        self.fuse.left = 10**9

    async def glance(self) -> None:
        """After a crash, while one and then other volumes are away: somebody asks for one key, or writes to one."""
        before = [volume.away for volume in self.volumes]
        for _ in range(self.rng.randrange(4)):
            for slot in range(self.n):
                self.set_away(slot, self.rng.random() < 0.35)
            self.log.append(f"  only {[slot for slot in range(self.n) if not self.volumes[slot].away]} are there")
            if self.rng.random() < 0.7:
                await self.read(self.rng.randrange(len(KEYS)))
            else:
                await self.change(self.rng.choice((self.put, self.delete, self.rename)))
        for slot, away in enumerate(before):
            self.set_away(slot, away)

    async def change(self, event: Callable[[], Event]) -> None:
        said, becomes, work = event()
        self.log.append(f"{said} fuse {self.fuse.left}")
        after = {new for state in self.states if (new := becomes(state)) is not None}
        try:
            await work
            self.log.append("  acknowledged")
            if not after:
                raise Violation(f"{said} was done, and it can only be {sorted(self.states)}")
            self.states = after
        except (NoSuchKey, PreconditionFailed) as error:
            self.log.append(f"  {error!r}")
            self.refused(said, isinstance(error, NoSuchKey))
        except OutcomeUnknown as error:
            self.log.append(f"  unknown: {error}")
            self.states |= after
        except AbixioError as error:
            self.log.append(f"  refused: {error!r}")
            self.states |= after if self.fuse.blown else set()

    def refused(self, said: str, nothing: bool) -> None:
        """The write saw what is under a key: of a rename the source, of a conditional one its target."""
        if nothing:
            self.observe(KEYS.index(said.split()[1]), lambda value: value == 0, f"{said}: nothing there")
        else:
            self.observe(KEYS.index(said.split()[2]), lambda value: value != 0, f"{said}: something there")

    def put(self) -> Event:
        self.next += 1
        number, at, ftt = self.next, self.rng.randrange(len(KEYS)), self.rng.choice(self.tolerances)
        condition = absent if self.rng.random() < 0.4 else None
        spec = PutSpec("me", ftt=str(ftt), condition=condition) if condition else PutSpec("me", ftt=str(ftt))
        said = f"put {number} {KEYS[at]} ftt {ftt} {'absent' if condition else ''}"

        def becomes(state: State) -> State | None:
            return None if condition and state[at] else (*state[:at], number, *state[at + 1 :])

        return said, becomes, self.done(number, True, KEYS[at], spec)

    def delete(self) -> Event:
        at = self.rng.randrange(len(KEYS))
        return (
            f"delete {KEYS[at]}", lambda state: (*state[:at], 0, *state[at + 1 :]), self.done(0, False, KEYS[at])
        )

    def rename(self) -> Event:
        source, target = self.rng.sample(range(len(KEYS)), 2)
        condition = self.rng.random() < 0.3
        move = Move(KEYS[source], target_check=absent) if condition else Move(KEYS[source])

        def becomes(state: State) -> State | None:
            if not state[source] or (condition and state[target]):
                return None
            moved = list(state)
            moved[target], moved[source] = state[source], 0
            return tuple(moved)

        said = f"rename {KEYS[source]} {KEYS[target]} {'absent' if condition else ''}"
        return said, becomes, self.store.rename(self.bucket, KEYS[target], move)

    # ---- what clients see --------------------------------------------------------------------------------------------
    def observe(self, at: int, fits: Callable[[int], bool], said: str) -> None:
        left = {state for state in self.states if fits(state[at])}
        if not left:
            raise Violation(f"{said}, and it can only be {sorted(self.states)}")
        self.states = left

    async def look(self) -> bool:
        """Whether every reader got an answer."""
        answered = True
        for at in self.rng.sample(range(len(KEYS)), len(KEYS)):
            answered &= await self.read(at)
        try:
            listed = {info.key for info in (await self.store.list(self.bucket, "", "", "", 10)).items}
        except AbixioError:
            return answered
        for at, key in enumerate(KEYS):
            self.observe(at, lambda value, key=key: (value != 0) is (key in listed), f"LIST shows {sorted(listed)}")  # type: ignore[misc]
        return answered

    async def read(self, at: int) -> bool:
        try:
            reader = await self.store.open(self.bucket, KEYS[at])
            seen = int(b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)]))
            await reader.aclose()
        except NoSuchKey:
            seen = 0
        except AbixioError as error:
            self.log.append(f"  reader of {KEYS[at]}: {error!r}")
            return False
        self.log.append(f"  {KEYS[at]} is {seen}")
        self.observe(at, lambda value: value == seen, f"{KEYS[at]} is {seen}")
        return True

    # ---- the end -----------------------------------------------------------------------------------------------------
    async def rest(self) -> None:
        await self.crash()
        for slot in range(self.n):
            self.set_away(slot, False)
        self.log.append("all up")
        for _ in range(12):
            self.store.journal._later.clear()
            await self.store.journal.run_once()
            await self.store.settler.cycle()
            await self.store.settler.cycle()
        left = [[id[1:] for id in disk.unsettled(None, 100)] for disk in self.disks]
        if any(left):
            raise Violation(f"not at rest: {left}")
        if not await self.look():
            raise Violation("stuck: all volumes up, a key is unresolved")
        (state,) = self.states
        for at, key in enumerate(KEYS):
            rows = {len(disk.rows(self.bucket.space, key.encode())) for disk in self.disks}
            if rows != {1 if state[at] else 0}:
                raise Violation(f"rows left over: {rows} of {key} for {state}")


class FourVolumes(RenameWalk):
    """Where a rename that is on two volumes can be completed while the third is away."""

    sizes = (4,)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.tolerances = [2]


async def walks(
    count: int, wipes: bool, blank: Callable[[Path, int], object] = in_memory, first: int = 0, kind: type[RenameWalk] = RenameWalk
) -> RenameWalk | None:
    """The first walk that meets a violation, with its log."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with ThreadPoolExecutor(2) as executor, TemporaryDirectory(dir=memory) as root:
        for number in range(first, first + count):
            walk = kind(number, executor, Path(root), blank)
            try:
                await walk.run(wipes)
            except Violation as error:
                walk.log.append(f"VIOLATION {error} (seed {number})")
                await walk.halt()
                return walk
            finally:
                for disk in walk.disks:
                    disk.close()
    return None


@pytest.mark.parametrize("wipes", [False, True])
@pytest.mark.parametrize(("blank", "share"), [(in_memory, 1), (on_disk, 6)])
async def test_no_order_of_events_loses_or_doubles_what_is_renamed(
    wipes: bool, blank: Callable[[Path, int], object], share: int
) -> None:
    walk = await walks(WALKS // share, wipes, blank)
    assert walk is None, "\n".join(walk.log)


async def apart(self: Placer, *args: object, along: Along | None = None, **kwargs: object) -> set[int]:
    """The two rows in two transactions."""
    done = await INSERT(self, *args, **kwargs)  # type: ignore[arg-type]
    if along is not None:
        done &= await INSERT(self, along.id, along.record, args[2], args[3], None, along.view)  # type: ignore[arg-type]
    return done


INSERT = Placer.insert


async def test_with_two_transactions_the_walk_finds_a_half_renamed_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Placer, "insert", apart)
    assert await walks(20 * WALKS, False) is not None


@pytest.mark.slow
async def test_when_the_rows_are_settled_apart_the_walk_finds_a_lost_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Version, "other", property(lambda self: None))
    assert await walks(40 * WALKS, False, kind=FourVolumes) is not None
