"""DeleteObjects."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from abixio.errors import Unavailable
from abixio.s3.batch import MAX_DOCUMENT
from tests.s3_harness import Answer, Harness


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    yield harness
    harness.close()


def delete(s3: Harness, body: bytes, **headers: str) -> Answer:
    digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return s3.ask("POST", "/b01?delete", {"content-md5": digest, **headers}, body)


def keys(s3: Harness) -> list[str]:
    return [each["Key"] for each in s3.client().list_objects_v2(Bucket="b01").get("Contents", [])]


def test_a_thousand_keys_at_once(s3: Harness) -> None:
    names = [f"{number}-ü&<" for number in range(1000)]
    for name in names[:50]:
        s3.client().put_object(Bucket="b01", Key=name, Body=b"")
    done = s3.client().delete_objects(Bucket="b01", Delete={"Objects": [{"Key": name} for name in names]})
    assert [each["Key"] for each in done["Deleted"]] == names
    assert "Errors" not in done
    assert keys(s3) == []


def test_quiet_reports_errors_only(s3: Harness) -> None:
    s3.client().put_object(Bucket="b01", Key="a", Body=b"")
    done = s3.client().delete_objects(
        Bucket="b01", Delete={"Quiet": True, "Objects": [{"Key": "a"}, {"Key": "b", "VersionId": "x"}]})
    assert "Deleted" not in done
    assert [(each["Key"], each["VersionId"], each["Code"]) for each in done["Errors"]] == [("b", "x", "InvalidArgument")]
    assert keys(s3) == []


def test_the_null_version_is_the_object(s3: Harness) -> None:
    s3.client().put_object(Bucket="b01", Key="a", Body=b"")
    done = s3.client().delete_objects(Bucket="b01", Delete={"Objects": [{"Key": "a", "VersionId": "null"}]})
    assert done["Deleted"] == [{"Key": "a", "VersionId": "null"}]
    assert keys(s3) == []


def test_each_key_has_its_own_outcome(s3: Harness) -> None:
    client = s3.client()
    for name in "abc":
        client.put_object(Bucket="b01", Key=name, Body=b"")
    s3.store.failure = Unavailable("x")
    objects: Any = [{"Key": "a"}, {"Key": "b", "ETag": '"other"'}, {"Key": "c"}, {"Key": "x" * 1025}]
    done = client.delete_objects(Bucket="b01", Delete={"Objects": objects})
    assert [each["Key"] for each in done["Deleted"]] == ["c"]
    assert [each["Code"] for each in done["Errors"]] == ["ServiceUnavailable", "PreconditionFailed", "KeyTooLongError"]
    assert keys(s3) == ["a", "b"]


@pytest.mark.parametrize(
    "body",
    [
        b"<Delete/>", b"<Delete><Object/></Delete>", b"<Delete><Object><Key></Key></Object></Delete>", b"x", b"<Other/>",
        b"<Delete><All/><Object><Key>a</Key></Object></Delete>", b"<Delete><Object><Key>a</Key><Now/></Object></Delete>",
        b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>",
        b"<!DOCTYPE x [<!ENTITY e 'a'>]><Delete><Object><Key>&e;</Key></Object></Delete>",
    ],
)
def test_a_list_that_cannot_be_read(s3: Harness, body: bytes) -> None:
    s3.client().put_object(Bucket="b01", Key="a", Body=b"")
    assert delete(s3, body).code == "MalformedXML"
    assert keys(s3) == ["a"]


def test_a_list_without_or_with_a_wrong_digest_deletes_nothing(s3: Harness) -> None:
    s3.client().put_object(Bucket="b01", Key="a", Body=b"")
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    assert s3.ask("POST", "/b01?delete", body=body).code == "InvalidRequest"
    assert s3.unread == len(body)
    assert s3.ask("POST", "/b01?delete", {"content-md5": b64encode(bytes(16)).decode()}, body).code == "BadDigest"
    assert keys(s3) == ["a"]
    checksum = {"x-amz-checksum-sha256": b64encode(hashlib.sha256(body).digest()).decode()}
    assert s3.ask("POST", "/b01?delete", checksum, body).status == 200
    assert keys(s3) == []


def test_a_list_that_is_too_long_is_not_read(s3: Harness) -> None:
    answer = s3.ask("POST", "/b01?delete", {"content-md5": b64encode(bytes(16)).decode()}, b"x", MAX_DOCUMENT + 1)
    assert (answer.code, s3.unread) == ("MaxMessageLengthExceeded", 1)


def test_white_space_belongs_to_the_key(s3: Harness) -> None:
    s3.client().put_object(Bucket="b01", Key=" a ", Body=b"")
    delete(s3, b"<Delete><Object><Key>a</Key></Object></Delete>")
    assert keys(s3) == [" a "]
    delete(s3, b"<Delete><Object><Key> a </Key></Object></Delete>")
    assert keys(s3) == []


def test_each_key_may_have_conditions(s3: Harness) -> None:
    client = s3.client()
    for key in "abcd":
        client.put_object(Bucket="b01", Key=key, Body=b"x")
    head = client.head_object(Bucket="b01", Key="a")
    found = client.delete_objects(Bucket="b01", Delete={"Objects": [
        {"Key": "a", "Size": 1, "LastModifiedTime": head["LastModified"], "ETag": head["ETag"]},
        {"Key": "b", "Size": 2}, {"Key": "c", "LastModifiedTime": 0}, {"Key": "d", "ETag": "other"}, {"Key": "none", "Size": 7},
        {"Key": "gone", "ETag": "other"},
    ]})
    assert [each["Key"] for each in found["Deleted"]] == ["a", "none"]
    failed = [(key, "PreconditionFailed") for key in "bcd"]
    assert [(each["Key"], each["Code"]) for each in found["Errors"]] == [*failed, ("gone", "NoSuchKey")]
    body = b"<Delete><Object><Key>b</Key><Size>x</Size></Object><Object><Key>c</Key></Object></Delete>"
    assert b"<Code>InvalidArgument</Code>" in delete(s3, body).body
    assert keys(s3) == ["b", "d"]


def test_a_missing_bucket(s3: Harness) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.client().delete_objects(Bucket="none", Delete={"Objects": [{"Key": "a"}]})
