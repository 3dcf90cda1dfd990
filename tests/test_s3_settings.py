"""Settings of buckets that are kept and shown: what comes back is what was put, and what would be a promise is refused."""

from __future__ import annotations

import copy
import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import md5
from typing import Any

import pytest
from botocore.exceptions import ClientError

from abixio.s3.filed import PAGE
from tests.s3_harness import Harness

TAG = {"Key": "a", "Value": "<b>"}
EVENTS = {"TopicConfigurations": [{"TopicArn": "arn:aws:sns:us-east-1:1:t", "Events": ["s3:ObjectCreated:*"]}]}
WEBSITE: dict[str, Any] = {
    "IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "a&b/ error"},
    "RoutingRules": [
        {"Condition": {"KeyPrefixEquals": "docs/"}, "Redirect": {"ReplaceKeyPrefixWith": "", "HostName": "example.com"}},
        {"Condition": {"HttpErrorCodeReturnedEquals": "404"}, "Redirect": {"HttpRedirectCode": "301", "Protocol": "https"}},
    ],
}
INVENTORY: dict[str, Any] = {
    "Id": "i", "IsEnabled": False, "IncludedObjectVersions": "All", "Schedule": {"Frequency": "Daily"},
    "OptionalFields": ["Size", "ETag"], "Filter": {"Prefix": "x/"},
    "Destination": {"S3BucketDestination": {"Bucket": "arn:aws:s3:::b", "Format": "CSV", "Encryption": {"SSES3": {}}}},
}
SINGLE: dict[str, tuple[str, dict[str, Any]]] = {
    "website": ("bucket_website", {"WebsiteConfiguration": WEBSITE}),
    "redirect": ("bucket_website", {"WebsiteConfiguration": {"RedirectAllRequestsTo": {"HostName": "h", "Protocol": "https"}}}),
    "block": ("public_access_block", {"PublicAccessBlockConfiguration": {
        "BlockPublicAcls": True, "IgnorePublicAcls": False, "BlockPublicPolicy": True, "RestrictPublicBuckets": False}}),
    "accelerate": ("bucket_accelerate_configuration", {"AccelerateConfiguration": {"Status": "Suspended"}}),
    "payment": ("bucket_request_payment", {"RequestPaymentConfiguration": {"Payer": "BucketOwner"}}),
    "abac": ("bucket_abac", {"AbacStatus": {"Status": "Disabled"}}),
    "enforced": ("bucket_ownership_controls", {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}}),
    "preferred": ("bucket_ownership_controls", {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}}),
    "writer": ("bucket_ownership_controls", {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}}),
    "logging": ("bucket_logging", {"BucketLoggingStatus": {}}),
    "notification": ("bucket_notification_configuration", {"NotificationConfiguration": {}}),
}
FILED: dict[str, tuple[str, dict[str, Any]]] = {
    "metrics": ("metrics", {"Id": "i"}),
    "metrics of a tag": ("metrics", {"Id": "i", "Filter": {"Tag": TAG}}),
    "metrics of both": ("metrics", {"Id": "i", "Filter": {"And": {"Prefix": " p/", "Tags": [TAG, {"Key": "b", "Value": ""}]}}}),
    "analytics": ("analytics", {"Id": "i", "Filter": {"Prefix": "p"}, "StorageClassAnalysis": {}}),
    "tiering": ("intelligent_tiering", {"Id": "i", "Status": "Enabled", "Filter": {"Prefix": "a"}, "Tierings": [
        {"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}, {"Days": 180, "AccessTier": "DEEP_ARCHIVE_ACCESS"}]}),
    "inventory": ("inventory", INVENTORY),
}
NAMES = {"metrics": "MetricsConfiguration", "analytics": "AnalyticsConfiguration",
         "intelligent_tiering": "IntelligentTieringConfiguration", "inventory": "InventoryConfiguration"}


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    yield harness
    harness.close()


def code(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(Bucket="b01", **arguments)
    return str(caught.value.response["Error"]["Code"])


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value somewhere; None takes it away."""
    found = copy.deepcopy(document)
    *way, last = path.split(".")
    place: Any = found
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return found


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_read_is_what_was_put(s3: Harness, name: str) -> None:
    operation, document = SINGLE[name]
    client: Any = s3.client()
    getattr(client, "put_" + operation)(Bucket="b01", **document)
    answer = getattr(client, "get_" + operation)(Bucket="b01")
    del answer["ResponseMetadata"]
    (put,) = document.values()
    wrapped = operation in ("public_access_block", "bucket_ownership_controls", "bucket_abac")
    assert json.dumps(answer, sort_keys=True) == json.dumps(document if wrapped else put, sort_keys=True)


@pytest.mark.parametrize("name", FILED)
def test_what_has_an_id_is_kept_under_it(s3: Harness, name: str) -> None:
    operation, document = FILED[name]
    client: Any = s3.client()
    get, put, delete, every = (getattr(client, verb) for verb in (
        f"get_bucket_{operation}_configuration", f"put_bucket_{operation}_configuration",
        f"delete_bucket_{operation}_configuration", f"list_bucket_{operation}_configurations"))
    assert code(get, Id="i") == code(delete, Id="i") == "NoSuchConfiguration"
    put(Bucket="b01", Id="i", **{NAMES[operation]: document})
    assert get(Bucket="b01", Id="i")[NAMES[operation]] == document
    assert every(Bucket="b01")[NAMES[operation] + "List"] == [document]
    delete(Bucket="b01", Id="i")
    assert code(get, Id="i") == "NoSuchConfiguration"
    assert NAMES[operation] + "List" not in every(Bucket="b01")


def test_a_list_of_configurations_pages(s3: Harness) -> None:
    client = s3.client()
    ids = sorted(f"id-{number}" for number in range(PAGE + 1))
    for id in ids:
        client.put_bucket_metrics_configuration(Bucket="b01", Id=id, MetricsConfiguration={"Id": id})
    first = client.list_bucket_metrics_configurations(Bucket="b01")
    assert first["IsTruncated"] and len(first["MetricsConfigurationList"]) == PAGE
    rest = client.list_bucket_metrics_configurations(Bucket="b01", ContinuationToken=first["NextContinuationToken"])
    assert not rest["IsTruncated"] and "NextContinuationToken" not in rest
    assert rest["ContinuationToken"] == first["NextContinuationToken"]
    assert [each["Id"] for each in first["MetricsConfigurationList"] + rest["MetricsConfigurationList"]] == ids
    assert code(client.list_bucket_metrics_configurations, ContinuationToken="?") == "InvalidArgument"


@pytest.mark.parametrize("id", ["", "a" * 65, "a%2Fb", "ä", "a b"])
def test_an_id_that_is_none(s3: Harness, id: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert s3.ask(method, f"/b01?metrics&id={id.replace(' ', '%20').replace('ä', '%C3%A4')}").code == "InvalidArgument"


def test_a_document_of_another_id_is_refused(s3: Harness) -> None:
    client = s3.client()
    assert code(client.put_bucket_metrics_configuration, Id="a", MetricsConfiguration={"Id": "b"}) == "InvalidArgument"
    assert "MetricsConfigurationList" not in client.list_bucket_metrics_configurations(Bucket="b01")


EXPORT = {"OutputSchemaVersion": "V_1", "Destination": {"S3BucketDestination": {"Format": "CSV", "Bucket": "b"}}}
PROMISES: list[tuple[str, dict[str, Any]]] = [
    ("put_bucket_accelerate_configuration", {"AccelerateConfiguration": {"Status": "Enabled"}}),
    ("put_bucket_request_payment", {"RequestPaymentConfiguration": {"Payer": "Requester"}}),
    ("put_bucket_abac", {"AbacStatus": {"Status": "Enabled"}}),
    ("put_bucket_logging", {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": "b01", "TargetPrefix": "p"}}}),
    ("put_bucket_notification_configuration", {"NotificationConfiguration": EVENTS}),
    ("put_bucket_notification_configuration", {"NotificationConfiguration": {"EventBridgeConfiguration": {}}}),
    ("put_bucket_inventory_configuration", {"Id": "i", "InventoryConfiguration": INVENTORY | {"IsEnabled": True}}),
    ("put_bucket_analytics_configuration", {"Id": "i", "AnalyticsConfiguration": {"Id": "i", "StorageClassAnalysis": {
        "DataExport": EXPORT}}}),
    ("put_bucket_metrics_configuration", {"Id": "i", "MetricsConfiguration": {"Id": "i", "Filter": {"AccessPointArn": "a"}}}),
]


@pytest.mark.parametrize(("operation", "arguments"), PROMISES)
def test_what_would_be_a_promise_is_not_implemented(s3: Harness, operation: str, arguments: dict[str, Any]) -> None:
    assert code(getattr(s3.client(), operation), **arguments) == "NotImplemented"
    assert s3.store.contents["b01"].configs == {}


WRONG_SITES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "InvalidArgument", "must be provided if RedirectAllRequestsTo is empty"),
    ({"IndexDocument": {"Suffix": "a/b"}}, "InvalidArgument", "not well formed"),
    ({"IndexDocument": {"Suffix": ""}}, "InvalidArgument", "not well formed"),
    ({"RedirectAllRequestsTo": {"HostName": "h"}, "IndexDocument": {"Suffix": "i"}}, "MalformedXML", "not well-formed"),
    ({"RedirectAllRequestsTo": {"HostName": "h", "Protocol": "ftp"}}, "InvalidRequest", "Invalid protocol"),
    (changed(WEBSITE, "RoutingRules.1.Redirect.HttpRedirectCode", "300"), "InvalidRequest", r"\(300\) is not valid"),
    (changed(WEBSITE, "RoutingRules.1.Redirect.HttpRedirectCode", "404"), "InvalidRequest", "3XX except 300"),
    (changed(WEBSITE, "RoutingRules.1.Condition.HttpErrorCodeReturnedEquals", "200"), "InvalidRequest", "4XX or 5XX"),
    (changed(WEBSITE, "RoutingRules.1.Condition", {}), "InvalidRequest", "Condition cannot be empty"),
    (changed(WEBSITE, "RoutingRules.1.Redirect", {}), "MalformedXML", "not well-formed"),
    (changed(WEBSITE, "RoutingRules.0.Redirect.ReplaceKeyWith", "x"), "InvalidRequest", "but not both"),
    (WEBSITE | {"RoutingRules": WEBSITE["RoutingRules"] * 26}, "InvalidRequest", "limited to 50"),
    (WEBSITE | {"RoutingRules": []}, "MalformedXML", "not well-formed"),
]


@pytest.mark.parametrize(("document", "expected", "message"), WRONG_SITES)
def test_a_website_that_makes_no_sense(s3: Harness, document: Any, expected: str, message: str) -> None:
    client = s3.client()
    with pytest.raises(ClientError, match=message) as caught:
        client.put_bucket_website(Bucket="b01", WebsiteConfiguration=document)
    assert caught.value.response["Error"]["Code"] == expected
    assert code(client.get_bucket_website) == "NoSuchWebsiteConfiguration"


@pytest.mark.parametrize(
    ("days", "tier", "expected"),
    [(89, "ARCHIVE_ACCESS", "InvalidArgument"), (179, "DEEP_ARCHIVE_ACCESS", "InvalidArgument"),
     (731, "ARCHIVE_ACCESS", "InvalidArgument"), (90, "COLD", "MalformedXML")],
)
def test_tiers_that_s3_does_not_have(s3: Harness, days: int, tier: Any, expected: str) -> None:
    configuration: Any = {"Id": "i", "Status": "Enabled", "Tierings": [{"Days": days, "AccessTier": tier}]}
    put = s3.client().put_bucket_intelligent_tiering_configuration
    assert code(put, Id="i", IntelligentTieringConfiguration=configuration) == expected


FILTERS = [b"<Filter/>", b"<Filter><Prefix>a</Prefix><Tag><Key>k</Key><Value/></Tag></Filter>",
           b"<Filter><And><Prefix>a</Prefix></And></Filter>", b"<Filter><Tag><Key/><Value/></Tag></Filter>"]


@pytest.mark.parametrize("filter", FILTERS)
def test_a_filter_is_one_condition_or_several_inside_and(s3: Harness, filter: bytes) -> None:
    body = b"<MetricsConfiguration><Id>i</Id>" + filter + b"</MetricsConfiguration>"
    assert s3.ask("PUT", "/b01?metrics&id=i", body=body).code == "MalformedXML"


MALFORMED = {
    "website": [b"<WebsiteConfiguration><Extra/></WebsiteConfiguration>", b"<Other/>", b"text"],
    "publicAccessBlock": [
        b"<PublicAccessBlockConfiguration><BlockPublicAcls>yes</BlockPublicAcls></PublicAccessBlockConfiguration>",
        b"<PublicAccessBlockConfiguration><BlockAll>true</BlockAll></PublicAccessBlockConfiguration>",
    ],
    "accelerate": [b"<AccelerateConfiguration/>", b"<AccelerateConfiguration><Status>On</Status></AccelerateConfiguration>",
                   b"<AccelerateConfiguration>x</AccelerateConfiguration>"],
    "requestPayment": [b"<RequestPaymentConfiguration/>",
                       b"<RequestPaymentConfiguration><Payer>Nobody</Payer></RequestPaymentConfiguration>"],
    "logging": [b"<BucketLoggingStatus><Enabled/></BucketLoggingStatus>", b"<BucketLoggingStatus>x</BucketLoggingStatus>"],
    "notification": [b"<NotificationConfiguration><TopicConfigurations/></NotificationConfiguration>"],
    "cors": [b"<CORSConfiguration/>", b"<CORSConfiguration><Extra/></CORSConfiguration>", *(
        b"<CORSConfiguration><CORSRule>" + rule + b"</CORSRule></CORSConfiguration>" for rule in (
            b"<AllowedOrigin>*</AllowedOrigin>", b"<AllowedMethod>GET</AllowedMethod>",
            b"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><Extra/>"))],
    "tagging": [b"<Tagging/>", b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value><Extra/></Tag></TagSet></Tagging>",
                b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>", b"<Tagging><TagSet/><Extra/></Tagging>"],
    "versioning": [b"<VersioningConfiguration><Status>On</Status></VersioningConfiguration>",
                   b"<VersioningConfiguration><Status>Enabled</Status><Extra/></VersioningConfiguration>"],
    "object-lock": [b"<ObjectLockConfiguration/>", b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>"
                    b"<Extra/></ObjectLockConfiguration>"],
    "ownershipControls": [b"<OwnershipControls/>",
                          b"<OwnershipControls><Rule><ObjectOwnership>Me</ObjectOwnership></Rule></OwnershipControls>",
                          b"<OwnershipControls>" + b"<Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>" * 2
                          + b"</OwnershipControls>"],
}


@pytest.mark.parametrize(("name", "body"), [(name, body) for name, bodies in MALFORMED.items() for body in bodies])
def test_a_document_that_s3_would_not_understand(s3: Harness, name: str, body: bytes) -> None:
    for sent, code in ((body, "MalformedXML"), (b"", "MissingRequestBodyError")):
        digest = {"content-md5": b64encode(md5(sent).digest()).decode()}
        assert s3.ask("PUT", f"/b01?{name}", digest, sent).code == code


def test_white_space_around_words_does_not_matter(s3: Harness) -> None:
    body = b"<RequestPaymentConfiguration>\n  <Payer>\n BucketOwner </Payer>\n</RequestPaymentConfiguration>"
    assert s3.ask("PUT", "/b01?requestPayment", body=body).status == 200


def test_blocks_that_are_not_named_are_off(s3: Harness) -> None:
    client = s3.client()
    client.put_public_access_block(Bucket="b01", PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    found = client.get_public_access_block(Bucket="b01")["PublicAccessBlockConfiguration"]
    off = {"IgnorePublicAcls": False, "BlockPublicPolicy": False, "RestrictPublicBuckets": False}
    assert found == off | {"BlockPublicAcls": True}


REMOVED = {"website": "NoSuchWebsiteConfiguration", "publicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
           "ownershipControls": "OwnershipControlsNotFoundError"}


@pytest.mark.parametrize("name", REMOVED)
def test_what_is_taken_away_is_not_found_and_can_be_taken_away_again(s3: Harness, name: str) -> None:
    client = s3.client()
    client.put_bucket_website(Bucket="b01", WebsiteConfiguration=WEBSITE)
    client.put_public_access_block(Bucket="b01", PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    assert s3.ask("GET", f"/b01?{name}").status == 200
    for _ in range(2):
        assert s3.ask("DELETE", f"/b01?{name}").status == 204
        answer = s3.ask("GET", f"/b01?{name}")
        assert (answer.status, answer.code) == (404, REMOVED[name])


@pytest.mark.parametrize("name", ["website", "publicAccessBlock", "accelerate", "requestPayment", "abac", "ownershipControls",
                                  "logging", "notification", "metrics&id=a", "metrics", "inventory&id=a"])
def test_a_bucket_that_is_not_there_has_no_settings(s3: Harness, name: str) -> None:
    for method in ("GET", "PUT"):
        if method == "GET" or name != "metrics":
            assert s3.ask(method, f"/none?{name}", body=b"<x/>" if method == "PUT" else b"").code == "NoSuchBucket"


def test_a_new_bucket_blocks_the_public(s3: Harness) -> None:
    found = s3.client().get_public_access_block(Bucket="b01")["PublicAccessBlockConfiguration"]
    assert found == dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)


def test_a_new_bucket_has_the_ownership_that_its_header_asks_for(s3: Harness) -> None:
    client = s3.client()
    client.create_bucket(Bucket="b02", ObjectOwnership="BucketOwnerPreferred")
    rules = client.get_bucket_ownership_controls(Bucket="b02")["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerPreferred"}]
    assert s3.ask("PUT", "/b03", {"x-amz-object-ownership": "Nobody"}).code == "InvalidArgument"
    assert s3.ask("HEAD", "/b03").status == 404
