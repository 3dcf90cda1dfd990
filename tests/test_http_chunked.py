"""The two framings of a body. What counts: the payload is exactly what was sent, however the bytes come, and nothing of the
next request is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio.errors import IncompleteBody
from abixio.http.chunked import MAX_LINE, MAX_TRAILER, Chunked
from abixio.http.framing import Framing, Sized


def decode(framing: Framing, wire: bytes, step: int) -> tuple[bytes, bytes]:
    """Payload and what is left behind the body, receiving `step` bytes at a time."""
    ahead, payload = bytearray(), bytearray()
    for at in range(0, len(wire), step):
        ahead += wire[at : at + step]
        while not framing.done:
            if framing.payload:
                count = min(framing.payload, len(ahead))
                payload += ahead[:count]
                framing.took(count)
            else:
                count = framing.feed(ahead)
            del ahead[:count]
            if count == 0:
                break
    return bytes(payload), bytes(ahead)


STEPS = [1, 2, 3, 7, 1000]


@pytest.mark.parametrize("step", STEPS)
def test_a_sized_body_ends_after_its_bytes(step: int) -> None:
    framing = Sized(5)
    assert decode(framing, b"helloGET /", step) == (b"hello", b"GET /")
    assert framing.done


def test_an_empty_sized_body_has_ended() -> None:
    assert Sized(0).done


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("wire", "payload"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"0\r\n\r\n", b""),
        (b"1\r\na\r\n2\r\nbc\r\n000\r\n\r\n", b"abc"),
        (b"A\r\n0123456789\r\n0a\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
        (b"5;name=value\r\nhello\r\n0;x\r\n\r\n", b"hello"),
        (b'5 ; a="b c"\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32: AAAA\r\nother:\r\n\r\n", b"hello"),
        (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    ],
)
def test_decodes_whatever_the_pieces(wire: bytes, payload: bytes, step: int) -> None:
    framing = Chunked()
    assert decode(framing, wire + b"GET / HTTP/1.1\r\n", step) == (payload, b"GET / HTTP/1.1\r\n")
    assert framing.done


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n", b"g\r\n", b"0x5\r\n", b"+5\r\n", b"-5\r\n", b" 5\r\n", b"5 \r\n", b"5_0\r\n", b"5\n", b"5\rhello", b"\xb2\r\n",
        b"5\r\nhello6\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhell\r\n0\r\n\r\n", b"5\r\nhelloo\r\n", b"1000000000000000\r\n",
        b"5;a\x00b\r\n", b"5;a\x01\r\n", b"5,3\r\n", b"0\r\nfolded: a\r\n b\r\n\r\n", b"0\r\nno colon\r\n\r\n",
        b"0\r\n: x\r\n\r\n", b"0\r\na : b\r\n\r\n", b"0\r\na: b\x00\r\n\r\n", b"0\r\n\n",
        b"5;" + b"x" * MAX_LINE + b"\r\n", b"5;" + b"x" * MAX_LINE,
        b"0\r\n" + b"abc: defghij\r\n" * (MAX_TRAILER // 12 + 1),
    ],
)  # fmt: skip
def test_refuses_broken_framing(wire: bytes, step: int) -> None:
    with pytest.raises(IncompleteBody):
        decode(Chunked(), wire + b"\r\n0\r\n\r\n", step)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.integers(1, 60), st.binary(max_size=20))
def test_any_body_in_any_pieces_comes_back(chunks: list[bytes], step: int, behind: bytes) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert decode(Chunked(), wire + behind, step) == (b"".join(chunks), behind)


@given(st.binary(max_size=80), st.integers(1, 90))
def test_garbage_never_breaks_it(wire: bytes, step: int) -> None:
    framing = Chunked()
    try:
        payload, behind = decode(framing, wire, step)
    except IncompleteBody:
        return
    assert len(payload) + len(behind) <= len(wire)
