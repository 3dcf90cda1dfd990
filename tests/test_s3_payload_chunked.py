"""The aws-chunked coding, signed and unsigned, whole and damaged."""

from __future__ import annotations

import random
from base64 import b64encode
from binascii import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abixio.message import Request
from abixio.s3.errors import S3Error
from abixio.s3.names import parse_target
from abixio.s3.payload import payload_source
from abixio.s3.sigv4 import Identity, authenticate
from abixio.store.types import Source
from tests.s3_wire import ACCESS, CREDENTIALS, SECRET, BytesBody, ChunkWriter, derive, request, unsigned_chunks

SCOPE = "20130524/us-east-1/s3/aws4_request"
STAMP = "20130524T000000Z"
SEED = "5" * 64
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
KIB = 1024


def identity(payload: str) -> Identity:
    return Identity(ACCESS, payload, SEED, STAMP, SCOPE, derive(SECRET, SCOPE))


def crc(data: bytes) -> str:
    return b64encode(crc32(data).to_bytes(4, "big")).decode()


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def signed_body(data: bytes, size: int = 64 * KIB, trailer: bool = False) -> bytes:
    writer = ChunkWriter(SEED, STAMP, SCOPE)
    body = b"".join(writer.chunk(piece) for piece in [*pieces(data, size), b""])
    return body + (writer.trailer("x-amz-checksum-crc32", crc(data)) if trailer else b"") + b"\r\n"


def unsigned_body(data: bytes, size: int = 64 * KIB) -> bytes:
    return unsigned_chunks(pieces(data, size), f"x-amz-checksum-crc32:{crc(data)}\r\n".encode())


def source(kind: str, body: bytes | BytesBody, length: int | None, **headers: str) -> Source:
    sent = {"Transfer-Encoding": "chunked"} if isinstance(body, BytesBody) and body.length is None else {"Content-Length": "1"}
    if length is not None:
        sent["x-amz-decoded-content-length"] = str(length)
    if kind != SIGNED:
        sent["x-amz-trailer"] = "x-amz-checksum-crc32"
    return payload_source(request("PUT", "/b/k", {**sent, **headers}, body), identity(kind))


async def receive(found: Source, view: int) -> bytes:
    """As the store reads: views of one size, and another after the last only when the length was not told."""
    data = b""
    buffer = bytearray(view)
    while len(data) != found.length:
        count = await found.readinto(memoryview(buffer))
        data += buffer[:count]
        if count < view:
            break
    return data


async def whole(found: Source, view: int) -> dict[str, str]:
    """All an upload does with a source."""
    data = await receive(found, view)
    return found.verify({"crc32": crc32(data).to_bytes(4, "big")})


async def refused(found: Source, view: int = 1024 * KIB) -> S3Error:
    with pytest.raises(S3Error) as caught:
        await whole(found, view)
    return caught.value


def coded(kind: str, data: bytes, size: int) -> bytes:
    return unsigned_body(data, size) if kind == UNSIGNED_TRAILER else signed_body(data, size, kind == SIGNED_TRAILER)


# ---- published examples ----------------------------------------------------------------------------------------------
EXAMPLE_CHUNKS = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
EXAMPLE_TRAILER_CHUNKS = (
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)


def example(kind: str, seed: str, chunks: tuple[str, ...], trailer: bytes, **headers: str) -> Request:
    """The 66,560 bytes of the S3 documentation."""
    data = b"a" * 66560
    body = b"".join(
        b"%x;chunk-signature=%s\r\n%s" % (len(piece), signature.encode(), piece + b"\r\n" if piece else b"")
        for piece, signature in zip([*pieces(data, 64 * KIB), b""], chunks, strict=True)
    )
    body += trailer
    sent = {
        "Host": "s3.amazonaws.com", "x-amz-date": STAMP, "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "x-amz-content-sha256": kind, "Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": "66560", **headers,
    }
    names = ";".join(sorted(name.lower() for name in sent))
    sent["Authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS}/{SCOPE},SignedHeaders={names},Signature={seed}"
    return request("PUT", "/examplebucket/chunkObject.txt", {"Content-Length": str(len(body)), **sent}, body)


def plain_example() -> Request:
    seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    sent = example(SIGNED, seed, EXAMPLE_CHUNKS, b"\r\n", **{"Content-Length": "66824"})
    assert len(sent.body._data) == 66824  # type: ignore[attr-defined]
    return sent


def trailer_example() -> Request:
    seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
    signature = b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
    trailer = b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:" + signature + b"\r\n\r\n"
    return example(SIGNED_TRAILER, seed, EXAMPLE_TRAILER_CHUNKS, trailer, **{"x-amz-trailer": "x-amz-checksum-crc32c"})


@pytest.mark.parametrize("make", [plain_example, trailer_example])
async def test_published_example_is_accepted(make) -> None:  # type: ignore[no-untyped-def]
    sent = make()
    found = payload_source(sent, authenticate(sent, parse_target(sent.target), CREDENTIALS, "us-east-1", 1369353600.0))
    assert await receive(found, 100_000) == b"a" * 66560
    kept = found.verify({"crc32c": bytes.fromhex("b0e3bcfd")})
    assert kept == ({"crc32c": "sOO8/Q=="} if make is trailer_example else {})


# ---- what arrives ----------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER]),
    st.integers(0, 300 * KIB), st.integers(8 * KIB, 128 * KIB), st.integers(1 * KIB, 256 * KIB), st.booleans(), st.integers(),
)
async def test_the_payload_comes_out_whatever_the_sizes(
    kind: str, size: int, chunk: int, view: int, announced: bool, seed: int
) -> None:
    data = random.Random(seed).randbytes(size)
    body = BytesBody(coded(kind, data, chunk), None if not announced else -1, seed)
    found = source(kind, body, size if announced else None)
    if size == 0 and announced:
        assert await found.readinto(memoryview(bytearray(view))) == 0
    assert await receive(found, view) == data
    assert body.unread == 0
    expected = {} if kind == SIGNED else {"crc32": crc(data)}
    assert found.verify({"crc32": crc32(data).to_bytes(4, "big")}) == expected


async def test_big_chunks_are_hashed_off_the_event_loop_and_still_checked() -> None:
    data = random.Random(1).randbytes(3 * KIB * KIB)
    body = signed_body(data, KIB * KIB)
    assert await receive(source(SIGNED, body, len(data)), 4 * KIB * KIB) == data
    damaged = bytearray(body)
    damaged[2 * KIB * KIB] ^= 1
    assert (await refused(source(SIGNED, bytes(damaged), len(data)), 4 * KIB * KIB)).code == "SignatureDoesNotMatch"


async def test_the_end_is_read_with_the_last_payload_byte() -> None:
    """A reader that knows the length does not come back for the trailer."""
    body = BytesBody(unsigned_body(b"x" * 10_000))
    found = source(UNSIGNED_TRAILER, body, 10_000)
    assert await found.readinto(memoryview(bytearray(10_000))) == 10_000
    assert body.unread == 0
    assert found.verify({"crc32": crc32(b"x" * 10_000).to_bytes(4, "big")})


async def test_a_body_whose_end_was_not_read_is_not_verified() -> None:
    found = source(UNSIGNED_TRAILER, unsigned_body(b"x" * 10_000), 10_000)
    await found.readinto(memoryview(bytearray(5_000)))
    with pytest.raises(S3Error, match="IncompleteBody"):
        found.verify({"crc32": b""})


async def test_the_form_of_the_common_runtime_is_accepted() -> None:
    """One chunk for all, its size in upper case."""
    data = b"y" * 0xABCDE
    body = b"ABCDE\r\n" + data + b"\r\n0\r\nx-amz-checksum-crc32:" + crc(data).encode() + b"\r\n\r\n"
    assert await receive(source(UNSIGNED_TRAILER, body, len(data)), KIB * KIB) == data


async def test_the_published_form_of_a_trailer_is_accepted() -> None:
    """A line feed after the checksum and an empty line before the signature, as some clients took from the documentation."""
    body = signed_body(b"abc", trailer=True).replace(b"\r\nx-amz-trailer-signature", b"\n\r\nx-amz-trailer-signature")
    assert await receive(source(SIGNED_TRAILER, body, 3), 100) == b"abc"


# ---- damage ----------------------------------------------------------------------------------------------------------
@settings(max_examples=150, deadline=None)
@given(st.sampled_from([SIGNED, SIGNED_TRAILER]), st.data())
async def test_no_changed_byte_of_a_signed_body_gets_through(kind: str, data: st.DataObject) -> None:
    payload = bytes(range(256)) * 40
    body = bytearray(coded(kind, payload, 8 * KIB))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.sampled_from([1, 2, 4, 128]))
    found = source(kind, bytes(body), len(payload))
    try:
        received = await receive(found, 4 * KIB)
        found.verify({"crc32": crc32(payload).to_bytes(4, "big")})
    except S3Error as error:
        codes = {"SignatureDoesNotMatch", "IncompleteBody", "MalformedTrailerError", "InvalidChunkSizeError", "InvalidRequest"}
        assert error.code in codes  # noqa: PT017
    else:
        # Only the spelling of a hex digit or of a trailer's name can differ without being another body.
        assert received == payload
        assert bytes(body).lower() == coded(kind, payload, 8 * KIB).lower()


async def test_a_changed_byte_of_a_chunk_is_a_wrong_signature() -> None:
    body = signed_body(b"a" * 20_000, 8 * KIB).replace(b"aaa", b"aab", 1)
    error = await refused(source(SIGNED, body, 20_000))
    assert (error.code, error.status) == ("SignatureDoesNotMatch", 403)
    assert str(error.fields["StringToSign"]).startswith(f"AWS4-HMAC-SHA256-PAYLOAD\n{STAMP}\n{SCOPE}\n{SEED}\n")


async def test_chunks_in_another_order_have_wrong_signatures() -> None:
    writer = ChunkWriter(SEED, STAMP, SCOPE)
    first, second, last = (writer.chunk(piece) for piece in (b"a" * 8192, b"b" * 8192, b""))
    assert (await refused(source(SIGNED, second + first + last + b"\r\n", 16384))).code == "SignatureDoesNotMatch"


async def test_a_body_cut_to_fewer_chunks_is_refused() -> None:
    """The last chunk signs the one before it, so none can be left out."""
    writer = ChunkWriter(SEED, STAMP, SCOPE)
    first, _, last = (writer.chunk(piece) for piece in (b"a" * 8192, b"b" * 8192, b""))
    assert (await refused(source(SIGNED, first + last + b"\r\n", 8192))).code == "SignatureDoesNotMatch"


async def test_another_seed_is_refused() -> None:
    sent = request("PUT", "/b/k", {"Content-Length": "1", "x-amz-decoded-content-length": "3"}, signed_body(b"abc"))
    other = Identity(ACCESS, SIGNED, "6" * 64, STAMP, SCOPE, derive(SECRET, SCOPE))
    assert (await refused(payload_source(sent, other))).code == "SignatureDoesNotMatch"


async def test_a_changed_trailer_is_a_wrong_signature() -> None:
    body = signed_body(b"abc", trailer=True)
    error = await refused(source(SIGNED_TRAILER, body.replace(crc(b"abc").encode(), crc(b"abd").encode()), 3))
    assert error.code == "SignatureDoesNotMatch"
    assert str(error.fields["StringToSign"]).startswith("AWS4-HMAC-SHA256-TRAILER\n")


async def test_a_signed_trailer_needs_its_signature() -> None:
    body, _, _ = signed_body(b"abc", trailer=True).partition(b"x-amz-trailer-signature")
    assert (await refused(source(SIGNED_TRAILER, body + b"\r\n", 3))).code == "MalformedTrailerError"


async def test_a_wrong_trailing_checksum_is_a_bad_digest() -> None:
    body = unsigned_body(b"abc").replace(b"abc", b"abd", 1)
    error = await refused(source(UNSIGNED_TRAILER, body, 3))
    assert (error.code, error.message) == ("BadDigest", "The CRC32 you specified did not match the calculated checksum.")


TRAILER = b"x-amz-checksum-crc32:" + crc(b"abc").encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"3\r\nabc\r\n0\r\n\r\n", "MalformedTrailerError"),
        (b"3\r\nabc\r\n0\r\nx-amz-checksum-sha1:AAAA\r\n\r\n", "MalformedTrailerError"),
        (b"3\r\nabc\r\n0\r\n" + TRAILER + b"\r\nx-other:1\r\n\r\n", "MalformedTrailerError"),
        (b"3\r\nabc\r\n0\r\n" + TRAILER.replace(b":", b"") + b"\r\n\r\n", "MalformedTrailerError"),
        (b"3\r\nabc\r\n0\r\n:" + TRAILER + b"\r\n\r\n", "MalformedTrailerError"),
        (b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:nonsense\r\n\r\n", "InvalidRequest"),
        (b"3\r\nabc\r\n0\r\n" + TRAILER + b"\r\n" * 20, "MalformedTrailerError"),
        (b"3\r\nabc\r\n0\r\n" + b"x" * 5000 + b"\r\n\r\n", "IncompleteBody"),
        (b"3\r\nabc\r\n0\r\n" + TRAILER + b"\r\n", "IncompleteBody"),
        (b"3\r\nabc\r\n0\r\n" + TRAILER + b"\r\n\rX", "MalformedTrailerError"),
        (b"3\r\nabc\r\n0\r\n" + TRAILER, "MalformedTrailerError"),
        (b"3\r\nabc\r\n0", "IncompleteBody"),
        (b"3\r\nabc\r\n", "IncompleteBody"),
        (b"3\r\nabc", "IncompleteBody"),
        (b"3\r\nab", "IncompleteBody"),
        (b"3\r\n", "IncompleteBody"),
        (b"", "IncompleteBody"),
        (b"3\nabc\n0\n\n", "IncompleteBody"),
        (b"3\r\nabcd\r\n0\r\n\r\n", "IncompleteBody"),
        (b"2\r\nabc\r\n0\r\n\r\n", "IncompleteBody"),
        (b"-3\r\nabc\r\n0\r\n\r\n", "IncompleteBody"),
        (b"+3\r\nabc\r\n0\r\n\r\n", "IncompleteBody"),
        (b"0x3\r\nabc\r\n0\r\n\r\n", "IncompleteBody"),
        (b" 3\r\nabc\r\n0\r\n\r\n", "IncompleteBody"),
        (b"3;name=value\r\nabc\r\n0\r\n\r\n", "IncompleteBody"),
        (b"\r\n3\r\nabc\r\n0\r\n\r\n", "IncompleteBody"),
        (b"f" * 16 + b"\r\nabc", "IncompleteBody"),
        (b"f" * 17 + b"\r\nabc", "IncompleteBody"),
        (b"f" * 10_000 + b"\r\nabc", "IncompleteBody"),
        (b"4\r\nabcd\r\n0\r\n" + TRAILER + b"\r\n\r\n", "IncompleteBody"),
        (b"2\r\nab\r\n0\r\n" + TRAILER + b"\r\n\r\n", "IncompleteBody"),
        (b"0\r\n" + TRAILER + b"\r\n\r\n", "IncompleteBody"),
        (b"abc", "IncompleteBody"),
    ],
)
async def test_every_mistake_in_the_coding_has_its_error(body: bytes, code: str) -> None:
    for view in (1, 3, 1000):
        assert (await refused(source(UNSIGNED_TRAILER, BytesBody(body, None), 3), view)).code == code


@pytest.mark.parametrize(
    "line", [b"3", b"3;chunk-signature=", b"3;chunk-signature=" + b"0" * 63, b"3;chunk-signature=" + b"G" * 64]
)
async def test_a_signed_chunk_needs_a_signature(line: bytes) -> None:
    assert (await refused(source(SIGNED, line + b"\r\nabc\r\n", 3))).code == "IncompleteBody"


@pytest.mark.parametrize("kind", [SIGNED, UNSIGNED_TRAILER])
async def test_only_the_last_chunk_may_be_small(kind: str) -> None:
    writer = ChunkWriter(SEED, STAMP, SCOPE)
    chunks = [b"a" * 8192, b"b" * 8191, b"c"]
    body = unsigned_chunks(chunks) if kind == UNSIGNED_TRAILER else b"".join(writer.chunk(piece) for piece in chunks)
    error = await refused(source(kind, body, 16384))
    assert (error.code, error.status) == ("InvalidChunkSizeError", 403)
    assert error.fields == {"Chunk": 3, "BadChunkSize": 8191}


async def test_an_endless_body_of_unknown_length_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abixio.s3.payload_chunked.MAX_OBJECT", 20_000)
    error = await refused(source(UNSIGNED_TRAILER, BytesBody(unsigned_body(b"x" * 30_000, 8192), None), None))
    assert (error.code, error.status) == ("EntityTooLarge", 400)
