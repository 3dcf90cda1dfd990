"""Versioning, tags and Object Lock through boto3 and a running server with four volumes."""

from __future__ import annotations

import random
import re
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_socket import Wire
from tests.server import Server, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import MakeServer


def refused(call: Callable[[], Any]) -> tuple[str, int]:
    """Code and status of the error that the call must give."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"], caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def headers_of(call: Callable[[], Any]) -> dict[str, str]:
    """Of the error that the call must give."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["ResponseMetadata"]["HTTPHeaders"]


@pytest.fixture
def versioned(s3: S3Client, bucket: str) -> str:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture
def lockable(s3: S3Client, bucket: str) -> str:
    name = f"{bucket}-lock"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def test_a_bucket_says_its_versioning(s3: S3Client, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    for status in ("Enabled", "Suspended", "Enabled"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status
    wrong: Any = {"Status": "On"}
    assert refused(lambda: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=wrong)) == ("MalformedXML", 400)


def test_what_was_there_before_is_the_null_version(s3: S3Client, bucket: str) -> None:
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    new = s3.put_object(Bucket=bucket, Key="k", Body=b"new")["VersionId"]
    assert s3.get_object(Bucket=bucket, Key="k")["VersionId"] == new
    assert s3.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == b"old"
    found = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [(each["VersionId"], each["IsLatest"]) for each in found] == [(new, True), ("null", False)]


def test_suspending_keeps_history_and_replaces_the_null_version(s3: S3Client, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1")["VersionId"]
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Suspended"})
    for body in (b"2", b"3"):
        assert "VersionId" not in s3.put_object(Bucket=versioned, Key="k", Body=body)
        assert s3.head_object(Bucket=versioned, Key="k")["VersionId"] == "null"
    assert "VersionId" not in s3.copy_object(Bucket=versioned, Key="k", CopySource=f"{versioned}/k?versionId={first}")
    assert [each["VersionId"] for each in s3.list_object_versions(Bucket=versioned)["Versions"]] == ["null", first]
    gone = s3.delete_object(Bucket=versioned, Key="k")
    assert gone["DeleteMarker"] and gone["VersionId"] == "null"
    page = s3.list_object_versions(Bucket=versioned)
    assert [each["VersionId"] for each in page["Versions"]] == [first]
    assert [(each["VersionId"], each["IsLatest"]) for each in page["DeleteMarkers"]] == [("null", True)]


def test_a_delete_marker_hides_and_its_removal_shows_again(s3: S3Client, versioned: str) -> None:
    version = s3.put_object(Bucket=versioned, Key="k", Body=b"data")["VersionId"]
    gone = s3.delete_object(Bucket=versioned, Key="k")
    assert gone["DeleteMarker"]
    marker = gone["VersionId"]
    assert refused(lambda: s3.get_object(Bucket=versioned, Key="k")) == ("NoSuchKey", 404)
    headers = headers_of(lambda: s3.get_object(Bucket=versioned, Key="k"))
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
    assert refused(lambda: s3.get_object(Bucket=versioned, Key="k", VersionId=marker)) == ("MethodNotAllowed", 405)
    headers = headers_of(lambda: s3.head_object(Bucket=versioned, Key="k", VersionId=marker))
    assert headers["x-amz-delete-marker"] == "true" and headers["allow"] == "DELETE" and "last-modified" in headers
    assert s3.get_object(Bucket=versioned, Key="k", VersionId=version)["Body"].read() == b"data"
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)
    back = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker)
    assert back["DeleteMarker"] and back["VersionId"] == marker
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"data"


def test_version_ids_that_are_not_there(s3: S3Client, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k")
    other = s3.put_object(Bucket=versioned, Key="other")["VersionId"]
    assert refused(lambda: s3.get_object(Bucket=versioned, Key="k", VersionId=other)) == ("NoSuchVersion", 404)
    assert refused(lambda: s3.get_object(Bucket=versioned, Key="k", VersionId="nonsense")) == ("InvalidArgument", 400)
    assert s3.delete_object(Bucket=versioned, Key="k", VersionId=other)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert s3.get_object(Bucket=versioned, Key="other")["VersionId"] == other


def test_batch_deletes_of_versions(s3: S3Client, versioned: str) -> None:
    ids = [s3.put_object(Bucket=versioned, Key="k", Body=bytes([n]))["VersionId"] for n in range(3)]
    done = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "k"}, {"Key": "k", "VersionId": ids[0]}]})
    plain, dated = sorted(done["Deleted"], key=lambda each: each.get("VersionId", ""))
    assert plain["DeleteMarker"] and "VersionId" not in plain
    assert dated == {"Key": "k", "VersionId": ids[0]}
    marker = plain["DeleteMarkerVersionId"]
    (again,) = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "k", "VersionId": marker}]})["Deleted"]
    assert again == {"Key": "k", "VersionId": marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker}
    assert s3.get_object(Bucket=versioned, Key="k")["VersionId"] == ids[2]


def test_copies_of_versions(s3: S3Client, versioned: str) -> None:
    old = s3.put_object(Bucket=versioned, Key="k", Body=b"old", Metadata={"a": "b"})["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"new")
    copied = s3.copy_object(Bucket=versioned, Key="k", CopySource={"Bucket": versioned, "Key": "k", "VersionId": old})
    assert copied["CopySourceVersionId"] == old and copied["VersionId"] not in ("null", old)
    restored = s3.get_object(Bucket=versioned, Key="k")
    assert restored["Body"].read() == b"old" and restored["Metadata"] == {"a": "b"}
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    source: Any = {"Bucket": versioned, "Key": "k"}
    assert refused(lambda: s3.copy_object(Bucket=versioned, Key="x", CopySource=source)) == ("NoSuchKey", 404)
    source["VersionId"] = marker
    assert refused(lambda: s3.copy_object(Bucket=versioned, Key="x", CopySource=source)) == ("InvalidRequest", 400)


def test_an_upload_makes_a_version(s3: S3Client, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"first")["VersionId"]
    upload = s3.create_multipart_upload(Bucket=versioned, Key="k", Tagging="a=b")["UploadId"]
    etag = s3.upload_part(Bucket=versioned, Key="k", UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    done = s3.complete_multipart_upload(Bucket=versioned, Key="k", UploadId=upload, MultipartUpload=parts)
    assert [each["VersionId"] for each in s3.list_object_versions(Bucket=versioned)["Versions"]] == [done["VersionId"], first]
    assert s3.get_object_tagging(Bucket=versioned, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_versions_page_exactly_once(size: int, s3: S3Client, versioned: str) -> None:
    expected = []
    for key in ("a", "b/1", "b/2", "c"):
        ids = [s3.put_object(Bucket=versioned, Key=key)["VersionId"] for _ in range(3)]
        ids.append(s3.delete_object(Bucket=versioned, Key=key)["VersionId"])
        expected += [(key, id) for id in reversed(ids)]
    found = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=versioned, PaginationConfig={"PageSize": size}):
        entries: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        assert len(entries) <= size
        found += sorted(((each["Key"], each["VersionId"]) for each in entries), key=expected.index)
    assert found == expected
    prefixes = s3.list_object_versions(Bucket=versioned, Delimiter="/")["CommonPrefixes"]
    assert [each["Prefix"] for each in prefixes] == ["b/"]


def test_a_bucket_with_versions_cannot_be_deleted(s3: S3Client, versioned: str) -> None:
    version = s3.put_object(Bucket=versioned, Key="k")["VersionId"]
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    for id in (version, marker):
        assert refused(lambda: s3.delete_bucket(Bucket=versioned)) == ("BucketNotEmpty", 409)
        s3.delete_object(Bucket=versioned, Key="k", VersionId=id)
    s3.delete_bucket(Bucket=versioned)


# ---- tags ------------------------------------------------------------------------------------------------------------
def test_tags_of_objects_and_versions(s3: S3Client, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1", Tagging="a=1&b=%C3%BC")["VersionId"]
    second = s3.put_object(Bucket=versioned, Key="k", Body=b"2")["VersionId"]
    assert s3.get_object_tagging(Bucket=versioned, Key="k")["TagSet"] == []
    tags = s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=first)
    assert tags["TagSet"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "ü"}] and tags["VersionId"] == first
    s3.put_object_tagging(Bucket=versioned, Key="k", VersionId=first, Tagging={"TagSet": [{"Key": "c", "Value": "3"}]})
    assert s3.get_object(Bucket=versioned, Key="k", VersionId=first)["TagCount"] == 1
    s3.delete_object_tagging(Bucket=versioned, Key="k", VersionId=first)
    assert s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=first)["TagSet"] == []
    assert s3.get_object(Bucket=versioned, Key="k")["VersionId"] == second
    assert len(s3.list_object_versions(Bucket=versioned)["Versions"]) == 2


def test_tagging_changes_neither_etag_nor_date(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 300_000)
    before = s3.head_object(Bucket=bucket, Key="k")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "c", "Value": "3"}]})
    after = s3.get_object(Bucket=bucket, Key="k")
    assert (after["ETag"], after["LastModified"], after["TagCount"]) == (before["ETag"], before["LastModified"], 1)
    assert after["Body"].read() == b"x" * 300_000


def test_copies_take_tags_or_replace_them(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Tagging="a=1")
    source: Any = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="same", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="other", CopySource=source, TaggingDirective="REPLACE", Tagging="b=2")
    assert s3.get_object_tagging(Bucket=bucket, Key="same")["TagSet"] == [{"Key": "a", "Value": "1"}]
    assert s3.get_object_tagging(Bucket=bucket, Key="other")["TagSet"] == [{"Key": "b", "Value": "2"}]


@pytest.mark.parametrize(("tags", "code"), [
    ([{"Key": str(n), "Value": ""} for n in range(11)], "BadRequest"),
    ([{"Key": "k" * 129, "Value": ""}], "InvalidTag"),
    ([{"Key": "k", "Value": "v" * 257}], "InvalidTag"),
    ([{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}], "InvalidTag"),
    ([{"Key": "aws:x", "Value": ""}], "InvalidTag"), ([{"Key": "AWS:x", "Value": ""}], "InvalidTag"),
    ([{"Key": "a\tb", "Value": ""}], "InvalidTag"),
    ([{"Key": "k", "Value": "a\nb"}], "InvalidTag"), ([{"Key": "k", "Value": "a#b"}], "InvalidTag"),
    ([{"Key": "k", "Value": "<>"}], "InvalidTag"),
])
def test_tags_that_s3_refuses(tags: Any, code: str, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Tagging="old=1")
    assert refused(lambda: s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})) == (code, 400)
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "old", "Value": "1"}]


@pytest.mark.parametrize(("header", "code"), [
    ("a=1&a=2", "InvalidArgument"), ("&".join(f"{n}=" for n in range(11)), "BadRequest"), ("k=" + "v" * 257, "InvalidTag"),
])
def test_tagging_headers_that_s3_refuses_store_nothing(header: str, code: str, s3: S3Client, bucket: str) -> None:
    assert refused(lambda: s3.put_object(Bucket=bucket, Key="k", Tagging=header)) == (code, 400)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_tags_of_every_language_and_of_the_greatest_length(s3: S3Client, bucket: str) -> None:
    tags: Any = [{"Key": "ключ ½_.:/=+-@", "Value": "値 \u00a0x"}, {"Key": "k" * 128, "Value": "v" * 256},
                 {"Key": "leer", "Value": ""}]
    s3.put_object(Bucket=bucket, Key="k")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": []})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    assert "TagCount" not in s3.head_object(Bucket=bucket, Key="k")


def test_a_delete_marker_can_be_neither_tagged_nor_read_for_tags(s3: S3Client, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Tagging="a=b")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    tags: Any = {"TagSet": [{"Key": "x", "Value": "y"}]}
    for which in ({}, {"VersionId": marker}):
        there: Any = {"Bucket": versioned, "Key": "k", **which}
        assert refused(lambda there=there: s3.put_object_tagging(**there, Tagging=tags)) == ("MethodNotAllowed", 405)
        assert refused(lambda there=there: s3.delete_object_tagging(**there)) == ("MethodNotAllowed", 405)
        assert refused(lambda there=there: s3.get_object_tagging(**there)) == ("MethodNotAllowed", 405)
        assert refused(lambda there=there: s3.put_object_acl(**there, ACL="private")) == ("MethodNotAllowed", 405)
    assert refused(lambda: s3.get_object_acl(Bucket=versioned, Key="k", VersionId=marker)) == ("MethodNotAllowed", 405)
    assert refused(lambda: s3.get_object_acl(Bucket=versioned, Key="k")) == ("NoSuchKey", 404)
    assert refused(lambda: s3.delete_object(Bucket=versioned, Key="k", IfMatch="*")) == ("NoSuchKey", 404)
    assert refused(lambda: s3.put_object_tagging(Bucket=versioned, Key="none", Tagging=tags)) == ("NoSuchKey", 404)


def test_an_empty_set_takes_the_tags_of_a_bucket_away(s3: S3Client, bucket: str) -> None:
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": []})
    assert refused(lambda: s3.get_bucket_tagging(Bucket=bucket)) == ("NoSuchTagSet", 404)


def test_tags_of_buckets(s3: S3Client, bucket: str) -> None:
    assert refused(lambda: s3.get_bucket_tagging(Bucket=bucket)) == ("NoSuchTagSet", 404)
    tags: Any = [{"Key": str(n), "Value": "v"} for n in range(50)]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=bucket)
    assert refused(lambda: s3.get_bucket_tagging(Bucket=bucket)) == ("NoSuchTagSet", 404)
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert refused(lambda: s3.get_bucket_tagging(Bucket=bucket)) == ("NoSuchTagSet", 404)


# ---- object lock -----------------------------------------------------------------------------------------------------
def soon(days: float = 1) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


def test_a_bucket_made_for_locks(s3: S3Client, lockable: str) -> None:
    assert s3.get_bucket_versioning(Bucket=lockable)["Status"] == "Enabled"
    assert s3.get_object_lock_configuration(Bucket=lockable)["ObjectLockConfiguration"] == {"ObjectLockEnabled": "Enabled"}
    suspend: Any = {"Status": "Suspended"}
    assert refused(lambda: s3.put_bucket_versioning(Bucket=lockable, VersioningConfiguration=suspend)) == (
        "InvalidBucketState", 409)


def test_buckets_without_locks(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    assert refused(lambda: s3.get_object_lock_configuration(Bucket=bucket)) == ("ObjectLockConfigurationNotFoundError", 404)
    assert refused(lambda: s3.get_object_retention(Bucket=bucket, Key="k")) == ("InvalidRequest", 400)
    assert refused(lambda: s3.put_object_legal_hold(Bucket=bucket, Key="k", LegalHold={"Status": "ON"})) == (
        "InvalidRequest", 400)
    configuration: Any = {"ObjectLockEnabled": "Enabled"}
    assert refused(lambda: s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)) == (
        "InvalidBucketState", 409)
    assert refused(lambda: s3.put_object(Bucket=bucket, Key="k", ObjectLockLegalHoldStatus="ON")) == ("InvalidRequest", 400)


def test_default_retention_holds(s3: S3Client, lockable: str) -> None:
    rule: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    s3.put_object_lock_configuration(Bucket=lockable, ObjectLockConfiguration=rule)
    assert s3.get_object_lock_configuration(Bucket=lockable)["ObjectLockConfiguration"] == rule
    version = s3.put_object(Bucket=lockable, Key="k", Body=b"data")["VersionId"]
    shown = s3.head_object(Bucket=lockable, Key="k")
    assert shown["ObjectLockMode"] == "GOVERNANCE" and abs(shown["ObjectLockRetainUntilDate"] - soon()) < timedelta(minutes=1)
    assert refused(lambda: s3.delete_object(Bucket=lockable, Key="k", VersionId=version)) == ("AccessDenied", 403)
    (error,) = s3.delete_objects(Bucket=lockable, Delete={"Objects": [{"Key": "k", "VersionId": version}]})["Errors"]
    assert error["Code"] == "AccessDenied"
    assert s3.delete_object(Bucket=lockable, Key="k")["DeleteMarker"]
    s3.delete_object(Bucket=lockable, Key="k", VersionId=version, BypassGovernanceRetention=True)


def test_compliance_is_only_ever_made_longer(s3: S3Client, lockable: str) -> None:
    until = soon(2)
    version = s3.put_object(Bucket=lockable, Key="k", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)["VersionId"]

    def retain(mode: Any, date: datetime) -> Any:
        return s3.put_object_retention(Bucket=lockable, Key="k", BypassGovernanceRetention=True,
                                       Retention={"Mode": mode, "RetainUntilDate": date})

    assert refused(lambda: retain("COMPLIANCE", soon(1))) == ("AccessDenied", 403)
    assert refused(lambda: retain("GOVERNANCE", soon(3))) == ("AccessDenied", 403)
    assert refused(lambda: s3.delete_object(Bucket=lockable, Key="k", VersionId=version, BypassGovernanceRetention=True)) == (
        "AccessDenied", 403)
    retain("COMPLIANCE", soon(3))
    assert s3.get_object_retention(Bucket=lockable, Key="k")["Retention"]["RetainUntilDate"] > until


def test_governance_needs_the_bypass(s3: S3Client, lockable: str) -> None:
    s3.put_object(Bucket=lockable, Key="k", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=soon(2))
    shorter: Any = {"Mode": "GOVERNANCE", "RetainUntilDate": soon(1)}
    assert refused(lambda: s3.put_object_retention(Bucket=lockable, Key="k", Retention=shorter)) == ("AccessDenied", 403)
    s3.put_object_retention(Bucket=lockable, Key="k", Retention=shorter, BypassGovernanceRetention=True)
    s3.put_object_retention(Bucket=lockable, Key="k", Retention={}, BypassGovernanceRetention=True)
    assert refused(lambda: s3.get_object_retention(Bucket=lockable, Key="k")) == ("NoSuchObjectLockConfiguration", 404)


def test_a_legal_hold_outlasts_every_bypass(s3: S3Client, lockable: str) -> None:
    version = s3.put_object(Bucket=lockable, Key="k", Body=b"data")["VersionId"]
    s3.put_object_legal_hold(Bucket=lockable, Key="k", LegalHold={"Status": "ON"})
    assert s3.get_object_legal_hold(Bucket=lockable, Key="k")["LegalHold"] == {"Status": "ON"}
    assert s3.get_object(Bucket=lockable, Key="k")["ObjectLockLegalHoldStatus"] == "ON"
    assert refused(lambda: s3.delete_object(Bucket=lockable, Key="k", VersionId=version, BypassGovernanceRetention=True)) == (
        "AccessDenied", 403)
    s3.put_object_legal_hold(Bucket=lockable, Key="k", LegalHold={"Status": "OFF"})
    s3.delete_object(Bucket=lockable, Key="k", VersionId=version)


@pytest.mark.parametrize(("rule", "code"), [
    ({"Mode": "GOVERNANCE", "Days": 0}, "InvalidArgument"), ({"Mode": "GOVERNANCE", "Days": 36501}, "InvalidArgument"),
    ({"Mode": "GOVERNANCE", "Years": -1}, "InvalidArgument"), ({"Mode": "other", "Days": 1}, "MalformedXML"),
    ({"Mode": "GOVERNANCE", "Days": 1, "Years": 1}, "MalformedXML"), ({"Mode": "GOVERNANCE"}, "MalformedXML"),
])
def test_default_retention_that_s3_refuses(rule: Any, code: str, s3: S3Client, lockable: str) -> None:
    configuration: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": rule}}
    assert refused(lambda: s3.put_object_lock_configuration(Bucket=lockable, ObjectLockConfiguration=configuration)) == (
        code, 400)


def test_lock_headers_that_s3_refuses(s3: S3Client, lockable: str) -> None:
    past, wrong = soon(-1), "STRICT"
    for given in ({"ObjectLockMode": "GOVERNANCE"}, {"ObjectLockRetainUntilDate": soon()},
                  {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": past},
                  {"ObjectLockMode": wrong, "ObjectLockRetainUntilDate": soon()}, {"ObjectLockLegalHoldStatus": "on"}):
        arguments: Any = {"Bucket": lockable, "Key": "k", **given}
        assert refused(lambda arguments=arguments: s3.put_object(**arguments)) == ("InvalidArgument", 400)
    assert "Versions" not in s3.list_object_versions(Bucket=lockable)


def test_a_bypass_where_nothing_is_locked_is_a_mistake(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    assert refused(lambda: s3.delete_object(Bucket=bucket, Key="k", BypassGovernanceRetention=True)) == ("InvalidArgument", 400)
    doomed: Any = {"Objects": [{"Key": "k"}]}
    assert refused(lambda: s3.delete_objects(Bucket=bucket, Delete=doomed, BypassGovernanceRetention=True)) == (
        "InvalidArgument", 400)
    s3.head_object(Bucket=bucket, Key="k")
    s3.delete_object(Bucket=bucket, Key="k", BypassGovernanceRetention=False)


def test_what_will_be_locked_has_to_come_with_a_digest(server: Server, s3: S3Client, lockable: str) -> None:
    wire = Wire(server)
    hold = {"x-amz-object-lock-legal-hold": "OFF"}
    assert wire.ask("PUT", f"/{lockable}/k", body=b"data").status == 200
    assert wire.ask("PUT", f"/{lockable}/k", hold, b"data").code == "InvalidRequest"
    digest = b64encode(md5(b"data").digest()).decode()
    assert wire.ask("PUT", f"/{lockable}/k", hold | {"content-md5": digest}, b"data").status == 200
    rule: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    s3.put_object_lock_configuration(Bucket=lockable, ObjectLockConfiguration=rule)
    assert wire.ask("PUT", f"/{lockable}/k", body=b"data").code == "InvalidRequest"
    for target, body in (
        ("k?legal-hold", b"<LegalHold><Status>OFF</Status></LegalHold>"), ("k?retention", b"<Retention/>"),
        ("?object-lock", b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"),
    ):
        target = f"/{lockable}/{target}".replace("/?", "?")
        assert wire.ask("PUT", target, body=body).code == "InvalidRequest"
        assert wire.ask("PUT", target, {"content-md5": b64encode(md5(body).digest()).decode()}, body).status == 200
        nothing = wire.ask("PUT", target, {"content-md5": b64encode(md5().digest()).decode()})
        assert nothing.code == ("MissingRequestBodyError" if "object-lock" in target else "MalformedXML")


@pytest.mark.parametrize("date", ["tomorrow", "2100-01-01", "21000101T000000Z", "2100-W01-1", "2100-13-01T00:00:00Z", "1e9"])
def test_a_date_that_is_none(server: Server, lockable: str, date: str) -> None:
    wire = Wire(server)
    assert wire.ask("PUT", f"/{lockable}/k", body=b"data").status == 200
    body = f"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{date}</RetainUntilDate></Retention>".encode()
    digest = {"content-md5": b64encode(md5(body).digest()).decode()}
    assert wire.ask("PUT", f"/{lockable}/k?retention", digest, body).code == "MalformedXML"
    headers = {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": date}
    assert wire.ask("PUT", f"/{lockable}/k", headers, b"data").code == "InvalidArgument"


def test_a_delete_marker_cannot_be_locked(s3: S3Client, lockable: str) -> None:
    s3.put_object(Bucket=lockable, Key="k")
    s3.delete_object(Bucket=lockable, Key="k")
    retention: Any = {"Mode": "GOVERNANCE", "RetainUntilDate": soon()}
    assert refused(lambda: s3.put_object_retention(Bucket=lockable, Key="k", Retention=retention)) == ("MethodNotAllowed", 405)
    assert refused(lambda: s3.put_object_legal_hold(Bucket=lockable, Key="k", LegalHold={"Status": "ON"})) == (
        "MethodNotAllowed", 405)


# ---- many at once, and a dead volume ---------------------------------------------------------------------------------
def test_many_clients_and_a_dead_volume_lose_no_version(make_server: MakeServer) -> None:
    """Eight clients put, copy, tag, upload and delete three keys; every version that was answered is there, once, in order."""
    server = make_server(4, "--durability", "page-cache")
    s3: Any = server.client()
    s3.create_bucket(Bucket="many")
    s3.put_object(Bucket="many", Key="k0", Body=b"before")
    s3.put_bucket_versioning(Bucket="many", VersioningConfiguration={"Status": "Enabled"})
    remove(server.volumes[1])
    kept: dict[tuple[str, str], bytes | None] = {("k0", "null"): b"before"}
    tagged: dict[tuple[str, str], str] = {}

    def client(number: int) -> None:
        chance = random.Random(number)
        for step in range(12):
            key, body = f"k{chance.randrange(3)}", f"{number} {step} ".encode() * chance.choice((1, 9000))
            match chance.randrange(5):
                case 0:
                    kept[key, s3.delete_object(Bucket="many", Key=key)["VersionId"]] = None
                case 1:
                    upload = s3.create_multipart_upload(Bucket="many", Key=key)["UploadId"]
                    part = s3.upload_part(Bucket="many", Key=key, UploadId=upload, PartNumber=1, Body=body)
                    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
                    done = s3.complete_multipart_upload(Bucket="many", Key=key, UploadId=upload, MultipartUpload=parts)
                    kept[key, done["VersionId"]] = body
                case 2:
                    source = {"Bucket": "many", "Key": "k0", "VersionId": "null"}
                    kept[key, s3.copy_object(Bucket="many", Key=key, CopySource=source)["VersionId"]] = b"before"
                case _:
                    version = s3.put_object(Bucket="many", Key=key, Body=body)["VersionId"]
                    kept[key, version] = body
                    tags = {"TagSet": [{"Key": "n", "Value": str(step)}]}
                    s3.put_object_tagging(Bucket="many", Key=key, VersionId=version, Tagging=tags)
                    tagged[key, version] = str(step)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(client, range(8)))
    found = [each for page in s3.get_paginator("list_object_versions").paginate(Bucket="many", PaginationConfig={"PageSize": 7})
             for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]]
    assert sorted((each["Key"], each["VersionId"]) for each in found) == sorted(kept)
    assert sum(each["IsLatest"] for each in found) == len({key for key, _ in kept})
    for (key, version), body in kept.items():
        if body is not None:
            answer = s3.get_object(Bucket="many", Key=key, VersionId=version)
            assert answer["Body"].read() == body
            assert answer.get("TagCount", 0) == ((key, version) in tagged)
    doomed = [{"Key": key, "VersionId": version} for key, version in kept]
    assert "Errors" not in s3.delete_objects(Bucket="many", Delete={"Objects": doomed, "Quiet": True})
    s3.delete_bucket(Bucket="many")
    s3.close()


# ---- listings of versions --------------------------------------------------------------------------------------------
TREE = ["a", "a/", "a/1", "a/2", "a/b/c", "b", "c/x/y", "c/x/z", "d\u00e4/\u20ac", "e f", "z"]


@pytest.fixture(scope="module")
def tree(s3: S3Client) -> list[tuple[str, str]]:
    """A bucket `tree` of keys with up to three versions or delete markers each; (key, version id) as they have to be listed."""
    s3.create_bucket(Bucket="tree-of-versions")
    s3.put_object(Bucket="tree-of-versions", Key="a/1", Body=b"null")
    s3.put_bucket_versioning(Bucket="tree-of-versions", VersioningConfiguration={"Status": "Enabled"})
    found = {key: ["null"] if key == "a/1" else [] for key in TREE}
    for number, key in enumerate(TREE):
        for _ in range(number % 3 + 1):
            found[key].append(s3.put_object(Bucket="tree-of-versions", Key=key)["VersionId"])
        if number % 4 == 1:
            found[key].append(s3.delete_object(Bucket="tree-of-versions", Key=key)["VersionId"])
    return [(key, version) for key in sorted(TREE, key=str.encode) for version in reversed(found[key])]


def expected(tree: list[tuple[str, str]], prefix: str, delimiter: str) -> list[tuple[str, str]]:
    """Versions, and common prefixes with an empty id, in order."""
    entries: list[tuple[str, str]] = []
    for key, version in tree:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = (key, version) if at < 0 else (key[: at + len(delimiter)], "")
            if entry not in entries or entry[1]:
                entries.append(entry)
    return entries


@pytest.mark.parametrize("delimiter", ["", "/", "x/"])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "none"])
@pytest.mark.parametrize("size", [1, 4])
def test_pages_of_versions_are_the_whole_in_pieces(
    s3: S3Client, tree: list[tuple[str, str]], prefix: str, delimiter: str, size: int
) -> None:
    entries: list[tuple[str, str]] = []
    marker: dict[str, str] = {}
    for _ in range(len(tree) + 1):
        page: Any = s3.list_object_versions(Bucket="tree-of-versions", Prefix=prefix, Delimiter=delimiter, MaxKeys=size, **marker)
        own = [(each["Key"], each["VersionId"]) for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]]
        shown = own + [(each["Prefix"], "") for each in page.get("CommonPrefixes", [])]
        assert len(shown) <= size and bool(shown) >= page["IsTruncated"]
        entries += sorted(shown, key=lambda entry: expected(tree, prefix, delimiter).index(entry))
        if not page["IsTruncated"]:
            break
        marker = {"KeyMarker": page["NextKeyMarker"]}
        if page.get("NextVersionIdMarker"):
            marker["VersionIdMarker"] = page["NextVersionIdMarker"]
    assert entries == expected(tree, prefix, delimiter)


def test_each_key_has_one_latest_version(s3: S3Client, tree: list[tuple[str, str]]) -> None:
    page: Any = s3.list_object_versions(Bucket="tree-of-versions")
    latest = {each["Key"]: each["VersionId"] for each in page["Versions"] + page["DeleteMarkers"] if each["IsLatest"]}
    assert latest == {key: next(version for name, version in tree if name == key) for key in TREE}


def test_a_page_goes_on_behind_any_version(s3: S3Client, tree: list[tuple[str, str]]) -> None:
    for at, (key, version) in enumerate(tree):
        page: Any = s3.list_object_versions(Bucket="tree-of-versions", KeyMarker=key, VersionIdMarker=version)
        assert sum(len(page.get(kind, [])) for kind in ("Versions", "DeleteMarkers")) == len(tree) - at - 1
        page = s3.list_object_versions(Bucket="tree-of-versions", KeyMarker=key)
        rest = [name for name, _ in tree if name.encode() > key.encode()]
        assert sum(len(page.get(kind, [])) for kind in ("Versions", "DeleteMarkers")) == len(rest)


@pytest.mark.parametrize(("header", "code"), [
    ("&", ""), ("&&", ""), ("a&b", ""), ("a", ""), ("=", "InvalidArgument"), ("a=1&a=2", "InvalidArgument"),
    ("a=1&a=1", "InvalidArgument"), ("a=%zz", "InvalidArgument"), ("a!=b", "InvalidTag"), ("aws:a=b", "InvalidTag"),
])
def test_the_header_of_tags_in_all_its_forms(server: Server, bucket: str, header: str, code: str) -> None:
    wire = Wire(server)
    answer = wire.ask("PUT", f"/{bucket}/k", {"x-amz-tagging": header}, b"data")
    assert answer.code == code
    if not code:
        shown = wire.ask("GET", f"/{bucket}/k?tagging").body.decode()
        assert re.findall("<Key>(.*?)</Key>", shown) == [key for key in header.split("&") if key]
