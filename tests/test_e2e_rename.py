"""RenameObject through boto3 against a running server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.server import Server, remove

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
TO_COME = datetime(2101, 1, 1, tzinfo=UTC)


@pytest.fixture
def objects(s3: Any, bucket: str) -> Any:
    """`here` and `taken`."""
    s3.put_object(Bucket=bucket, Key="here", Body=b"x" * 100_000, Metadata={"color": "blue"}, ContentType="text/x")
    s3.put_object(Bucket=bucket, Key="taken", Body=b"other")
    return s3


def code(s3: Any, **asked: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        s3.rename_object(**asked)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("source", ["here", "/here"])
def test_the_object_is_under_its_new_key_with_all_that_was_said_of_it(objects: Any, bucket: str, source: str) -> None:
    before = objects.head_object(Bucket=bucket, Key="here")
    objects.rename_object(Bucket=bucket, Key="a/ü b", RenameSource=source)
    after = objects.get_object(Bucket=bucket, Key="a/ü b")
    assert after["Body"].read() == b"x" * 100_000
    for name in ("ETag", "LastModified", "Metadata", "ContentType", "ContentLength"):
        assert after[name] == before[name]
    assert [each["Key"] for each in objects.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/ü b", "taken"]
    objects.rename_object(Bucket=bucket, Key="taken", RenameSource="a%2F%C3%BC%20b")
    assert [each["Key"] for each in objects.list_objects_v2(Bucket=bucket)["Contents"]] == ["taken"]
    assert objects.head_object(Bucket=bucket, Key="taken")["ETag"] == before["ETag"]


@pytest.mark.parametrize(("condition", "holds"), [
    ({"DestinationIfNoneMatch": "*"}, False),
    ({"DestinationIfMatch": '"no"'}, False),
    ({"DestinationIfMatch": "*"}, True),
    ({"DestinationIfModifiedSince": TO_COME}, False),
    ({"DestinationIfModifiedSince": LONG_AGO}, True),
    ({"DestinationIfUnmodifiedSince": LONG_AGO}, False),
    ({"DestinationIfUnmodifiedSince": TO_COME}, True),
    ({"SourceIfMatch": '"no"'}, False),
    ({"SourceIfMatch": "*"}, True),
    ({"SourceIfNoneMatch": "*"}, False),
    ({"SourceIfNoneMatch": '"no"'}, True),
    ({"SourceIfModifiedSince": TO_COME}, False),
    ({"SourceIfModifiedSince": LONG_AGO}, True),
    ({"SourceIfUnmodifiedSince": LONG_AGO}, False),
    ({"SourceIfUnmodifiedSince": TO_COME}, True),
])
def test_conditions_on_both_ends(objects: Any, bucket: str, condition: dict[str, Any], holds: bool) -> None:
    asked = {"Bucket": bucket, "Key": "taken", "RenameSource": "here", **condition}
    if holds:
        objects.rename_object(**asked)
        assert objects.head_object(Bucket=bucket, Key="taken")["ContentLength"] == 100_000
    else:
        assert code(objects, **asked) == ("PreconditionFailed", 412)
        assert objects.head_object(Bucket=bucket, Key="here")["ContentLength"] == 100_000
        assert objects.head_object(Bucket=bucket, Key="taken")["ContentLength"] == 5


def test_conditions_where_nothing_is(objects: Any, bucket: str) -> None:
    asked = {"Bucket": bucket, "Key": "free", "RenameSource": "here"}
    assert code(objects, **asked, DestinationIfMatch="*") == ("PreconditionFailed", 412)
    assert code(objects, **asked, DestinationIfModifiedSince=LONG_AGO) == ("PreconditionFailed", 412)
    assert code(objects, **asked, DestinationIfNoneMatch='"x"') == ("NotImplemented", 501)
    objects.rename_object(**asked, DestinationIfNoneMatch="*", DestinationIfUnmodifiedSince=LONG_AGO)


@pytest.mark.parametrize(("key", "source", "told"), [
    ("new", "nothing", ("NoSuchKey", 404)),
    ("here", "here", ("InvalidRequest", 400)),
    ("new/", "here", ("InvalidRequest", 400)),
    ("new", "here/", ("InvalidRequest", 400)),
    ("new", "", ("InvalidArgument", 400)),
    ("new", "%zz", ("InvalidURI", 400)),
    ("new", "k" * 1025, ("KeyTooLongError", 400)),
])
def test_what_cannot_be_renamed(objects: Any, bucket: str, key: str, source: str, told: tuple[str, int]) -> None:
    assert code(objects, Bucket=bucket, Key=key, RenameSource=source) == told


def test_a_token_makes_a_second_try_harmless(objects: Any, bucket: str) -> None:
    asked = {"Bucket": bucket, "Key": "new", "RenameSource": "here", "ClientToken": "t-1"}
    objects.rename_object(**asked)
    objects.rename_object(**asked)
    assert code(objects, **{**asked, "RenameSource": "taken"}) == ("IdempotencyParameterMismatch", 400)
    assert code(objects, **{**asked, "ClientToken": "t-2"}) == ("NoSuchKey", 404)
    assert code(objects, **{**asked, "ClientToken": "t" * 65}) == ("InvalidArgument", 400)


def test_not_in_a_bucket_with_versions(objects: Any, bucket: str) -> None:
    objects.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert code(objects, Bucket=bucket, Key="new", RenameSource="here") == ("InvalidRequest", 400)


def test_it_works_with_one_of_three_volumes_dead(make_server: Any) -> None:
    server: Server = make_server(3)
    s3 = server.client()
    s3.create_bucket(Bucket="bbb")
    s3.put_object(Bucket="bbb", Key="here", Body=b"x" * 100_000)
    server.stop()
    remove(server.volumes[1])
    s3 = server.start().client()
    s3.rename_object(Bucket="bbb", Key="new", RenameSource="here")
    assert s3.get_object(Bucket="bbb", Key="new")["Body"].read() == b"x" * 100_000
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="bbb")["Contents"]] == ["new"]
