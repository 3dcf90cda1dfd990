"""MD5 of several uploads in one pass: each has its own digest, in the order of its pieces; nobody waits for company."""

from __future__ import annotations

import asyncio
import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from abixio._md5 import LANES, MD5
from abixio.store import gang as module
from abixio.store.gang import Gang


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many were hashed in each pass."""
    sizes: list[int] = []
    original = module.update_many

    def count(hashes: list[MD5], buffers: list[bytes]) -> None:
        sizes.append(len(hashes))
        original(hashes, buffers)

    monkeypatch.setattr(module, "update_many", count)
    return sizes


async def test_uploads_at_the_same_time_have_the_digests_of_their_own_bytes(passes: list[int]) -> None:
    rng = random.Random(5)
    bodies = [[rng.randbytes(rng.randrange(200_000)) for _ in range(5)] for _ in range(40)]
    with ThreadPoolExecutor(3) as executor:
        gang = Gang(executor, asyncio.get_running_loop(), 2)

        async def upload(pieces: list[bytes]) -> bytes:
            running = MD5()
            for piece in pieces:
                await gang.update(running, piece)
            return running.digest()

        digests = await asyncio.gather(*(upload(pieces) for pieces in bodies))
    assert digests == [hashlib.md5(b"".join(pieces)).digest() for pieces in bodies]
    assert sum(passes) == 200
    assert max(passes) == LANES
    assert len(passes) < 40, "most of them shared a pass"


async def test_a_stripe_alone_is_hashed_at_once(passes: list[int]) -> None:
    with ThreadPoolExecutor(1) as executor:
        gang = Gang(executor, asyncio.get_running_loop(), 1)
        running = MD5()
        await gang.update(running, b"abc")
        assert running.hexdigest() == hashlib.md5(b"abc").hexdigest()
    assert passes == [1]


async def test_a_pass_that_fails_fails_for_all_that_were_in_it_and_the_next_goes_on() -> None:
    with ThreadPoolExecutor(1) as executor:
        gang = Gang(executor, asyncio.get_running_loop(), 1)
        first, one, two = MD5(), MD5(), MD5()
        busy = gang.update(first, bytes(1_000_000))
        failed = [gang.update(one, b"a"), gang.update(two, "no bytes")]  # type: ignore[arg-type]
        await busy
        for future in failed:
            with pytest.raises(TypeError):
                await future
        await gang.update(one, b"abc")
        assert one.hexdigest() == hashlib.md5(b"abc").hexdigest()
