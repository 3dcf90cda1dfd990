"""Settings that cannot be made: reading them says so as S3 does, taking them away succeeds, making them is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from abixio.s3.unset import HANDLERS
from tests.s3_harness import Harness

ABSENT = {
    "metadataConfiguration": "MetadataConfigurationNotFound",
    "metadataTable": "MetadataConfigurationNotFound",
    "policy": "NoSuchBucketPolicy",
    "policyStatus": "NoSuchBucketPolicy",
    "replication": "ReplicationConfigurationNotFoundError",
}
REMOVABLE = ["metadataConfiguration", "metadataTable", "policy", "replication"]
PLAIN = ["logging", "notification"]
SETTABLE = ["policy", "replication"]


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    harness.ask("PUT", "/b01/k", body=b"data")
    yield harness
    harness.close()


@pytest.mark.parametrize("name", ABSENT)
def test_what_was_never_set_is_not_found(s3: Harness, name: str) -> None:
    answer = s3.ask("GET", f"/b01?{name}")
    assert (answer.status, answer.code) == (404, ABSENT[name])
    assert b"<BucketName>b01</BucketName>" in answer.body


@pytest.mark.parametrize("name", [*ABSENT, *PLAIN])
def test_a_bucket_that_is_not_there_has_no_settings(s3: Harness, name: str) -> None:
    assert s3.ask("GET", f"/none?{name}").code == "NoSuchBucket"


@pytest.mark.parametrize("name", REMOVABLE)
def test_what_was_never_set_can_be_taken_away(s3: Harness, name: str) -> None:
    assert s3.ask("DELETE", f"/b01?{name}").status == 204
    assert s3.ask("DELETE", f"/none?{name}").code == "NoSuchBucket"
    assert s3.ask("GET", "/b01/k").body == b"data"


@pytest.mark.parametrize("name", SETTABLE)
def test_what_cannot_be_kept_is_refused(s3: Harness, name: str) -> None:
    assert s3.ask("PUT", f"/b01?{name}", body=b"<x/>").status == 501


def test_boto3_reads_what_nobody_set(s3: Harness) -> None:
    client = s3.client()
    assert "Status" not in client.get_bucket_versioning(Bucket="b01")
    assert "Status" not in client.get_bucket_accelerate_configuration(Bucket="b01")
    assert "LoggingEnabled" not in client.get_bucket_logging(Bucket="b01")
    assert client.get_bucket_request_payment(Bucket="b01")["Payer"] == "BucketOwner"
    assert set(client.get_bucket_notification_configuration(Bucket="b01")) == {"ResponseMetadata"}
    rules = client.get_bucket_ownership_controls(Bucket="b01")["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert client.get_object_tagging(Bucket="b01", Key="k")["TagSet"] == []
    client.delete_object_tagging(Bucket="b01", Key="k")
    for listed in (client.list_bucket_analytics_configurations, client.list_bucket_inventory_configurations,
                   client.list_bucket_metrics_configurations, client.list_bucket_intelligent_tiering_configurations):
        assert listed(Bucket="b01")["IsTruncated"] is False
    with pytest.raises(ClientError, match="NoSuchTagSet"):
        client.get_bucket_tagging(Bucket="b01")


@pytest.mark.parametrize("name", ["legal-hold", "retention"])
def test_no_object_is_locked(s3: Harness, name: str) -> None:
    answer = s3.ask("GET", f"/b01/k?{name}")
    assert (answer.code, b"Bucket is missing Object Lock Configuration" in answer.body) == ("InvalidRequest", True)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_only_objects_that_are_there_have_no_tags(s3: Harness, method: str) -> None:
    assert s3.ask(method, "/b01/none?tagging").code == "NoSuchKey"
    assert s3.ask(method, f"/b01/k?tagging&versionId={'x' * 32}").code == "NoSuchVersion"
    assert s3.ask(method, "/b01/k?tagging&versionId=null").status in (200, 204)


def test_every_one_of_them_is_asked_here() -> None:
    assert len(HANDLERS) == len(ABSENT) + len(REMOVABLE) + len(PLAIN)
