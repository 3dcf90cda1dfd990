"""Multipart uploads through the whole store: parts become an object without a copy, and nothing of an upload stays behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
from base64 import b64encode
from pathlib import Path
from zlib import crc32

import pytest

from abixio.config import MIN_PART
from abixio.errors import (
    DigestMismatch,
    InvalidPart,
    InvalidPartOrder,
    NoSuchKey,
    NoSuchUpload,
    PartTooSmall,
    Unavailable,
)
from abixio.store.store import Store
from abixio.store.types import Bucket, PartRef, PutSpec, Upload
from tests.store_local import Disks, files, get, put, rest
from tests.store_rig import BytesSource


class Sums(BytesSource):
    """A part with a CRC32."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, algorithms=("crc32",))

    def verify(self, digests: object) -> dict[str, str]:
        return {"crc32": b64encode(digests["crc32"]).decode()}  # type: ignore[index]


async def fill(store: Store, bucket: Bucket, upload: Upload, bodies: dict[int, bytes]) -> list[PartRef]:
    """Upload the parts, last one first."""
    refs = []
    for number, body in sorted(bodies.items(), reverse=True):
        part = await store.put_part(bucket, upload.key, upload.id, number, BytesSource(body))
        refs.append(PartRef(number, part.etag))
    return refs[::-1]


async def test_parts_become_an_object_and_leave_no_trace_of_the_upload(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    bodies = {2: os.urandom(MIN_PART), 5: os.urandom(MIN_PART + 77), 9: os.urandom(3)}
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me", meta={"a": "b"}, ftt="2"))
        refs = await fill(store, bucket, upload, bodies)
        assert (await store.list(bucket, "", "", "", 10)).items == []
        info = await store.complete_upload(bucket, "k", upload.id, refs)
        expected = hashlib.md5(b"".join(bytes.fromhex(ref.etag[:32]) for ref in refs)).hexdigest()
        assert info.etag == f"{expected}-3"
        assert info.record.meta == {"a": "b"}
        assert info.record.layout is not None
        assert info.record.layout.m == 2
        whole = b"".join(bodies.values())
        assert await get(store, bucket, "k") == whole
        assert await get(store, bucket, "k", MIN_PART - 5, 20) == whole[MIN_PART - 5 : MIN_PART + 15]
        assert (await store.uploads(bucket, "", "", ("", ""), 10))[0] == []
        await rest(store)
        assert files(disks) == 4 * 3
        for lane in store.pool.up():
            assert lane.volume.history(bytes.fromhex(upload.id), b"", 100) == []
            assert lane.volume.unsettled(None, 10) == []
    async with disks.store(missing=(0, 3)) as store:
        assert await get(store, bucket, "k") == whole


async def test_completing_twice_gives_the_same_answer_and_aborting_after_that_harms_nothing(tmp_path: Path) -> None:
    async with Disks(tmp_path, 4).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        refs = await fill(store, bucket, upload, {1: b"x" * 100_000})
        first = await store.complete_upload(bucket, "k", upload.id, refs)
        assert await store.complete_upload(bucket, "k", upload.id, refs) == first
        await rest(store)
        assert await store.complete_upload(bucket, "k", upload.id, refs) == first
        with pytest.raises(NoSuchUpload):
            await store.abort_upload(bucket, "k", upload.id)
        await rest(store)
        assert await get(store, bucket, "k") == b"x" * 100_000
        await put(store, bucket, "k", b"newer")
        with pytest.raises(NoSuchUpload):
            await store.complete_upload(bucket, "k", upload.id, refs)
        assert await get(store, bucket, "k") == b"newer"


async def test_a_crash_between_object_and_tombstone_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is visible, the upload still open: complete answers the same, abort leaves the object whole."""
    from abixio.store.completion import Completion

    async def dies(self: Completion, space: bytes, name: bytes, id: bytes) -> None:
        raise Unavailable("the process would be dead here")

    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        ids = {}
        for key in ("again", "abort"):
            upload = await store.create_upload(bucket, key, PutSpec("me"))
            refs = await fill(store, bucket, upload, {1: os.urandom(200_000)})
            with monkeypatch.context() as patch:
                patch.setattr(Completion, "_bury", dies)
                with pytest.raises(Unavailable):
                    await store.complete_upload(bucket, key, upload.id, refs)
            ids[key] = upload.id, refs
    async with disks.store() as store:
        before = {key: await get(store, bucket, key) for key in ids}
        assert [upload.key for upload in (await store.uploads(bucket, "", "", ("", ""), 10))[0]] == ["abort", "again"]
        await store.complete_upload(bucket, "again", *ids["again"])
        await store.abort_upload(bucket, "abort", ids["abort"][0])
        await rest(store)
        assert (await store.uploads(bucket, "", "", ("", ""), 10))[0] == []
        assert {key: await get(store, bucket, key) for key in ids} == before
        assert files(disks) == 8


async def test_what_a_completion_may_not_name(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        one, two = await fill(store, bucket, upload, {1: b"small", 2: b"last"})
        for refs, error in (
            ([one, two], PartTooSmall), ([two, one], InvalidPartOrder), ([one, one], InvalidPartOrder),
            ([PartRef(1, two.etag)], InvalidPart), ([PartRef(3, one.etag)], InvalidPart),
            ([PartRef(1, one.etag, {"crc32": "AAAA"})], InvalidPart),
        ):
            with pytest.raises(error):
                await store.complete_upload(bucket, "k", upload.id, refs)
        for id in ("", "x", "00" * 16, upload.id.upper() + "0", "zz" * 16):
            with pytest.raises(NoSuchUpload):
                await store.complete_upload(bucket, "k", id, [one])
        with pytest.raises(NoSuchUpload):
            await store.complete_upload(bucket, "other", upload.id, [one])
        assert (await store.complete_upload(bucket, "k", upload.id, [two])).size == 4


async def test_a_part_sent_again_replaces_the_first_and_an_aborted_upload_leaves_nothing(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
        for body in (b"first" * 30_000, b"second" * 30_000):
            part = await store.put_part(bucket, "k", upload.id, 1, BytesSource(body))
        await store.put_part(bucket, "k", upload.id, 7, BytesSource(b"x"))
        parts, more = await store.parts(bucket, "k", upload.id, 0, 1)
        assert ([p.number for p in parts], more, parts[0].etag) == ([1], True, part.etag)
        assert [p.number for p in (await store.parts(bucket, "k", upload.id, 1, 10))[0]] == [7]
        await rest(store)
        assert files(disks) == 8
        await store.abort_upload(bucket, "k", upload.id)
        for call in (store.put_part(bucket, "k", upload.id, 1, BytesSource(b"x")), store.parts(bucket, "k", upload.id, 0, 1)):
            with pytest.raises(NoSuchUpload):
                await call
        await rest(store)
        assert files(disks) == 0


async def test_an_object_of_parts_that_different_volumes_missed_is_whole_everywhere(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 4)
    bodies = {1: os.urandom(MIN_PART), 2: os.urandom(MIN_PART), 3: os.urandom(10)}
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        upload = await store.create_upload(bucket, "k", PutSpec("me"))
    refs = []
    for number, body in bodies.items():
        async with disks.store(missing=(number,)) as store:
            part = await store.put_part(bucket, "k", upload.id, number, BytesSource(body))
            refs.append(PartRef(number, part.etag))
    async with disks.store() as store:
        await store.complete_upload(bucket, "k", upload.id, refs)
        await rest(store)
    for slot in range(4):
        async with disks.store(missing=(slot,)) as store:
            assert await get(store, bucket, "k") == b"".join(bodies.values())


async def test_completion_abort_and_parts_at_once_leave_one_outcome(tmp_path: Path) -> None:
    disks = Disks(tmp_path, 3)
    async with disks.store() as store:
        bucket = await store.create_bucket("b", "me", {})
        for turn in range(6):
            key = f"k{turn}"
            upload = await store.create_upload(bucket, key, PutSpec("me"))
            refs = await fill(store, bucket, upload, {1: b"x" * 100_000})
            complete, abort, _ = await asyncio.gather(
                store.complete_upload(bucket, key, upload.id, refs), store.abort_upload(bucket, key, upload.id),
                store.put_part(bucket, key, upload.id, 2, BytesSource(b"late" * 30_000)), return_exceptions=True,
            )
            await rest(store)
            if isinstance(complete, BaseException):
                assert (type(complete), abort) == (NoSuchUpload, None)
                with pytest.raises(NoSuchKey):
                    await get(store, bucket, key)
            else:
                assert isinstance(abort, NoSuchUpload)
                assert await get(store, bucket, key) == b"x" * 100_000
                assert await store.delete(bucket, key)
            await rest(store)
            assert files(disks) == 0


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
async def test_checksums_of_the_whole_come_from_those_of_the_parts(tmp_path: Path, kind: str) -> None:
    bodies = [os.urandom(MIN_PART), os.urandom(1000)]
    sums = [crc32(body).to_bytes(4, "big") for body in bodies]
    whole = b64encode(crc32(b"".join(bodies)).to_bytes(4, "big")).decode()
    expected = whole if kind == "FULL_OBJECT" else b64encode(crc32(b"".join(sums)).to_bytes(4, "big")).decode() + "-2"
    async with Disks(tmp_path, 3).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        settings = {"checksum_algorithm": "CRC32", "checksum_type": kind}
        upload = await store.create_upload(bucket, "k", PutSpec("me", settings=settings, checksum_type=kind))
        refs = []
        for number, body in enumerate(bodies, 1):
            part = await store.put_part(bucket, "k", upload.id, number, Sums(body))
            refs.append(PartRef(number, part.etag, part.checksums))
        with pytest.raises(DigestMismatch):
            await store.complete_upload(bucket, "k", upload.id, refs, checksums={"crc32": "AAAAAA=="})
        info = await store.complete_upload(bucket, "k", upload.id, refs, checksums={"crc32": expected})
        assert info.record.checksums == {"crc32": expected}


async def test_uploads_are_listed_by_key_and_time_in_pages(tmp_path: Path) -> None:
    async with Disks(tmp_path, 3).store() as store:
        bucket = await store.create_bucket("b", "me", {})
        made = []
        for key in ("a", "b/1", "b/2", "c", "c", "c"):
            upload = await store.create_upload(bucket, key, PutSpec("me"))
            made.append((key, upload.id))
            await asyncio.sleep(0.002)
        seen, after = [], ("", "")
        while True:
            page, prefixes, truncated, after = await store.uploads(bucket, "", "", after, 2)
            seen += [(upload.key, upload.id) for upload in page]
            assert prefixes == []
            if not truncated:
                break
        assert seen == made
        page, prefixes, _, _ = await store.uploads(bucket, "", "/", ("", ""), 10)
        assert ([upload.key for upload in page], prefixes) == (["a", "c", "c", "c"], ["b/"])
        page, prefixes, truncated, after = await store.uploads(bucket, "", "/", ("", ""), 2)
        assert ([upload.key for upload in page], prefixes, truncated) == (["a"], ["b/"], True)
        page, prefixes, truncated, _ = await store.uploads(bucket, "", "/", after, 10)
        assert ([upload.key for upload in page], prefixes, truncated) == (["c", "c", "c"], [], False)
        assert [u.key for u in (await store.uploads(bucket, "b/", "", ("b/1", ""), 10))[0]] == ["b/2"]
