"""CopyObject and UploadPartCopy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from abixio.errors import DataLost
from abixio.s3.call import root_owner
from abixio.s3.copy import Place, parse_source
from abixio.s3.errors import S3Error
from tests.s3_harness import Answer, Harness
from tests.s3_wire import ACCESS

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"
BEFORE = "Sun, 06 Nov 1994 11:59:59 GMT"
DATA = random.Random(3).randbytes((3 << 20) + 17)


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.store.now = 784_123_200_000
    for bucket in ("src", "dst"):
        harness.ask("PUT", f"/{bucket}")
    harness.client().put_object(
        Bucket="src", Key="k", Body=DATA, ContentType="text/plain", CacheControl="no-cache", Metadata={"a": "b", "ec-ftt": "2"},
        StorageClass="STANDARD_IA", WebsiteRedirectLocation="/x",
    )
    yield harness
    assert harness.store.readers == 0, "a reader was left open"
    harness.close()


def copy(s3: Harness, source: str = "src/k", target: str = "/dst/c", **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return s3.ask("PUT", target, {"x-amz-copy-source": source, **sent})


# ---- where from ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("header", "place"),
    [
        ("b/k", ("b", "k")), ("/b/k", ("b", "k")), ("b/a/b/c", ("b", "a/b/c")), ("b//k", ("b", "/k")),
        ("b/k?versionId=null", ("b", "k", "null")), ("b/a%20b", ("b", "a b")), ("%2Fb%2Fk", ("b", "k")),
        ("b/a+b%2Bc", ("b", "a b+c")), ("b/a%3FversionId=x", ("b", "a?versionId=x")), ("b/k?versionId=", ("b", "k", "")),
        ("b/%C3%BC", ("b", "ü")), ("b/\xc3\xbc", ("b", "ü")), ("b/k?x", ("b", "k?x")),
    ],
)
def test_forms_of_the_source(header: str, place: tuple[str, ...]) -> None:
    assert parse_source(header) == Place(*place)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "InvalidArgument"), ("/", "InvalidArgument"), ("bucket", "InvalidArgument"), ("bucket/", "InvalidArgument"),
        ("b/%zz", "InvalidURI"),
        ("b/%ff", "InvalidURI"), ("b/" + "x" * 1025, "KeyTooLongError"),
        ("arn:aws:s3:us-east-1:1:accesspoint/x/object/k", "NotImplemented"),
    ],
)
def test_what_is_no_source(header: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_source(header)
    assert caught.value.code == code


def test_a_source_that_is_not_there(s3: Harness) -> None:
    for source, code, name in (("none/k", "NoSuchBucket", b"<BucketName>none<"), ("src/none", "NoSuchKey", b"<Key>none<")):
        answer = copy(s3, source)
        assert (answer.code, name in answer.body) == (code, True)
    assert copy(s3, target="/none/c").code == "NoSuchBucket"


# ---- what is copied --------------------------------------------------------------------------------------------------
def test_bytes_and_metadata_are_copied_but_not_class_and_redirect(s3: Harness) -> None:
    client = s3.client()
    done = client.copy_object(Bucket="dst", Key="c", CopySource={"Bucket": "src", "Key": "k"})
    assert done["CopyObjectResult"]["ETag"] == client.head_object(Bucket="src", Key="k")["ETag"]
    found = client.get_object(Bucket="dst", Key="c")
    assert found["Body"].read() == DATA
    assert (found["ContentType"], found["CacheControl"]) == ("text/plain", "no-cache")
    assert found["Metadata"] == {"a": "b", "ec-ftt": "2"}
    assert "StorageClass" not in found
    assert "WebsiteRedirectLocation" not in found


def test_replace_takes_all_metadata_from_the_request(s3: Harness) -> None:
    client = s3.client()
    client.copy_object(
        Bucket="dst", Key="c", CopySource="src/k", MetadataDirective="REPLACE", Metadata={"c": "d"}, StorageClass="GLACIER")
    found = client.head_object(Bucket="dst", Key="c")
    assert (found["ContentType"], found["Metadata"], found["StorageClass"]) == ("binary/octet-stream", {"c": "d"}, "GLACIER")
    assert "CacheControl" not in found


def test_metadata_sent_without_replace_is_ignored_except_the_fault_tolerance(s3: Harness) -> None:
    assert copy(s3, x_amz_meta_z="1", content_type="image/png", x_amz_meta_ec_ftt="3").status == 200
    found = s3.client().head_object(Bucket="dst", Key="c")
    assert (found["ContentType"], found["Metadata"]) == ("text/plain", {"a": "b", "ec-ftt": "3"})


def test_unknown_directives(s3: Harness) -> None:
    assert copy(s3, x_amz_metadata_directive="MERGE").code == "InvalidArgument"
    assert copy(s3, x_amz_tagging_directive="MERGE").code == "InvalidArgument"
    assert copy(s3, x_amz_tagging_directive="REPLACE").status == 200
    assert copy(s3, x_amz_tagging="a=b&a=c").code == "InvalidArgument"
    assert s3.ask("HEAD", "/dst/c").status == 200
    assert copy(s3, x_amz_meta_ec_ftt="9", x_amz_metadata_directive="REPLACE").code == "InvalidArgument"


def test_a_copy_onto_itself_must_change_something(s3: Harness) -> None:
    s3.ask("PUT", "/src/plain", body=DATA)
    answer = copy(s3, "src/plain", target="/src/plain")
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert copy(s3, "src/plain", target="/src/plain", x_amz_storage_class="STANDARD").status == 200
    assert s3.ask("HEAD", "/src/k").headers["x-amz-meta-a"] == "b"
    assert copy(s3, target="/src/k", x_amz_storage_class="GLACIER").status == 200
    assert copy(s3, target="/src/k", x_amz_storage_class="GLACIER").status == 200
    assert copy(s3, target="/src/k", x_amz_storage_class="GLACIER", x_amz_meta_ec_ftt="1").status == 200
    assert copy(s3, target="/src/k", x_amz_metadata_directive="REPLACE", x_amz_meta_new="1").status == 200
    found = s3.client().get_object(Bucket="src", Key="k")
    assert (found["Metadata"], found["Body"].read()) == ({"new": "1"}, DATA)


@pytest.mark.parametrize("size", [0, 1, 65536, (1 << 20) - 1, 1 << 20])
def test_sizes(s3: Harness, size: int) -> None:
    s3.ask("PUT", "/src/sized", body=DATA[:size])
    assert copy(s3, "src/sized").status == 200
    assert s3.ask("GET", "/dst/c").body == DATA[:size]


# ---- conditions ------------------------------------------------------------------------------------------------------
def test_conditions_on_the_source(s3: Harness) -> None:
    etag = s3.ask("HEAD", "/src/k").headers["etag"]
    source = "x_amz_copy_source_"
    for name, good, bad in (
        ("if_match", etag, '"x"'), ("if_none_match", '"x"', etag), ("if_modified_since", BEFORE, NOON),
        ("if_unmodified_since", NOON, BEFORE),
    ):
        assert copy(s3, **{source + name: good}).status == 200
        answer = copy(s3, **{source + name: bad})
        assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert copy(s3, **{source + "if_match": etag, source + "if_unmodified_since": BEFORE}).status == 200
    assert copy(s3, **{source + "if_none_match": etag, source + "if_modified_since": BEFORE}).status == 412


def test_conditions_on_the_target(s3: Harness) -> None:
    assert copy(s3, if_none_match="*").status == 200
    assert copy(s3, if_none_match="*").status == 412
    assert copy(s3, if_match='"x"').status == 412
    assert copy(s3, if_match=s3.ask("HEAD", "/dst/c").headers["etag"]).status == 200
    assert copy(s3, if_none_match='"x"').status == 501


def test_expected_owners(s3: Harness) -> None:
    mine = root_owner(ACCESS).id
    assert copy(s3, x_amz_source_expected_bucket_owner=mine, x_amz_expected_bucket_owner=mine).status == 200
    assert copy(s3, x_amz_source_expected_bucket_owner="1").code == "AccessDenied"
    assert copy(s3, x_amz_expected_bucket_owner="1").code == "AccessDenied"


# ---- checksums -------------------------------------------------------------------------------------------------------
def test_the_checksum_of_the_source_is_kept_or_another_computed(s3: Harness) -> None:
    client = s3.client()
    kept: Any = client.head_object(Bucket="src", Key="k", ChecksumMode="ENABLED")
    same = client.copy_object(Bucket="dst", Key="c", CopySource="src/k")["CopyObjectResult"]
    assert same["ChecksumCRC32"] == kept["ChecksumCRC32"]
    other = client.copy_object(Bucket="dst", Key="c", CopySource="src/k", ChecksumAlgorithm="SHA256")["CopyObjectResult"]
    assert "ChecksumCRC32" not in other
    plain: Any = client.put_object(Bucket="src", Key="p", Body=DATA, ChecksumAlgorithm="SHA256")
    assert other["ChecksumSHA256"] == plain["ChecksumSHA256"]
    assert copy(s3, x_amz_checksum_algorithm="MD4").code == "InvalidRequest"
    s3.ask("PUT", "/src/p", body=b"data")
    default = client.copy_object(Bucket="dst", Key="c", CopySource="src/p")["CopyObjectResult"]
    assert (default["ChecksumCRC64NVME"], default["ChecksumType"]) == ("7a5hQ478J4A=", "FULL_OBJECT")


def test_a_source_that_no_longer_matches_its_checksum_is_not_copied(s3: Harness) -> None:
    stored = s3.store.contents["src"].objects["k"]
    stored.data = b"\0" + stored.data[1:]
    assert copy(s3).status == 503
    assert s3.ask("GET", "/dst/c").status == 404


def test_an_error_of_the_store_closes_the_source(s3: Harness) -> None:
    s3.store.failure = DataLost("x")
    assert copy(s3).status == 503
    assert s3.store.readers == 0


def test_a_source_over_five_gibibytes(s3: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abixio.s3.copy.MAX_OBJECT", 1 << 20)
    assert copy(s3).code == "InvalidRequest"


# ---- parts -----------------------------------------------------------------------------------------------------------
def test_parts_can_be_copied_whole_and_by_range(s3: Harness) -> None:
    client = s3.client()
    client.put_object(Bucket="src", Key="big", Body=DATA * 2)
    id = client.create_multipart_upload(Bucket="dst", Key="m", ChecksumAlgorithm="SHA256")["UploadId"]
    first: Any = client.upload_part_copy(Bucket="dst", Key="m", UploadId=id, PartNumber=1, CopySource="src/big")
    second: Any = client.upload_part_copy(
        Bucket="dst", Key="m", UploadId=id, PartNumber=2, CopySource="src/k", CopySourceRange="bytes=17-1048592")
    parts: Any = [
        {"PartNumber": number, "ETag": part["CopyPartResult"]["ETag"], "ChecksumSHA256": part["CopyPartResult"]["ChecksumSHA256"]}
        for number, part in ((1, first), (2, second))
    ]
    client.complete_multipart_upload(Bucket="dst", Key="m", UploadId=id, MultipartUpload={"Parts": parts})
    assert client.get_object(Bucket="dst", Key="m")["Body"].read() == DATA * 2 + DATA[17:1048593]


def test_what_a_part_copy_can_get_wrong(s3: Harness) -> None:
    id = s3.client().create_multipart_upload(Bucket="dst", Key="m")["UploadId"]
    part = f"/dst/m?partNumber=1&uploadId={id}"
    assert copy(s3, target=f"/dst/m?partNumber=0&uploadId={id}").code == "InvalidArgument"
    assert copy(s3, target="/dst/m?partNumber=1&uploadId=none").code == "NoSuchUpload"
    assert copy(s3, "src/none", target=part).code == "NoSuchKey"
    assert copy(s3, target=part, x_amz_copy_source_range="bytes=0-99999999").code == "InvalidArgument"
    assert copy(s3, target=part, x_amz_copy_source_range="bytes=5-").code == "InvalidArgument"
    assert copy(s3, target=part, x_amz_copy_source_if_match='"x"').status == 412
    assert "Parts" not in s3.client().list_parts(Bucket="dst", Key="m", UploadId=id)


def test_the_copy_of_a_multipart_object_gets_a_checksum_of_its_own(s3: Harness) -> None:
    client = s3.client()
    id = client.create_multipart_upload(Bucket="src", Key="m", ChecksumAlgorithm="SHA256")["UploadId"]
    part: Any = client.upload_part(Bucket="src", Key="m", UploadId=id, PartNumber=1, Body=b"data", ChecksumAlgorithm="SHA256")
    parts: Any = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    client.complete_multipart_upload(Bucket="src", Key="m", UploadId=id, MultipartUpload={"Parts": parts})
    copied: Any = client.copy_object(Bucket="dst", Key="c", CopySource="src/m")["CopyObjectResult"]
    assert (copied["ChecksumSHA256"], copied["ChecksumType"]) == (part["ChecksumSHA256"], "FULL_OBJECT")


def test_a_copy_has_no_body(s3: Harness) -> None:
    upload = s3.client().create_multipart_upload(Bucket="dst", Key="m")["UploadId"]
    for target in ("/dst/c", f"/dst/m?partNumber=1&uploadId={upload}"):
        answer = s3.ask("PUT", target, {"x-amz-copy-source": "src/k"}, b"data")
        assert (answer.status, answer.code) == (400, "InvalidRequest")
        assert b"must not include a non-empty body" in answer.body
