"""S3Service: authentication before anything else, what every answer carries, operations that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.serialize import create_serializer

from abixio.errors import BadRequest, HeadTooLarge
from abixio.s3.service import HANDLERS
from tests.s3_harness import Harness
from tests.s3_operations import LINES, MODEL, SAME_MODEL, SHARED, STATUS, SYNONYMS


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    harness.ask("PUT", "/b01/k", body=b"data")
    yield harness
    harness.close()


# ---- the table of operations -----------------------------------------------------------------------------------------
def test_the_table_names_every_operation_once_and_in_order() -> None:
    assert [name for name, _ in LINES] == sorted(STATUS)
    assert len(SHARED) > 100


@pytest.mark.skipif(not SAME_MODEL, reason="the table was made from another botocore")
def test_the_table_names_every_operation_of_the_model() -> None:
    assert list(STATUS) == sorted(MODEL.operation_names)


def test_what_the_table_says_is_there_is_there() -> None:
    """Uploads by form are no operation of the SDKs."""
    assert {SYNONYMS.get(name, name) for name, status in STATUS.items() if status != "not yet"} == set(HANDLERS) - {"PostObject"}


def example(shape: Any) -> Any:
    """A value that botocore takes for a shape."""
    match shape.type_name:
        case "structure":
            needed = shape.required_members or list(shape.members)[:1]
            return {name: example(shape.members[name]) for name in needed}
        case "list":
            return [example(shape.member)]
        case "map":
            return {"a": "b"}
        case "string":
            return shape.enum[0] if getattr(shape, "enum", None) else "text"
        case "boolean":
            return True
        case "timestamp":
            return 0
        case "blob":
            return b"x"
        case _:
            return 1


@pytest.mark.parametrize("name", [name for name in SHARED if STATUS[name] == "not yet"])
def test_an_operation_that_is_not_there_answers_501_and_changes_nothing(s3: Harness, name: str) -> None:
    model = MODEL.operation_model(name)
    parameters = {member: example(model.input_shape.members[member]) for member in model.input_shape.required_members}
    for member, value in {"Bucket": "b01", "Key": "k"}.items():
        if member in parameters:
            parameters[member] = value
    if name == "ListDirectoryBuckets":
        parameters["MaxDirectoryBuckets"] = 1
    request = create_serializer("rest-xml", include_validation=False).serialize_to_request(parameters, model)
    path = request["url_path"] or "/"
    if request["query_string"]:
        path += ("&" if "?" in path else "?") + "&".join(f"{key}={value}" for key, value in request["query_string"].items())
    body = request["body"]
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else b""
    headers = {key: str(value) for key, value in request["headers"].items()}
    answer = s3.ask(request["method"], path, headers, data)
    assert (answer.status, answer.code) == (501, "NotImplemented"), (request["method"], path, answer.body)
    assert s3.ask("GET", "/b01/k").body == b"data"


def test_the_501_names_the_operation(s3: Harness) -> None:
    assert b"PutBucketPolicy" in s3.ask("PUT", "/b01?policy").body


# ---- authentication --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/"), ("GET", "/b01"), ("PUT", "/b02"), ("DELETE", "/b01"), ("GET", "/b01/k"), ("PUT", "/b01/k"),
     ("DELETE", "/b01/k"),
     ("GET", "/none/none"), ("POST", "/b01?delete"), ("GET", "/b01?policy"), ("PATCH", "/b01/k"),
     ("POST", "/b01/k?uploads"), ("POST", "/b01"), ("GET", "/b01/k?versionId=x")],
)
def test_nothing_is_told_without_a_signature(s3: Harness, method: str, target: str) -> None:
    answer = s3.send(method, target, {"content-length": "3"}, b"abc")
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert s3.unread == 3
    assert s3.send("HEAD", target).body == b""
    assert s3.ask("GET", "/b01/k").body == b"data"


def test_a_wrong_signature_is_told_apart_from_none(s3: Harness) -> None:
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
              "SignedHeaders=host, Signature=0"}
    assert s3.send("GET", "/b01/k", signed).status in (400, 403)


def test_presigned_urls(s3: Harness) -> None:
    assert s3.presigned("GET", "/b01/k").body == b"data"
    assert s3.presigned("PUT", "/b01/p", body=b"by url").status == 200
    assert s3.ask("GET", "/b01/p").body == b"by url"


def test_headers_that_were_moved_into_a_presigned_url_mean_the_same(s3: Harness) -> None:
    url = "/b01/p?x-amz-meta-name=%E2%82%AC&x-amz-storage-class=GLACIER&X-Amz-Meta-Case=1"
    assert s3.presigned("PUT", url, body=b"x").status == 200
    found = s3.ask("GET", "/b01/p").headers
    assert (found["x-amz-storage-class"], found["x-amz-meta-case"]) == ("GLACIER", "1")
    assert found["x-amz-meta-name"] == "=?UTF-8?B?4oKs?="
    assert s3.presigned("PUT", "/b01/p?x-amz-server-side-encryption=aws%3Akms%3Adsse", body=b"x").status == 501
    assert s3.presigned("PUT", "/b01/p?x-amz-checksum-crc32=AAAAAQ%3D%3D", body=b"x").code == "BadDigest"
    assert s3.presigned("PUT", "/b01/p?x-amz-checksum-crc32=jNwWgw%3D%3D", body=b"x").status == 200


@pytest.mark.parametrize(
    "query", ["x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32", "X-Amz-Checksum-Crc64nvme=AAAAAAAAAAA%3D",
              "x-amz-checksum-sha256=47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D&x-amz-sdk-checksum-algorithm=SHA256"],
)
def test_the_checksum_of_nothing_in_a_url_does_not_bind_the_body_to_come(s3: Harness, query: str) -> None:
    """The JavaScript SDK signs it when it does not know the body."""
    assert s3.presigned("PUT", f"/b01/p?{query}", body=b"x").status == 200
    assert s3.presigned("PUT", f"/b01/p?{query}", {"x-amz-checksum-crc32": "AAAAAA=="}, b"x").code == "AccessDenied"
    assert s3.presigned("PUT", f"/b01/p?{query}&x-amz-checksum-crc32c=AAAAAQ%3D%3D", body=b"x").code == "BadDigest"


@pytest.mark.parametrize(
    "query", ["x-amz-meta-a=%0D%0AX%3A%20y", "x-amz-meta-a=%00", "x-amz-meta-%0D%0AX=y", "x-amz-meta-%C3%BC=y",
              "X-Amz-Meta-a=1&x-amz-meta-a=2"]
)
def test_a_parameter_that_could_forge_a_header_is_refused(s3: Harness, query: str) -> None:
    assert s3.presigned("PUT", f"/b01/p?{query}", body=b"x").code == "InvalidArgument"
    assert s3.ask("HEAD", "/b01/p").status == 404


# ---- every answer ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/b01/k", 200), ("GET", "/b01/none", 404), ("HEAD", "/none", 404), ("DELETE", "/b01/k", 204), ("GET", "/%zz", 400),
     ("PATCH", "/b01", 405)],
)
def test_every_answer_has_its_ids(s3: Harness, method: str, target: str, status: int) -> None:
    answer = s3.send(method, target) if "%zz" in target else s3.ask(method, target)
    assert answer.status == status
    assert answer.headers["x-amz-request-id"] == "0123456789ABCDEF"
    assert answer.headers["x-amz-id-2"]
    assert answer.headers["server"] == "abixio"
    if answer.body and status >= 400:
        assert b"<RequestId>0123456789ABCDEF</RequestId>" in answer.body


def test_an_error_names_its_resource(s3: Harness) -> None:
    assert b"<Resource>/b01/no%20ne</Resource>" in s3.ask("GET", "/b01/no%20ne").body


def test_a_defect_is_not_hidden(s3: Harness) -> None:
    s3.store.failure = ZeroDivisionError("secret")
    with pytest.raises(ZeroDivisionError):
        s3.ask("PUT", "/b01/k", body=b"x")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(BadRequest("x"), 400, b"BadRequest"), (HeadTooLarge("x"), 400, b"RequestHeaderSectionTooLarge"),
     (ZeroDivisionError("secret"), 500, b"InternalError")],
)
def test_what_the_transport_cannot_read_gets_an_answer_too(s3: Harness, error: Exception, status: int, code: bytes) -> None:
    answer = s3.service.refuse(error, "0123456789ABCDEF")
    assert answer.status == status
    assert isinstance(answer.body, bytes)
    assert code in answer.body
    assert b"secret" not in answer.body
    assert ("Server", "abixio") in answer.headers


@pytest.mark.parametrize(
    ("bucket", "code"),
    [("ab", "InvalidBucketName"), ("a" * 256, "InvalidBucketName"), ("a%20b", "InvalidBucketName"),
     ("%00ab", "InvalidBucketName"), ("%C3%BCber", "InvalidBucketName"), ("a:b", "InvalidBucketName"),
     ("Old_Name", "NoSuchBucket"), ("a" * 255, "NoSuchBucket")],
)
def test_a_bucket_of_an_impossible_name_is_not_looked_for(s3: Harness, bucket: str, code: str) -> None:
    for method, target in (("GET", f"/{bucket}"), ("GET", f"/{bucket}/k"), ("PUT", f"/{bucket}/k"), ("GET", f"/{bucket}?policy")):
        assert s3.ask(method, target).code == code
    assert s3.ask("PUT", f"/{bucket}").code == "InvalidBucketName"


def test_invalid_utf8_in_a_path_is_no_key(s3: Harness) -> None:
    assert s3.send("GET", "/b01/%ff").code == "InvalidURI"
