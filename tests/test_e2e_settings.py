"""Settings of buckets on a running server: they outlast a restart and a dead volume, and go with their bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from abixio.s3.grants import EVERYBODY
from tests.server import remove
from tests.test_s3_settings import FILED, NAMES, WEBSITE

if TYPE_CHECKING:
    from tests.conftest import MakeServer

BLOCK: Any = {"BlockPublicAcls": True, "IgnorePublicAcls": False, "BlockPublicPolicy": True, "RestrictPublicBuckets": False}
RULES: Any = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}


def code(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(Bucket="set", **arguments)
    return str(caught.value.response["Error"]["Code"])


def put_all(s3: Any) -> None:
    s3.create_bucket(Bucket="set")
    s3.put_bucket_website(Bucket="set", WebsiteConfiguration=WEBSITE)
    s3.put_public_access_block(Bucket="set", PublicAccessBlockConfiguration=BLOCK)
    s3.put_bucket_ownership_controls(Bucket="set", OwnershipControls=RULES)
    for operation, document in FILED.values():
        put = getattr(s3, f"put_bucket_{operation}_configuration")
        put(Bucket="set", Id="i", **{NAMES[operation]: document})


def check_all(s3: Any) -> None:
    found = s3.get_bucket_website(Bucket="set")
    assert {name: found[name] for name in WEBSITE} == WEBSITE
    assert s3.get_public_access_block(Bucket="set")["PublicAccessBlockConfiguration"] == BLOCK
    assert s3.get_bucket_ownership_controls(Bucket="set")["OwnershipControls"] == RULES
    for operation, document in FILED.values():
        if operation != "metrics" or document is FILED["metrics of both"][1]:
            assert getattr(s3, f"get_bucket_{operation}_configuration")(Bucket="set", Id="i")[NAMES[operation]] == document
            assert len(getattr(s3, f"list_bucket_{operation}_configurations")(Bucket="set")[NAMES[operation] + "List"]) == 1


def test_each_version_has_its_own_list(s3: Any, bucket: str) -> None:
    def shown(**version: str) -> list[tuple[str, str]]:
        answer = s3.get_object_acl(Bucket=bucket, Key="v", **version)
        return [(each["Grantee"].get("URI", "owner"), each["Permission"]) for each in answer["Grants"]]

    private, public = [("owner", "FULL_CONTROL")], [("owner", "FULL_CONTROL"), (EVERYBODY, "READ")]
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=RULES)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=BLOCK | {
        "BlockPublicAcls": False, "IgnorePublicAcls": True})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="v", Body=b"1", ACL="public-read")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="v", Body=b"2")["VersionId"]
    assert (shown(), shown(VersionId=first)) == (private, public)
    s3.put_object_acl(Bucket=bucket, Key="v", VersionId=first, ACL="private")
    s3.put_object_acl(Bucket=bucket, Key="v", ACL="public-read")
    assert (shown(VersionId=second), shown(VersionId=first)) == (public, private)
    assert s3.get_object(Bucket=bucket, Key="v", VersionId=first)["Body"].read() == b"1"


def test_settings_outlast_a_restart_and_a_dead_volume_and_go_with_their_bucket(make_server: MakeServer) -> None:
    server = make_server(4, "--durability", "page-cache")
    s3: Any = server.client()
    put_all(s3)
    check_all(s3)
    s3.close()
    remove(server.volumes[2])
    server.restart()
    s3 = server.client()
    check_all(s3)
    s3.delete_bucket_website(Bucket="set")
    assert code(s3.get_bucket_website) == "NoSuchWebsiteConfiguration"
    s3.delete_bucket(Bucket="set")
    s3.create_bucket(Bucket="set")
    assert code(s3.get_bucket_website) == "NoSuchWebsiteConfiguration"
    assert all(s3.get_public_access_block(Bucket="set")["PublicAccessBlockConfiguration"].values())
    assert code(s3.get_bucket_inventory_configuration, Id="i") == "NoSuchConfiguration"
    assert "MetricsConfigurationList" not in s3.list_bucket_metrics_configurations(Bucket="set")
    rules = s3.get_bucket_ownership_controls(Bucket="set")["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    s3.close()
