"""GetObjectAttributes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.s3_harness import Answer, Harness

ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
SIZES = [5 << 20, 5 << 20, 10]


@pytest.fixture(scope="module")
def s3() -> Iterator[Harness]:
    harness = Harness()
    client = harness.client()
    client.create_bucket(Bucket="b01")
    client.put_object(Bucket="b01", Key="k", Body=b"data", ChecksumAlgorithm="SHA256", StorageClass="GLACIER")
    harness.ask("PUT", "/b01/plain", body=b"data")
    upload = client.create_multipart_upload(Bucket="b01", Key="m", ChecksumAlgorithm="CRC32")["UploadId"]
    parts = []
    for number, size in zip((2, 4, 7), SIZES, strict=True):
        made = client.upload_part(Bucket="b01", Key="m", UploadId=upload, PartNumber=number, Body=bytes(size))
        parts.append({"PartNumber": number, "ETag": made["ETag"], "ChecksumCRC32": made["ChecksumCRC32"]})
    client.complete_multipart_upload(Bucket="b01", Key="m", UploadId=upload, MultipartUpload={"Parts": parts})
    yield harness
    harness.close()


def attributes(s3: Harness, key: str, names: str, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return s3.ask("GET", f"/b01/{key}{'&' if '?' in key else '?'}attributes", {"x-amz-object-attributes": names, **sent})


def test_all_attributes_of_an_object(s3: Harness) -> None:
    client = s3.client()
    head = client.head_object(Bucket="b01", Key="k", ChecksumMode="ENABLED")
    found = client.get_object_attributes(Bucket="b01", Key="k", ObjectAttributes=ALL)  # type: ignore[arg-type]
    assert found["ETag"] == head["ETag"].strip('"')
    assert found["Checksum"] == {"ChecksumSHA256": head["ChecksumSHA256"], "ChecksumType": "FULL_OBJECT"}
    assert (found["ObjectSize"], found["StorageClass"], found["LastModified"]) == (4, "GLACIER", head["LastModified"])
    assert "ObjectParts" not in found


def test_only_what_is_asked_for_is_told(s3: Harness) -> None:
    client = s3.client()
    found = client.get_object_attributes(Bucket="b01", Key="m", ObjectAttributes=["ObjectSize"])
    assert set(found) == {"ObjectSize", "LastModified", "ResponseMetadata"}
    assert found["ObjectSize"] == sum(SIZES)


def test_an_object_whose_client_sent_no_checksum_has_the_default_one(s3: Harness) -> None:
    body = attributes(s3, "plain", "Checksum,ETag").body
    assert b"<ChecksumCRC64NVME>7a5hQ478J4A=</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType>" in body
    assert b"<ETag>8d777f385d3dfec8815d20f7496026dc</ETag>" in body


def test_the_parts_of_a_multipart_object(s3: Harness) -> None:
    client = s3.client()
    found = client.get_object_attributes(Bucket="b01", Key="m", ObjectAttributes=ALL)  # type: ignore[arg-type]
    assert re.fullmatch(r"[0-9a-f]{32}-3", found["ETag"])
    head = client.head_object(Bucket="b01", Key="m", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"].endswith("-3")
    assert found["Checksum"] == {"ChecksumCRC32": head["ChecksumCRC32"].removesuffix("-3"), "ChecksumType": "COMPOSITE"}
    parts = found["ObjectParts"]
    assert (parts["TotalPartsCount"], parts["MaxParts"], parts["IsTruncated"]) == (3, 1000, False)
    assert [(part["PartNumber"], part["Size"]) for part in parts["Parts"]] == list(zip((2, 4, 7), SIZES, strict=True))
    assert all(len(part["ChecksumCRC32"]) == 8 for part in parts["Parts"])


def test_parts_show_the_checksum_of_the_objects_kind_only(s3: Harness) -> None:
    client = s3.client()
    upload = client.create_multipart_upload(Bucket="b01", Key="u")["UploadId"]
    part = client.upload_part(Bucket="b01", Key="u", UploadId=upload, PartNumber=1, Body=b"data", ChecksumAlgorithm="SHA1")
    client.complete_multipart_upload(Bucket="b01", Key="u", UploadId=upload, MultipartUpload={
        "Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    found = client.get_object_attributes(Bucket="b01", Key="u", ObjectAttributes=ALL)  # type: ignore[arg-type]
    (shown,) = found["ObjectParts"]["Parts"]
    assert {name for name in shown if name.startswith("Checksum")} == {"ChecksumCRC64NVME"}
    head = client.head_object(Bucket="b01", Key="u", PartNumber=1, ChecksumMode="ENABLED")
    assert {name for name in head if name.startswith("Checksum")} == {"ChecksumCRC64NVME"}


def test_parts_come_in_pages(s3: Harness) -> None:
    client = s3.client()
    numbers, marker, more = [], 0, True
    while more:
        page = client.get_object_attributes(
            Bucket="b01", Key="m", ObjectAttributes=["ObjectParts"], MaxParts=2, PartNumberMarker=marker
        )["ObjectParts"]
        assert (page["TotalPartsCount"], page["PartNumberMarker"], page["MaxParts"]) == (3, marker, 2)
        numbers += [part["PartNumber"] for part in page["Parts"]]
        marker, more = page["NextPartNumberMarker"], page["IsTruncated"]
    assert numbers == [2, 4, 7]
    none = attributes(s3, "m", "ObjectParts", x_amz_max_parts="0").body
    assert b"<IsTruncated>false</IsTruncated>" in none
    assert b"<Part>" not in none


def test_a_number_of_parts_that_is_none_is_ignored(s3: Harness) -> None:
    for number in ("-1", "x", "9" * 30, "1.5", ""):
        assert attributes(s3, "m", "ObjectParts", x_amz_max_parts=number).body.count(b"<Part>") == 3


@pytest.mark.parametrize("names", ["", ","])
def test_no_attributes_are_refused(s3: Harness, names: str) -> None:
    assert attributes(s3, "k", names).code == "InvalidRequest"


@pytest.mark.parametrize("names", ["Size", "ETag,etag"])
def test_unknown_attributes_are_refused(s3: Harness, names: str) -> None:
    assert attributes(s3, "k", names).code == "InvalidArgument"


@pytest.mark.parametrize("name", ["x_amz_part_number_marker"])
@pytest.mark.parametrize("value", ["-1", "x", "9" * 30, "1.5"])
def test_numbers_that_are_none_are_refused(s3: Harness, name: str, value: str) -> None:
    assert attributes(s3, "m", "ObjectParts", **{name: value}).code == "InvalidArgument"


def test_what_is_not_there_has_no_attributes(s3: Harness) -> None:
    assert attributes(s3, "none", "ETag").code == "NoSuchKey"
    assert attributes(s3, f"k?versionId={'x' * 32}", "ETag").code == "NoSuchVersion"
    assert attributes(s3, "k?versionId=null", "ETag").status == 200
