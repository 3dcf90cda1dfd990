"""Multipart uploads."""

from __future__ import annotations

import hashlib
import random
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from awscrt.checksums import crc32, crc32c, crc64nvme

from abixio.s3.xml import parse
from tests.s3_harness import Answer, Harness

MIN = 5 << 20
BIG = random.Random(5).randbytes(MIN)


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    yield harness
    assert harness.store.readers == 0, "a reader was left open"
    harness.close()


def create(s3: Harness, **headers: str) -> str:
    answer = s3.ask("POST", "/b01/k?uploads", {name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status == 200, answer.body
    return parse(answer.body).text("UploadId") or ""


def upload(s3: Harness, id: str, number: int, body: bytes, **headers: str) -> str:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = s3.ask("PUT", f"/b01/k?partNumber={number}&uploadId={id}", sent, body)
    assert answer.status == 200, answer.body
    return answer.headers["etag"]


def completion(parts: list[tuple[int, str]]) -> bytes:
    rows = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()


def complete(s3: Harness, id: str, parts: list[tuple[int, str]], headers: dict[str, str] | None = None) -> Answer:
    return s3.ask("POST", f"/b01/k?uploadId={id}", headers, completion(parts))


def test_parts_in_any_order_become_one_object(s3: Harness) -> None:
    id = create(s3, x_amz_meta_a="b", content_type="text/plain", x_amz_meta_ec_ftt="1")
    two = upload(s3, id, 7, b"end")
    one = upload(s3, id, 3, BIG)
    done = complete(s3, id, [(3, one), (7, two)])
    assert done.status == 200
    root = parse(done.body, "CompleteMultipartUploadResult")
    digest = hashlib.md5(bytes.fromhex(one.strip('"')) + bytes.fromhex(two.strip('"')), usedforsecurity=False).hexdigest()
    assert root.text("ETag") == f'"{digest}-2"'
    assert (root.text("Bucket"), root.text("Key")) == ("b01", "k")
    assert root.text("Location") == "http://s3.test:9000/b01/k"
    found = s3.client().get_object(Bucket="b01", Key="k")
    assert found["Body"].read() == BIG + b"end"
    assert (found["Metadata"], found["ContentType"]) == ({"a": "b", "ec-ftt": "1"}, "text/plain")


def test_a_part_can_be_uploaded_again(s3: Harness) -> None:
    id = create(s3)
    old = upload(s3, id, 1, b"old")
    new = upload(s3, id, 1, b"new")
    assert complete(s3, id, [(1, old)]).code == "InvalidPart"
    assert complete(s3, id, [(1, new)]).status == 200
    assert s3.ask("GET", "/b01/k").body == b"new"


def test_completing_twice_gives_the_same_answer(s3: Harness) -> None:
    id = create(s3)
    etag = upload(s3, id, 1, b"x")
    assert complete(s3, id, [(1, etag)]).body == complete(s3, id, [(1, etag)]).body


def test_part_numbers(s3: Harness) -> None:
    id = create(s3)
    for number in ("0", "10001", "-1", "x", "", "1.5", "99999999999999999999"):
        assert s3.ask("PUT", f"/b01/k?partNumber={number}&uploadId={id}", body=b"x").code == "InvalidArgument"
        assert s3.unread == 1
    upload(s3, id, 1, b"x")
    upload(s3, id, 10000, b"x")


def test_what_a_completion_can_get_wrong(s3: Harness) -> None:
    id = create(s3)
    small, large, last = upload(s3, id, 1, b"small"), upload(s3, id, 2, BIG), upload(s3, id, 3, b"last")
    refused = complete(s3, id, [(1, small), (3, last)])
    assert refused.code == "EntityTooSmall"
    part = f"<MinSizeAllowed>5242880</MinSizeAllowed><PartNumber>1</PartNumber><ETag>{small.strip(chr(34))}</ETag>"
    assert f"{part}<ProposedSize>5</ProposedSize>".encode() in refused.body
    assert complete(s3, id, [(3, last), (2, large)]).code == "InvalidPartOrder"
    assert complete(s3, id, [(2, large), (2, large)]).code == "InvalidPartOrder"
    assert complete(s3, id, [(2, large), (4, last)]).code == "InvalidPart"
    refused = complete(s3, id, [(2, last)])
    assert refused.code == "InvalidPart"
    part = f"<PartNumber>2</PartNumber><ETag>{last.strip(chr(34))}</ETag><UploadId>{id}</UploadId>"
    assert part.encode() in refused.body
    assert complete(s3, id, []).code == "MalformedXML"
    assert complete(s3, id, [(0, large)]).code == "InvalidArgument"
    assert complete(s3, id, [(10001, large)]).code == "InvalidArgument"
    assert complete(s3, id, [(2, "")]).code == "MalformedXML"
    assert complete(s3, id, [(n, large) for n in range(1, 10002)]).code in ("MalformedXML", "InvalidArgument")
    for body in (b"", b"x", b"<Other/>", b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>y</ETag></Part>"
                 b"</CompleteMultipartUpload>"):
        assert s3.ask("POST", f"/b01/k?uploadId={id}", body=body).status == 400
    assert complete(s3, id, [(2, large), (3, last)]).status == 200


def test_an_unknown_upload(s3: Harness) -> None:
    id = create(s3)
    etag = upload(s3, id, 1, b"x")
    for unknown in ("nonsense", "", "f" * 32):
        for answer in (
            s3.ask("PUT", f"/b01/k?partNumber=1&uploadId={unknown}", body=b"x"), complete(s3, unknown, [(1, etag)]),
            s3.ask("DELETE", f"/b01/k?uploadId={unknown}"), s3.ask("GET", f"/b01/k?uploadId={unknown}"),
            s3.ask("PUT", f"/b01/other?partNumber=1&uploadId={id}", body=b"x"),
        ):
            assert (answer.status, answer.code) == (404, "NoSuchUpload")
    assert b"<UploadId>nonsense</UploadId>" in s3.ask("GET", "/b01/k?uploadId=nonsense").body


def test_a_part_of_an_unknown_upload_is_refused_before_its_body(s3: Harness) -> None:
    assert s3.ask("PUT", "/b01/k?partNumber=1&uploadId=none", body=b"12345").status == 404
    assert s3.unread == 5


def test_abort(s3: Harness) -> None:
    id = create(s3)
    upload(s3, id, 1, b"x")
    assert s3.ask("DELETE", f"/b01/k?uploadId={id}").status == 204
    assert s3.ask("DELETE", f"/b01/k?uploadId={id}").code == "NoSuchUpload"
    assert "Uploads" not in s3.client().list_multipart_uploads(Bucket="b01")
    assert s3.ask("GET", "/b01/k").status == 404


def test_conditions_on_completion(s3: Harness) -> None:
    s3.ask("PUT", "/b01/k", body=b"there")
    id = create(s3)
    parts = [(1, upload(s3, id, 1, b"x"))]
    assert complete(s3, id, parts, {"if-none-match": "*"}).status == 412
    assert complete(s3, id, parts, {"if-match": '"other"'}).status == 412
    assert s3.ask("GET", "/b01/k").body == b"there"
    assert complete(s3, id, parts, {"if-match": s3.ask("HEAD", "/b01/k").headers["etag"]}).status == 200


def test_the_announced_size_is_checked(s3: Harness) -> None:
    id = create(s3)
    parts = [(1, upload(s3, id, 1, BIG)), (2, upload(s3, id, 2, b"x"))]
    upload(s3, id, 3, b"not in it")
    assert complete(s3, id, parts, {"x-amz-mp-object-size": str(MIN + 2)}).code == "InvalidRequest"
    assert complete(s3, id, parts, {"x-amz-mp-object-size": str(MIN + 1)}).status == 200
    assert complete(s3, id, parts, {"x-amz-mp-object-size": str(MIN + 1)}).status == 200


def test_protection_that_is_not_there_is_refused_at_creation(s3: Harness) -> None:
    assert s3.ask("POST", "/b01/k?uploads", {"x-amz-server-side-encryption": "aws:kms:dsse"}).status == 501
    assert s3.ask("POST", "/b01/k?uploads", {"x-amz-object-lock-mode": "GOVERNANCE"}).code == "InvalidRequest"
    assert s3.ask("POST", "/b01/k?uploads", {"x-amz-meta-ec-ftt": "9"}).code == "InvalidArgument"
    assert s3.ask("POST", "/b01/k?uploads", {"x-amz-meta-a": "x" * 2048}).code == "MetadataTooLarge"


def test_get_by_part_number(s3: Harness) -> None:
    id = create(s3)
    complete(s3, id, [(2, upload(s3, id, 2, BIG)), (5, upload(s3, id, 5, b"end"))])
    client = s3.client()
    first = client.get_object(Bucket="b01", Key="k", PartNumber=2)
    assert (first["Body"].read(), first["PartsCount"], first["ContentRange"]) == (BIG, 2, f"bytes 0-{MIN - 1}/{MIN + 3}")
    head = client.head_object(Bucket="b01", Key="k", PartNumber=5)
    assert (head["ContentLength"], head["PartsCount"]) == (3, 2)
    assert s3.ask("GET", "/b01/k?partNumber=1").status == 416


# ---- listing parts ---------------------------------------------------------------------------------------------------
def test_parts_are_listed_in_pages(s3: Harness) -> None:
    id = create(s3)
    for number in (5, 1, 3, 2, 9999):
        upload(s3, id, number, b"x" * number)
    client = s3.client()
    paginator = client.get_paginator("list_parts")
    pages = list(paginator.paginate(Bucket="b01", Key="k", UploadId=id, PaginationConfig={"PageSize": 2}))
    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2], [3, 5], [9999]]
    assert [part["Size"] for page in pages for part in page["Parts"]] == [1, 2, 3, 5, 9999]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    assert pages[0]["Owner"] == pages[0]["Initiator"]
    assert "Parts" not in client.list_parts(Bucket="b01", Key="k", UploadId=id, MaxParts=0)
    assert "Parts" not in client.list_parts(Bucket="b01", Key="k", UploadId=id, PartNumberMarker=2**31 - 1)
    for query in ("max-parts=-1", "max-parts=x", "part-number-marker=-1", "part-number-marker=x"):
        assert s3.ask("GET", f"/b01/k?uploadId={id}&{query}").code == "InvalidArgument"


# ---- checksums -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256", "SHA512", "XXHASH64", "XXHASH3", "XXHASH128"])
def test_a_composite_checksum(s3: Harness, algorithm: Any) -> None:
    client = s3.client()
    made = client.create_multipart_upload(Bucket="b01", Key="k", ChecksumAlgorithm=algorithm)
    assert (made["ChecksumAlgorithm"], made["ChecksumType"]) == (algorithm, "COMPOSITE")
    parts: list[Any] = []
    for number, body in ((1, BIG), (2, b"end")):
        sent: Any = client.upload_part(
            Bucket="b01", Key="k", UploadId=made["UploadId"], PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        parts.append({"PartNumber": number, "ETag": sent["ETag"], "Checksum" + algorithm: sent["Checksum" + algorithm]})
    listed: Any = client.list_parts(Bucket="b01", Key="k", UploadId=made["UploadId"])
    assert [part["Checksum" + algorithm] for part in listed["Parts"]] == [part["Checksum" + algorithm] for part in parts]
    done: Any = client.complete_multipart_upload(
        Bucket="b01", Key="k", UploadId=made["UploadId"], MultipartUpload={"Parts": parts}, ChecksumType="COMPOSITE")
    assert done["Checksum" + algorithm].endswith("-2")
    head: Any = client.head_object(Bucket="b01", Key="k", ChecksumMode="ENABLED")
    assert (head["Checksum" + algorithm], head["ChecksumType"]) == (done["Checksum" + algorithm], "COMPOSITE")
    part: Any = client.head_object(Bucket="b01", Key="k", ChecksumMode="ENABLED", PartNumber=2)
    assert part["Checksum" + algorithm] == parts[1]["Checksum" + algorithm]


def test_a_full_object_checksum_is_that_of_all_bytes(s3: Harness) -> None:
    client = s3.client()
    id = client.create_multipart_upload(Bucket="b01", Key="k", ChecksumAlgorithm="CRC64NVME")["UploadId"]
    parts: Any = [
        {"PartNumber": number, "ETag": client.upload_part(
            Bucket="b01", Key="k", UploadId=id, PartNumber=number, Body=body, ChecksumAlgorithm="CRC64NVME")["ETag"]}
        for number, body in ((1, BIG), (2, b"end"))
    ]
    expected = b64encode(crc64nvme(BIG + b"end").to_bytes(8, "big")).decode()
    wrong = complete(s3, id, [(part["PartNumber"], part["ETag"]) for part in parts], {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="})
    assert wrong.code == "BadDigest"
    done = client.complete_multipart_upload(
        Bucket="b01", Key="k", UploadId=id, MultipartUpload={"Parts": parts}, ChecksumCRC64NVME=expected,
        ChecksumType="FULL_OBJECT",
    )
    assert (done["ChecksumCRC64NVME"], done["ChecksumType"]) == (expected, "FULL_OBJECT")


def test_a_part_without_a_checksum_gets_that_of_the_whole_object_only(s3: Harness) -> None:
    id = create(s3, x_amz_checksum_algorithm="CRC32C", x_amz_checksum_type="FULL_OBJECT")
    answer = s3.ask("PUT", f"/b01/k?partNumber=1&uploadId={id}", body=b"data")
    assert answer.headers["x-amz-checksum-crc32c"] == b64encode(crc32c(b"data").to_bytes(4, "big")).decode()
    assert complete(s3, id, [(1, answer.headers["etag"])]).status == 200
    id = create(s3, x_amz_checksum_algorithm="CRC32C")
    answer = s3.ask("PUT", f"/b01/k?partNumber=1&uploadId={id}", body=b"data")
    assert (answer.code, s3.unread) == ("InvalidRequest", 4)
    assert b"expected checksum Type: crc32c, actual checksum Type: null" in answer.body


def test_a_composite_checksum_needs_those_of_the_parts_in_the_completion(s3: Harness) -> None:
    id = create(s3, x_amz_checksum_algorithm="SHA256")
    digest = b64encode(hashlib.sha256(b"data").digest()).decode()
    etag = upload(s3, id, 7, b"data", x_amz_checksum_sha256=digest)
    answer = complete(s3, id, [(7, etag)])
    assert answer.code == "InvalidRequest"
    assert b"The complete request must include the checksum for each part. It was missing for part 7 in" in answer.body
    for value, status in (("A" * 43 + "=", 400), (digest, 200)):
        body = completion([(7, etag)]).replace(b"</ETag>", f"</ETag><ChecksumSHA256>{value}</ChecksumSHA256>".encode())
        answer = s3.ask("POST", f"/b01/k?uploadId={id}", body=body)
        assert (answer.status, answer.code) == (status, "" if status == 200 else "InvalidPart")


def test_without_a_checksum_of_the_client_the_object_has_the_default_one(s3: Harness) -> None:
    made = s3.ask("POST", "/b01/k?uploads")
    assert not any("checksum" in name for name in made.headers)
    id = parse(made.body).text("UploadId") or ""
    first = s3.ask("PUT", f"/b01/k?partNumber=1&uploadId={id}", body=BIG)
    assert not any("checksum" in name for name in first.headers)
    sent = {"x-amz-checksum-crc32": b64encode(crc32(b"end").to_bytes(4, "big")).decode()}
    second = s3.ask("PUT", f"/b01/k?partNumber=2&uploadId={id}", sent, b"end")
    assert {name: value for name, value in second.headers.items() if "checksum" in name} == sent
    listed = s3.ask("GET", f"/b01/k?uploadId={id}").body + s3.ask("GET", "/b01?uploads").body
    assert b"Checksum" not in listed
    done = complete(s3, id, [(1, first.headers["etag"]), (2, second.headers["etag"])])
    expected = b64encode(crc64nvme(BIG + b"end").to_bytes(8, "big")).decode()
    assert f"<ChecksumCRC64NVME>{expected}</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType>".encode() in done.body
    head = s3.ask("HEAD", "/b01/k", {"x-amz-checksum-mode": "ENABLED"}).headers
    assert (head["x-amz-checksum-crc64nvme"], head["x-amz-checksum-type"]) == (expected, "FULL_OBJECT")


def test_a_part_with_another_kind_of_checksum_is_refused(s3: Harness) -> None:
    id = create(s3, x_amz_checksum_algorithm="SHA256")
    answer = s3.ask("PUT", f"/b01/k?partNumber=1&uploadId={id}", {"x-amz-checksum-crc32": "AAAAAA=="}, b"data")
    assert (answer.code, s3.unread) == ("InvalidRequest", 4)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("MD4", ""), ("SHA256", "FULL_OBJECT"), ("SHA1", "FULL_OBJECT"), ("XXHASH3", "FULL_OBJECT"),
     ("CRC64NVME", "COMPOSITE"), ("CRC32", "OTHER"),
     ("", "COMPOSITE")],
)
def test_checksums_that_cannot_be(s3: Harness, algorithm: str, kind: str) -> None:
    headers = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
    assert s3.ask("POST", "/b01/k?uploads", {name: value for name, value in headers.items() if value}).code == "InvalidRequest"


@pytest.mark.parametrize(("opened", "sent"), [("CRC32", "crc32c"), ("", "crc32"), ("CRC64NVME", "sha1")])
def test_a_checksum_at_completion_that_nothing_can_be_compared_with_is_refused(s3: Harness, opened: str, sent: str) -> None:
    id = create(s3, x_amz_checksum_algorithm=opened, x_amz_checksum_type="FULL_OBJECT") if opened else create(s3)
    parts = [(1, upload(s3, id, 1, b"data"))]
    answer = complete(s3, id, parts, {f"x-amz-checksum-{sent}": "AAAAAA=="})
    assert (answer.code, f"actual checksum Type: {sent}".encode() in answer.body) == ("InvalidRequest", True)
    assert complete(s3, id, parts).status == 200


def test_another_checksum_type_at_completion(s3: Harness) -> None:
    id = create(s3, x_amz_checksum_algorithm="CRC32", x_amz_checksum_type="FULL_OBJECT")
    parts = [(1, upload(s3, id, 1, b"x"))]
    answer = complete(s3, id, parts, {"x-amz-checksum-type": "COMPOSITE"})
    assert (answer.code, b"created using the FULL_OBJECT checksum mode" in answer.body) == ("InvalidRequest", True)
    assert complete(s3, id, parts, {"x-amz-checksum-type": "FULL_OBJECT"}).status == 200


def test_a_wrong_part_digest_stores_nothing(s3: Harness) -> None:
    id = create(s3)
    answer = s3.ask("PUT", f"/b01/k?partNumber=1&uploadId={id}", {"content-md5": b64encode(bytes(16)).decode()}, b"data")
    assert answer.code == "BadDigest"
    assert "Parts" not in s3.client().list_parts(Bucket="b01", Key="k", UploadId=id)


def test_the_transfer_manager_of_boto3(s3: Harness, tmp_path: Any) -> None:
    from boto3.s3.transfer import TransferConfig

    data = random.Random(9).randbytes(11 << 20)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    config = TransferConfig(multipart_threshold=MIN, multipart_chunksize=MIN, use_threads=False)
    client = s3.client()
    client.upload_file(str(source), "b01", "k", Config=config)
    assert client.head_object(Bucket="b01", Key="k")["ETag"].endswith('-3"')
    client.download_file("b01", "k", str(target), Config=config)
    assert target.read_bytes() == data
    client.copy({"Bucket": "b01", "Key": "k"}, "b01", "copied", Config=config)
    assert client.get_object(Bucket="b01", Key="copied")["Body"].read() == data
