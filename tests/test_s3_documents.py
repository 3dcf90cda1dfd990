"""Documents in request bodies: whole, verified, parsed, and never more of them at once than fit."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode

import pytest

from abixio.errors import Overloaded, RequestTimeout
from abixio.message import Request
from abixio.s3 import documents
from abixio.s3.documents import Documents
from abixio.s3.errors import S3Error
from abixio.s3.sigv4 import Identity
from tests.s3_wire import ACCESS, BytesBody, request, unsigned_chunks

UNSIGNED = "UNSIGNED-PAYLOAD"
TRAILING = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
DOCUMENT = b"<Delete><Quiet>true</Quiet></Delete>"


def identity(payload: str = UNSIGNED) -> Identity:
    return Identity(ACCESS, payload, "0" * 64, "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", b"")


def post(body: bytes | BytesBody, **headers: str) -> Request:
    return request("POST", "/b?delete", {"Content-Length": "1", **headers}, body)


async def refused(sent: Request, payload: str = UNSIGNED, limit: int = 1000) -> str:
    with pytest.raises(S3Error) as caught:
        await Documents().read(sent, identity(payload), "Delete", limit)
    return caught.value.code


def long(count: int) -> bytes:
    return b"<Delete>" + b"<Object><Key>k</Key></Object>" * count + b"</Delete>"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2000, 2300, 5000])
async def test_a_document_becomes_a_tree(count: int, known: bool) -> None:
    """Below and above the size from which documents take turns."""
    data = long(count)
    body = BytesBody(data, len(data) if known else None)
    assert len((await Documents().read(post(body), identity(), "Delete", len(data))).children) == count


@pytest.mark.parametrize("known", [True, False])
async def test_a_document_over_the_limit_is_too_large(known: bool) -> None:
    body = BytesBody(bytes(200_001), 200_001 if known else None)
    assert await refused(post(body), limit=200_000) == "MaxMessageLengthExceeded"
    if known:
        assert body.unread == 200_001


async def test_a_document_may_be_chunked() -> None:
    body = unsigned_chunks([DOCUMENT], b"x-amz-checksum-crc32:GYsbSg==\r\n")
    headers = {"x-amz-decoded-content-length": str(len(DOCUMENT)), "x-amz-trailer": "x-amz-checksum-crc32"}
    assert await refused(post(body, **headers), TRAILING) == "BadDigest"


async def test_the_hashes_of_a_document_are_verified() -> None:
    right = {
        "Content-MD5": b64encode(hashlib.md5(DOCUMENT).digest()).decode(),
        "x-amz-checksum-sha1": b64encode(hashlib.sha1(DOCUMENT).digest()).decode(),
    }
    payload = hashlib.sha256(DOCUMENT).hexdigest()
    assert (await Documents().read(post(DOCUMENT, **right), identity(payload), "Delete", 1000)).text("Quiet") == "true"
    other = DOCUMENT.replace(b"true", b"fals")
    for name, value in right.items():
        assert await refused(post(other, **{name: value})) == "BadDigest"
    assert await refused(post(other), payload) == "XAmzContentSHA256Mismatch"
    assert await refused(post(DOCUMENT, **{"Content-MD5": "x"})) == "InvalidDigest"


async def test_checksums_of_the_object_are_not_those_of_the_document() -> None:
    sent = post(DOCUMENT, **{"x-amz-checksum-sha256": "AAAA-2"})
    assert (await Documents().read(sent, identity(), "Delete", 1000, checksums=False)).name == "Delete"


@pytest.mark.parametrize("data", [b"<Delete>", b"<Other/>", b"<!DOCTYPE Delete><Delete/>", b"\xff" + b" " * 70_000])
async def test_what_is_no_such_document_is_malformed_xml(data: bytes) -> None:
    assert await refused(post(data), limit=100_000) == "MalformedXML"


async def test_an_empty_body_is_no_document() -> None:
    assert await refused(post(b"")) == "MissingRequestBodyError"


# ---- bounds ----------------------------------------------------------------------------------------------------------
class SlowBody(BytesBody):
    """Does not come before it is told to."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.go = asyncio.Event()
        self.asked = False

    async def readinto(self, view: memoryview) -> int:
        self.asked = True
        await self.go.wait()
        return await super().readinto(view)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_only_some_long_documents_are_read_at_once_and_short_ones_do_not_wait() -> None:
    desk = Documents()
    bodies = [SlowBody(long(4000)) for _ in range(documents.TURNS + 2)]
    tasks = [asyncio.create_task(desk.read(post(body), identity(), "Delete", 10**6)) for body in bodies]
    await settle()
    assert [body.asked for body in bodies] == [True] * documents.TURNS + [False] * 2
    assert (await desk.read(post(DOCUMENT), identity(), "Delete", 1000)).name == "Delete"
    tasks[-1].cancel()
    for body in bodies:
        body.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, BaseException) for each in found] == [False] * (documents.TURNS + 1) + [True]
    assert len((await desk.read(post(long(4000)), identity(), "Delete", 10**6)).children) == 4000


async def test_too_many_that_wait_are_told_to_slow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "WAITING", 1)
    desk = Documents()
    bodies = [SlowBody(long(4000)) for _ in range(documents.TURNS + 1)]
    tasks = [asyncio.create_task(desk.read(post(body), identity(), "Delete", 10**6)) for body in bodies]
    await settle()
    with pytest.raises(Overloaded):
        await desk.read(post(long(4000)), identity(), "Delete", 10**6)
    for body in bodies:
        body.go.set()
    await asyncio.gather(*tasks)


async def test_a_long_document_that_does_not_come_gives_its_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "SECONDS", 0.05)
    desk = Documents()
    reads = (desk.read(post(SlowBody(long(4000))), identity(), "Delete", 10**6) for _ in range(documents.TURNS))
    found = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(each) for each in found] == [RequestTimeout] * documents.TURNS
    monkeypatch.setattr(documents, "SECONDS", 60)
    assert len((await desk.read(post(long(4000)), identity(), "Delete", 10**6)).children) == 4000
