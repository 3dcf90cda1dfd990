"""From method, path and query to an operation of S3."""

from __future__ import annotations

import pytest

from abixio.s3 import router
from abixio.s3.errors import S3Error
from abixio.s3.router import route
from tests.s3_operations import MODEL, SHARED, STATUS, SYNONYMS


def routed(method: str, uri: str, extra: tuple[str, ...] = (), copies: bool = False) -> str:
    path, _, query = uri.partition("?")
    _, bucket, *rest = path.split("/", 2)
    names = [part.partition("=")[0] for part in query.split("&") if part]
    return route(method, bucket, rest[0] if rest else "", [*names, *extra], copies)


def attempt(method: str, key: str, name: str, copies: bool) -> str:
    try:
        return route(method, "bucket", key, [name, "x-id"], copies)
    except S3Error as error:
        return error.code


@pytest.mark.parametrize("name", SHARED)
def test_every_operation_of_the_model_is_recognised(name: str) -> None:
    http = MODEL.operation_model(name).http
    uri = http["requestUri"].replace("{Bucket}", "bucket").replace("{Key+}", "key")
    extra = {
        "ListParts": ("uploadId",), "AbortMultipartUpload": ("uploadId",), "CompleteMultipartUpload": ("uploadId",),
        "UploadPart": ("uploadId", "partNumber"), "UploadPartCopy": ("uploadId", "partNumber"),
        "GetBucketAnalyticsConfiguration": ("id",), "GetBucketIntelligentTieringConfiguration": ("id",),
        "GetBucketInventoryConfiguration": ("id",), "GetBucketMetricsConfiguration": ("id",),
        "ListDirectoryBuckets": ("max-directory-buckets",), "GetObject": ("versionId", "partNumber"),
    }.get(name, ())
    found = routed(http["method"], uri, (*extra, "x-id"), name in ("CopyObject", "UploadPartCopy"))
    assert found == SYNONYMS.get(name, name)


def test_the_tables_name_no_operation_that_is_not_documented() -> None:
    tables = (router.SERVICE, router.BUCKET, router.OBJECT)
    named = {name for table in tables for methods in table.values() for name in methods.values()}
    assert named - set(STATUS) == {"PostObject"}


@pytest.mark.parametrize("name", sorted((router.OBJECT.keys() | router.BUCKET.keys()) - {"", "uploadId"}))
def test_a_known_sub_resource_never_falls_through_to_the_plain_operation(name: str) -> None:
    plain = {"GetObject", "HeadObject", "PutObject", "DeleteObject", "ListObjects", "ListObjectsV2", "HeadBucket", "CreateBucket",
             "DeleteBucket", "CopyObject"}
    for key in ("", "key"):
        for method in ("GET", "HEAD", "PUT", "DELETE", "POST"):
            for copies in (False, True):
                assert attempt(method, key, name, copies) not in plain


@pytest.mark.parametrize(
    ("method", "bucket", "key"), [("PATCH", "", ""), ("PUT", "", ""), ("PATCH", "b", ""), ("PATCH", "b", "k"), ("POST", "b", "k"),
                                  ("OPTIONS", "b", "k"), ("get", "b", "k"), ("", "b", "k")]
)
def test_other_methods_are_not_allowed(method: str, bucket: str, key: str) -> None:
    with pytest.raises(S3Error) as caught:
        route(method, bucket, key, [], False)
    assert caught.value.code == "MethodNotAllowed"


def test_a_refused_method_is_told_what_is_allowed() -> None:
    with pytest.raises(S3Error) as caught:
        route("PATCH", "b", "k", ["tagging"], False)
    assert caught.value.headers == [("Allow", "GET, PUT, DELETE")]


def test_two_sub_resources_conflict() -> None:
    with pytest.raises(S3Error) as caught:
        route("GET", "b", "k", ["tagging", "acl"], False)
    assert caught.value.code == "InvalidArgument"
    assert "acl, tagging" in caught.value.message


@pytest.mark.parametrize(("name", "code"), [("partNumber", "InvalidArgument"), ("uploadId", "MethodNotAllowed")])
def test_half_an_upload_part_is_no_put(name: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        route("PUT", "b", "k", [name], False)
    assert caught.value.code == code


@pytest.mark.parametrize(("method", "name"), [("GET", "uploads"), ("GET", "versions"), ("PUT", "versioning"), ("POST", "delete")])
def test_what_is_said_of_buckets_is_not_said_of_keys(method: str, name: str) -> None:
    with pytest.raises(S3Error) as caught:
        route(method, "b", "k", [name], False)
    assert (caught.value.code, caught.value.message) == (
        "InvalidRequest", f"Key is not expected for the {method} method ?{name} subresource")


@pytest.mark.parametrize(("method", "query", "code"), [
    ("GET", [], "InvalidArgument"), ("HEAD", [], "InvalidArgument"), ("DELETE", ["tagging"], "InvalidArgument"),
    ("POST", ["uploadId"], "InvalidArgument"), ("POST", [], "MethodNotAllowed"),
])
def test_only_copies_have_a_source(method: str, query: list[str], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        route(method, "b", "k", query, True)
    assert caught.value.code == code


def test_unknown_parameters_do_not_matter() -> None:
    assert route("GET", "b", "k", ["x-id", "nonsense", "response-expires"], False) == "GetObject"
    assert route("PUT", "b", "k", ["X-Amz-Signature"], False) == "PutObject"
