"""Lifecycle rules through boto3, on a server whose days are seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import factory
from tests.e2e import outcome
from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DAY = 1.0
"""Seconds."""
PATIENCE = 20.0
"""Seconds until a test gives up: what is due goes within two days, unless the machine is busy."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for make in factory(tmp_path_factory.mktemp("lifecycle")):
        yield make(3, "--durability", "page-cache", "--debug-day", "1")


@pytest.fixture(scope="module")
def s3(server: Server) -> Iterator[S3Client]:
    client = server.client()
    yield client
    client.close()


def ruled(s3: S3Client, name: str, *rules: Any, versioned: bool = False, **more: Any) -> str:
    s3.create_bucket(Bucket=name, **more)
    if versioned:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    if rules:
        put_rules(s3, name, *rules)
    return name


def put_rules(s3: S3Client, bucket: str, *rules: Any) -> None:
    complete: Any = [{"Filter": {}, **rule, "Status": "Enabled"} for rule in rules]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": complete})


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "nothing expired"
        time.sleep(0.1)


def keys(s3: S3Client, bucket: str) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def versions(s3: S3Client, bucket: str) -> list[tuple[str, str]]:
    found = s3.list_object_versions(Bucket=bucket)
    return sorted([(each["Key"], "object") for each in found.get("Versions", [])] +
                  [(each["Key"], "marker") for each in found.get("DeleteMarkers", [])])


def test_rules_take_what_they_are_about_and_nothing_else(s3: S3Client) -> None:
    """Several rules at once, so that one wait is enough."""
    tag: Any = {"Key": "k", "Value": "v"}
    rules: Any = [
        {"Filter": {"Prefix": "days/"}, "Expiration": {"Days": 1}},
        {"Filter": {"Tag": tag}, "Expiration": {"Days": 1}},
        {"Filter": {"And": {"Prefix": "size/", "ObjectSizeGreaterThan": 3, "ObjectSizeLessThan": 5}}, "Expiration": {"Days": 1}},
        {"Filter": {"Prefix": "date/"}, "Expiration": {"Date": datetime(2020, 1, 1, tzinfo=UTC)}},
        {"Filter": {"Prefix": "never/"}, "Expiration": {"Date": datetime(2100, 1, 1, tzinfo=UTC)}},
        {"Filter": {"Prefix": "late/"}, "Expiration": {"Days": 3650}},
    ]
    bucket = ruled(s3, "rules", *rules)
    for key, body, tags in (
        ("days/1", b"data", ""), ("tagged", b"data", "k=v"), ("tagged/other", b"data", "k=w"), ("size/3", b"123", ""),
        ("size/4", b"1234", ""), ("size/5", b"12345", ""), ("date/1", b"data", ""), ("never/1", b"data", ""),
        ("late/1", b"data", ""), ("other", b"data", ""),
    ):
        s3.put_object(Bucket=bucket, Key=key, Body=body, Tagging=tags)
    stay = ["late/1", "never/1", "other", "size/3", "size/5", "tagged/other"]
    eventually(lambda: keys(s3, bucket) == stay)
    time.sleep(DAY)
    assert keys(s3, bucket) == stay
    assert s3.get_object(Bucket=bucket, Key="other")["Body"].read() == b"data"
    assert outcome(lambda: s3.head_object(Bucket=bucket, Key="days/1")) == 404
    s3.put_object_tagging(Bucket=bucket, Key="other", Tagging={"TagSet": [tag]})
    eventually(lambda: "other" not in keys(s3, bucket))


def test_versions_and_markers_go_in_their_turn_and_locked_ones_stay(s3: S3Client) -> None:
    bucket = ruled(s3, "versions", versioned=True)
    locked = ruled(s3, "locked", ObjectLockEnabledForBucket=True)
    for body in (b"one", b"two"):
        s3.put_object(Bucket=bucket, Key="k", Body=body)
        s3.put_object(Bucket=locked, Key="k", Body=body, ObjectLockLegalHoldStatus="ON")
    s3.put_object(Bucket=locked, Key="free", Body=b"data")
    for name in (bucket, locked):
        put_rules(s3, name, {"Expiration": {"Days": 1}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}},
                  {"Expiration": {"ExpiredObjectDeleteMarker": True}})
    eventually(lambda: versions(s3, bucket) == [])
    eventually(lambda: versions(s3, locked) == [("k", "marker"), ("k", "object"), ("k", "object")])
    for version in s3.list_object_versions(Bucket=locked)["Versions"]:
        assert s3.get_object(Bucket=locked, Key="k", VersionId=version["VersionId"])["Body"].read() in (b"one", b"two")
        s3.put_object_legal_hold(Bucket=locked, Key="k", VersionId=version["VersionId"], LegalHold={"Status": "OFF"})
    eventually(lambda: versions(s3, locked) == [])


def test_noncurrent_versions_beyond_the_newest_go(s3: S3Client) -> None:
    rule: Any = {"NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 2}}
    bucket = ruled(s3, "newer", rule, versioned=True)
    ids = [s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number)["VersionId"] for number in range(5)]
    eventually(lambda: len(versions(s3, bucket)) == 3)
    time.sleep(DAY)
    assert [each["VersionId"] for each in s3.list_object_versions(Bucket=bucket)["Versions"]] == ids[:1:-1]


def test_uploads_that_nobody_completes_are_aborted(s3: S3Client) -> None:
    rule: Any = {"Filter": {"Prefix": "a"}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}
    bucket = ruled(s3, "uploads", rule)
    before = datetime.now(UTC)
    began = s3.create_multipart_upload(Bucket=bucket, Key="a")
    assert before < began["AbortDate"] + timedelta(seconds=1) < datetime.now(UTC) + timedelta(seconds=4 * DAY)
    s3.upload_part(Bucket=bucket, Key="a", UploadId=began["UploadId"], PartNumber=1, Body=b"data")
    other = s3.create_multipart_upload(Bucket=bucket, Key="b")["UploadId"]
    eventually(lambda: [each["UploadId"] for each in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [other])
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.list_parts(Bucket=bucket, Key="a", UploadId=began["UploadId"])


def test_an_object_goes_when_its_header_says_and_not_before(s3: S3Client) -> None:
    bucket = ruled(s3, "header", {"ID": "soon", "Expiration": {"Days": 2}})
    said = s3.put_object(Bucket=bucket, Key="k", Body=b"data")["Expiration"]
    due = parsedate_to_datetime(said.split('"')[1])
    assert said.endswith('rule-id="soon"')
    eventually(lambda: outcome(lambda: s3.head_object(Bucket=bucket, Key="k")) == 404)
    assert datetime.now(UTC) >= due


def test_rules_that_are_deleted_delete_nothing_and_a_restart_forgets_none(s3: S3Client, server: Server) -> None:
    bucket = ruled(s3, "deleted", {"Expiration": {"Days": 1}})
    s3.delete_bucket_lifecycle(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    again = ruled(s3, "restarted", {"Expiration": {"Days": 3}})
    s3.put_object(Bucket=again, Key="k", Body=b"data")
    server.restart()
    client = server.client()
    eventually(lambda: keys(client, again) == [])
    assert keys(client, bucket) == ["k"]
    client.close()
