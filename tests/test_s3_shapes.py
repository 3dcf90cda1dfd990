"""Every operation that docs/s3.md calls done or partial is called through boto3, and its answer has the shape of the model:
no element and no header that the model does not know, and all that it calls required."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from abixio.s3.xml import NAMESPACE, SCHEMA_INSTANCE
from tests.s3_harness import Harness
from tests.s3_operations import MODEL, STATUS

ABSENT = {
    "GetBucketMetadataConfiguration",
    "GetBucketMetadataTableConfiguration", "GetBucketPolicy", "GetBucketPolicyStatus", "GetBucketReplication",
    "RestoreObject",
}
"""What these read or delete is never there: their answers are errors."""
SERVED = sorted(name for name, status in STATUS.items() if status != "not yet" and name not in ABSENT)
COMMON = {
    "x-amz-request-id", "x-amz-id-2", "server", "content-type", "content-length", "accept-ranges", "last-modified", "etag",
}
"""On any answer; the model names some of them where a client would look."""
XSI_TYPE = f"{{{SCHEMA_INSTANCE}}}type"
"""The one attribute of S3's answers."""
FILTER: Any = {"And": {"Prefix": "p", "Tags": [{"Key": "a", "Value": "b"}]}}
ENCRYPTION: Any = {
    "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "aws/s3"}, "BucketKeyEnabled": True,
    "BlockedEncryptionTypes": {"EncryptionType": ["NONE"]},
}
ARN = "arn:aws:kms:us-east-1:111122223333:key/aws/s3"
METRICS: Any = {"Id": "x", "Filter": FILTER}
ANALYTICS: Any = {"Id": "x", "Filter": FILTER, "StorageClassAnalysis": {}}
TIERING: Any = {"Id": "x", "Filter": FILTER, "Status": "Enabled", "Tierings": [{"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}]}
INVENTORY: Any = {
    "Id": "x", "IsEnabled": False, "IncludedObjectVersions": "All", "Schedule": {"Frequency": "Daily"},
    "OptionalFields": ["Size"],
    "Destination": {"S3BucketDestination": {"Bucket": "arn:aws:s3:::b", "Format": "CSV", "Encryption": {"SSES3": {}}}},
}
RULES: Any = [
    {"ID": "a", "Status": "Enabled", "Filter": {"And": {"Prefix": "k", "ObjectSizeGreaterThan": 1, "ObjectSizeLessThan": 9,
     "Tags": [{"Key": "a", "Value": "b"}]}}, "Expiration": {"Days": 1},
     "NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 2}},
    {"Status": "Disabled", "Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Date": 0}},
    {"Status": "Enabled", "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True},
     "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}},
    {"Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 7}},
]
OLD_RULES: Any = [{"ID": "a", "Status": "Enabled", "Prefix": "k", "Expiration": {"Days": 1}}]
NEWER_HEADERS = {"GetBucketLifecycle", "PutBucketLifecycle"}
"""Of operations that a newer one took the place of, on the same wire: their answers say what only its model knows."""
WEBSITE: Any = {
    "IndexDocument": {"Suffix": "i"}, "ErrorDocument": {"Key": "e"},
    "RoutingRules": [{"Condition": {"KeyPrefixEquals": "a"}, "Redirect": {"HostName": "h", "HttpRedirectCode": "301"}}],
}
EXTRA: dict[str, dict[str, Any]] = {
    "CompleteMultipartUpload": {},
    "CopyObject": {"CopySource": "b01/k", "ChecksumAlgorithm": "SHA256"},
    "CreateMultipartUpload": {"Key": "new", "ChecksumAlgorithm": "CRC32"},
    "CreateBucket": {"Bucket": "b02"},
    "DeleteBucket": {"Bucket": "empty"},
    "DeleteObjects": {"Delete": {"Objects": [{"Key": "k"}, {"Key": "m", "Size": 7}]}},
    "GetObject": {"ChecksumMode": "ENABLED", "Range": "bytes=0-3", "ResponseContentType": "text/x"},
    "GetObjectAttributes": {"Key": "m", "ObjectAttributes": ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]},
    "HeadObject": {"Key": "m", "ChecksumMode": "ENABLED", "PartNumber": 1},
    "ListBuckets": {"MaxBuckets": 1, "Prefix": "b"},
    "ListMultipartUploads": {"MaxUploads": 1},
    "ListObjects": {"MaxKeys": 1, "Delimiter": "/"},
    "ListObjectsV2": {"MaxKeys": 2, "Delimiter": "/", "FetchOwner": True, "StartAfter": "a"},
    "ListObjectVersions": {"MaxKeys": 1, "Delimiter": "/"},
    "ListParts": {"MaxParts": 1},
    "PutBucketAcl": {"ACL": "private"},
    "RenameObject": {"Key": "renamed", "RenameSource": "k"},
    "PutObject": {"Body": b"data", "ChecksumAlgorithm": "CRC64NVME", "StorageClass": "GLACIER"},
    "PutObjectAcl": {"ACL": "private"},
    "RestoreObject": {"Key": "z/1"},
    "UpdateObjectEncryption": {"Key": "e", "ObjectEncryption": {"SSEKMS": {"KMSKeyArn": ARN}}},
    "UploadPart": {"Body": b"data", "ChecksumAlgorithm": "CRC32"},
    "UploadPartCopy": {"CopySource": "b01/k"},
    "GetObjectLegalHold": {"Bucket": "lock"},
    "GetObjectLockConfiguration": {"Bucket": "lock"},
    "GetObjectRetention": {"Bucket": "lock"},
    "PutBucketCors": {"CORSConfiguration": {"CORSRules": [{"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}]}},
    "PutBucketTagging": {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}},
    "PutBucketVersioning": {"VersioningConfiguration": {"Status": "Enabled"}},
    "PutBucketEncryption": {"ServerSideEncryptionConfiguration": {"Rules": [ENCRYPTION]}},
    "PutBucketAbac": {"AbacStatus": {"Status": "Disabled"}},
    "PutBucketAccelerateConfiguration": {"AccelerateConfiguration": {"Status": "Suspended"}},
    "PutBucketAnalyticsConfiguration": {"AnalyticsConfiguration": ANALYTICS},
    "PutBucketIntelligentTieringConfiguration": {"IntelligentTieringConfiguration": TIERING},
    "PutBucketInventoryConfiguration": {"InventoryConfiguration": INVENTORY},
    "PutBucketLogging": {"BucketLoggingStatus": {}},
    "PutBucketMetricsConfiguration": {"MetricsConfiguration": METRICS},
    "PutBucketNotification": {"NotificationConfiguration": {}},
    "PutBucketNotificationConfiguration": {"NotificationConfiguration": {}},
    "PutBucketOwnershipControls": {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}},
    "PutBucketRequestPayment": {"RequestPaymentConfiguration": {"Payer": "BucketOwner"}},
    "PutBucketWebsite": {"WebsiteConfiguration": WEBSITE},
    "PutBucketLifecycle": {"LifecycleConfiguration": {"Rules": OLD_RULES}},
    "PutBucketLifecycleConfiguration": {"LifecycleConfiguration": {"Rules": RULES}},
    "GetBucketLifecycleConfiguration": {"Bucket": "ruled"},
    "GetBucketLifecycle": {"Bucket": "lock"},
    "PutPublicAccessBlock": {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}},
    "PutObjectLegalHold": {"Bucket": "lock", "LegalHold": {"Status": "ON"}},
    "PutObjectLockConfiguration": {"Bucket": "lock", "ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}},
    "PutObjectRetention": {"Bucket": "lock", "Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": 4_000_000_000}},
    "PutObjectTagging": {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}},
}


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    client = harness.client()
    for bucket in ("b01", "empty"):
        client.create_bucket(Bucket=bucket)
    everything: dict[str, Any] = {
        "CacheControl": "no-store", "ContentDisposition": "inline", "ContentEncoding": "gzip", "ContentLanguage": "de",
        "ContentType": "text/plain", "Expires": 0, "Metadata": {"a": "b"}, "StorageClass": "GLACIER",
        "WebsiteRedirectLocation": "/x", "Tagging": "a=b",
    }
    client.put_object(Bucket="b01", Key="k", Body=b"data", ChecksumAlgorithm="CRC32", **everything)
    client.put_object(Bucket="b01", Key="z/1", Body=b"data")
    client.create_bucket(Bucket="lock", ObjectLockEnabledForBucket=True)
    client.put_object(Bucket="lock", Key="k", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=4_000_000_000,
                      ObjectLockLegalHoldStatus="OFF")
    rules: Any = [{"AllowedOrigins": ["*"], "AllowedMethods": ["GET"], "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"]}]
    client.put_bucket_encryption(Bucket="b01", ServerSideEncryptionConfiguration={"Rules": [ENCRYPTION]})
    client.put_bucket_cors(Bucket="b01", CORSConfiguration={"CORSRules": rules})
    client.put_bucket_tagging(Bucket="b01", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    client.put_bucket_metrics_configuration(Bucket="b01", Id="x", MetricsConfiguration=METRICS)
    client.put_bucket_analytics_configuration(Bucket="b01", Id="x", AnalyticsConfiguration=ANALYTICS)
    client.put_bucket_intelligent_tiering_configuration(Bucket="b01", Id="x", IntelligentTieringConfiguration=TIERING)
    client.put_bucket_inventory_configuration(Bucket="b01", Id="x", InventoryConfiguration=INVENTORY)
    client.put_bucket_website(Bucket="b01", WebsiteConfiguration=WEBSITE)
    client.create_bucket(Bucket="ruled")
    for bucket, rules in (("b01", RULES), ("ruled", RULES), ("lock", OLD_RULES)):
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    client.put_public_access_block(Bucket="b01", PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    client.put_bucket_accelerate_configuration(Bucket="b01", AccelerateConfiguration={"Status": "Suspended"})
    client.put_object(Bucket="b01", Key="e", Body=b"data")
    for key in ("m", "k", "z/open"):
        upload = client.create_multipart_upload(Bucket="b01", Key=key, ChecksumAlgorithm="CRC32")["UploadId"]
        sent = [part(client, key, upload, n) for n in (1, 2)]
        if key == "m":
            parts: Any = {"Parts": sent[:1]}
            client.complete_multipart_upload(Bucket="b01", Key=key, UploadId=upload, MultipartUpload=parts)
    yield harness
    harness.close()


def part(client: Any, key: str, upload: str, number: int) -> dict[str, Any]:
    made = client.upload_part(Bucket="b01", Key=key, UploadId=upload, PartNumber=number, Body=b"data", ChecksumAlgorithm="CRC32")
    return {"PartNumber": number, "ETag": made["ETag"], "ChecksumCRC32": made["ChecksumCRC32"]}


def parameters(s3: Harness, name: str) -> dict[str, Any]:
    """What the operation needs, and then some."""
    shape = MODEL.operation_model(name).input_shape
    upload = next(iter(s3.store.contents["b01"].uploads.values())).upload
    known: dict[str, Any] = {"Bucket": "b01", "Key": "k", "UploadId": upload.id, "PartNumber": 1, "Id": "x"}
    found = {member: known[member] for member in (shape.required_members if shape else []) if member in known}
    found |= EXTRA.get(name, {})
    if name == "CompleteMultipartUpload":
        sent = s3.store.contents["b01"].uploads[upload.id].parts[1].record
        found["MultipartUpload"] = {"Parts": [{"PartNumber": 1, "ETag": sent.etag, "ChecksumCRC32": sent.checksums["crc32"]}]}
    return found


def check_headers(headers: dict[str, str], shape: Any) -> None:
    members = shape.members if shape else {}
    known = {m.serialization["name"].lower() for m in members.values() if m.serialization.get("location") == "header"}
    maps = tuple(m.serialization["name"] for m in members.values() if m.serialization.get("location") == "headers")
    for name in headers:
        assert name in known | COMMON or (maps and name.startswith(maps)), f"header {name} is not in the model"


def check_element(element: ElementTree.Element, shape: Any, path: str) -> None:
    """Down to the leaves, no name that the model does not have at that place, and no second value where it has one."""
    if shape.type_name == "list":
        name = shape.member.serialization.get("name", "member")
        for child in element:
            assert tag(child) == name, f"{path}/{tag(child)}"
            check_element(child, shape.member, f"{path}/{name}")
        return
    if shape.type_name != "structure":
        assert len(element) == 0, f"{path} has elements"
        return
    members = {member.serialization.get("name", name): member for name, member in shape.members.items()}
    seen = {name for name, member in members.items() if member.serialization.get("xmlAttribute") and XSI_TYPE in element.attrib}
    for child in element:
        name = tag(child)
        assert name in members, f"{path}/{name} is not in the model"
        member = members[name]
        flat = member.type_name == "list" and member.serialization.get("flattened")
        assert flat or name not in seen, f"{path}/{name} comes twice"
        seen.add(name)
        check_element(child, member.member if flat else member, f"{path}/{name}")
    for name in shape.required_members:
        assert shape.members[name].serialization.get("name", name) in seen, f"{path}/{name} is required"


def tag(element: ElementTree.Element) -> str:
    assert element.tag.startswith(f"{{{NAMESPACE}}}"), element.tag
    return element.tag.removeprefix(f"{{{NAMESPACE}}}")


@pytest.mark.parametrize("name", SERVED)
def test_an_answer_has_the_shape_of_the_model(s3: Harness, name: str) -> None:
    client: Any = s3.client()
    model = MODEL.operation_model(name)
    answer = client._make_api_call(name, parameters(s3, name))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] in (200, 204, 206)
    assert s3.last is not None
    shape = model.output_shape
    headers = {header: value for header, value in s3.last.headers.items() if header != "location" or name != "CreateBucket"}
    check_headers(headers, MODEL.operation_model(name + "Configuration").output_shape if name in NEWER_HEADERS else shape)
    payload = shape.serialization.get("payload") if shape else None
    if not s3.last.body or (payload and shape.members[payload].type_name == "blob"):
        return
    assert shape is not None
    root = ElementTree.fromstring(s3.last.body)
    if name == "GetBucketLocation":  # the one answer that the model does not describe
        return
    check_element(root, shape.members[payload] if payload else shape, tag(root))


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_what_is_never_there_is_an_error_that_boto3_understands(s3: Harness, name: str) -> None:
    client: Any = s3.client()
    with pytest.raises(client.exceptions.ClientError) as caught:
        client._make_api_call(name, parameters(s3, name))
    assert caught.value.response["Error"]["Code"].startswith(("NoSuch", "Invalid")) or "NotFound" in str(caught.value)
