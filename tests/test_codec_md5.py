"""Our MD5 is hashlib's, however the bytes are cut."""

from __future__ import annotations

import hashlib
import random
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abixio._md5 import LANES, MD5, update_many

SEED = random.Random(22)
RFC_1321 = {
    b"": "d41d8cd98f00b204e9800998ecf8427e",
    b"a": "0cc175b9c0f1b6a831c399e269772661",
    b"abc": "900150983cd24fb0d6963f7d28e17f72",
    b"message digest": "f96b697d7cb7938d525a2f31aaf161d0",
    b"abcdefghijklmnopqrstuvwxyz": "c3fcd3d76192e4007dfb496cca67e13b",
    b"1234567890" * 8: "57edf4a22be3c955ac49da2e2107b67a",
}


@pytest.mark.parametrize(("data", "digest"), RFC_1321.items())
def test_the_test_suite_of_the_rfc(data: bytes, digest: str) -> None:
    assert MD5(data).hexdigest() == digest


def test_every_length_around_the_blocks() -> None:
    data = SEED.randbytes(300)
    for length in range(300):
        assert MD5(data[:length]).digest() == hashlib.md5(data[:length]).digest()


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(st.binary(max_size=200), max_size=20))
def test_any_cut_of_the_data_gives_the_same_digest(pieces: list[bytes]) -> None:
    hasher = MD5()
    for piece in pieces:
        hasher.update(piece)
    assert hasher.hexdigest() == hashlib.md5(b"".join(pieces)).hexdigest()


def test_big_pieces_at_odd_borders() -> None:
    data = memoryview(SEED.randbytes(3_000_000))
    hasher, at = MD5(), 0
    while at < len(data):
        size = SEED.choice([1, 63, 64, 65, 8191, 8192, 100_000, 777_777])
        hasher.update(data[at : at + size])
        at += size
    assert hasher.digest() == hashlib.md5(data).digest()


def test_more_may_follow_a_digest() -> None:
    hasher = MD5(b"ab")
    assert hasher.hexdigest() == hashlib.md5(b"ab").hexdigest()
    hasher.update(b"c")
    assert hasher.hexdigest() == RFC_1321[b"abc"]


def test_a_copy_goes_its_own_way() -> None:
    first = MD5(b"a" * 70)
    second = first.copy()
    second.update(b"b")
    assert first.digest() == hashlib.md5(b"a" * 70).digest()
    assert second.digest() == hashlib.md5(b"a" * 70 + b"b").digest()


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_all_kinds_of_buffers(wrap: type) -> None:
    assert MD5(wrap(b"abc")).hexdigest() == RFC_1321[b"abc"]


def test_it_describes_itself_as_hashlib_does() -> None:
    assert (MD5.name, MD5.digest_size, MD5.block_size) == ("md5", 16, 64)


def test_text_and_strided_views_are_refused() -> None:
    with pytest.raises(TypeError):
        MD5("abc")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        MD5(memoryview(b"abcdef")[::2])


def test_the_gil_is_dropped_for_a_big_update_and_a_second_thread_is_refused() -> None:
    hasher, data, began = MD5(), bytes(64 << 20), threading.Event()

    def work() -> None:
        began.set()
        hasher.update(data)

    worker, refused = threading.Thread(target=work), 0
    switch = sys.getswitchinterval()
    sys.setswitchinterval(60)  # Nobody is made to give the GIL up: it has to be dropped.
    try:
        worker.start()
        began.wait()
        while worker.is_alive():
            try:
                hasher.digest()
            except RuntimeError:
                refused += 1
            worker.join(0.001)
    finally:
        sys.setswitchinterval(switch)
    assert refused > 5
    assert hasher.digest() == hashlib.md5(data).digest()


# ---- many at once ----------------------------------------------------------------------------------------------------
@settings(max_examples=150, deadline=None)
@given(messages=st.lists(st.lists(st.integers(0, 700), max_size=4), max_size=LANES), seed=st.integers(0, 2**32))
def test_messages_side_by_side_have_the_digests_that_they_have_alone(messages: list[list[int]], seed: int) -> None:
    rng = random.Random(seed)
    running, alone = [MD5() for _ in messages], [hashlib.md5() for _ in messages]
    for turn in range(4):
        pieces = [rng.randbytes(sizes[turn]) if turn < len(sizes) else b"" for sizes in messages]
        update_many(running, pieces)
        for each, piece in zip(alone, pieces, strict=True):
            each.update(piece)
    assert [each.digest() for each in running] == [each.digest() for each in alone]


def test_long_messages_of_different_lengths_side_by_side() -> None:
    messages = [SEED.randbytes(100_000 * number + number) for number in range(LANES)]
    running = [MD5() for _ in messages]
    update_many(running, messages)
    assert [each.digest() for each in running] == [hashlib.md5(message).digest() for message in messages]


def test_a_hash_is_in_a_pass_once_and_has_a_buffer() -> None:
    one, two = MD5(), MD5()
    crowd = [MD5() for _ in range(LANES + 1)]
    for hashes, buffers in (([one, one], [b"a", b"b"]), ([one, two], [b"a"]), (crowd, [b""] * len(crowd))):
        with pytest.raises(ValueError, match="hashes and"):
            update_many(hashes, buffers)
    with pytest.raises(TypeError):
        update_many([one, two], [b"a", "no buffer"])  # type: ignore[list-item]
    update_many([], [])
    assert one.digest() == two.digest() == MD5().digest()
