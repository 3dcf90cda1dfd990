"""UpdateObjectEncryption: another key for an object that stays where it is."""

from __future__ import annotations

import random
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_socket import Wire
from tests.server import Server

ARN = "arn:aws:kms:us-east-1:111122223333:key/aws/s3"
MIB = 1 << 20
LARGE = random.Random(1).randbytes(5 * MIB + 333)
SAME = ("ETag", "LastModified", "ContentLength", "Metadata", "ContentType", "ChecksumCRC32", "ChecksumType")


def update(s3: Any, bucket: str, key: str, arn: str = ARN, **more: Any) -> Any:
    kms = {"KMSKeyArn": arn, **({"BucketKeyEnabled": True} if more.pop("bucket_key", False) else {})}
    return s3.update_object_encryption(Bucket=bucket, Key=key, ObjectEncryption={"SSEKMS": kms}, **more)


def code(call: Any, *args: Any, **more: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(*args, **more)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def head(s3: Any, bucket: str, key: str, **more: Any) -> dict[str, Any]:
    found = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED", **more)
    return {name: value for name, value in found.items() if name != "ResponseMetadata"}


def test_an_object_gets_another_key_and_nothing_else_changes(s3: Any, bucket: str) -> None:
    for body in (b"few words", LARGE):
        s3.put_object(Bucket=bucket, Key="k", Body=body, Metadata={"a": "b"}, ServerSideEncryption="AES256", Tagging="t=u")
        before = head(s3, bucket, "k")
        for bucket_key in (True, False):
            update(s3, bucket, "k", bucket_key=bucket_key)
            after = head(s3, bucket, "k")
            assert (after["ServerSideEncryption"], after["SSEKMSKeyId"]) == ("aws:kms", ARN)
            assert after.get("BucketKeyEnabled", False) == bucket_key
            assert {name: after[name] for name in SAME} == {name: before[name] for name in SAME}
            assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
        assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=3-7")["Body"].read() == body[3:8]
        assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "t", "Value": "u"}]


def test_the_parts_of_an_object_stay_readable(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m", ServerSideEncryption="AES256")["UploadId"]
    etags = [s3.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=n, Body=body)["ETag"]
             for n, body in ((1, LARGE), (2, b"end"))]
    s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload, MultipartUpload={
        "Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]})
    update(s3, bucket, "m")
    assert s3.get_object(Bucket=bucket, Key="m")["Body"].read() == LARGE + b"end"
    assert s3.get_object(Bucket=bucket, Key="m", PartNumber=2)["Body"].read() == b"end"
    s3.copy_object(Bucket=bucket, Key="c", CopySource=f"{bucket}/m")
    assert s3.get_object(Bucket=bucket, Key="c")["Body"].read() == LARGE + b"end"


def test_one_version_is_changed_and_a_locked_one_is_not(s3: Any, bucket: str) -> None:
    locked = bucket + "-locked"
    s3.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    first, second = (s3.put_object(Bucket=locked, Key="k", Body=body, ServerSideEncryption="AES256")["VersionId"]
                     for body in (b"1", b"2"))
    update(s3, locked, "k", VersionId=first)
    assert head(s3, locked, "k", VersionId=first)["ServerSideEncryption"] == "aws:kms"
    assert head(s3, locked, "k")["ServerSideEncryption"] == "AES256"
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "ON"})
    assert code(update, s3, locked, "k")[0] == "AccessDenied"
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "OFF"})
    update(s3, locked, "k", VersionId=second)
    s3.put_object_retention(Bucket=locked, Key="k", VersionId=first,
                            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": 4_000_000_000})
    assert code(update, s3, locked, "k", VersionId=first)[0] == "AccessDenied"
    s3.put_object_retention(Bucket=locked, Key="k", VersionId=first, Retention={}, BypassGovernanceRetention=True)
    assert s3.get_object(Bucket=locked, Key="k", VersionId=first)["Body"].read() == b"1"


def test_what_has_no_key_of_the_server_is_refused(s3: Any, bucket: str) -> None:
    customer = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(32)}
    s3.put_object(Bucket=bucket, Key="plain", Body=b"data")
    s3.put_object(Bucket=bucket, Key="customer", Body=b"data", **customer)
    s3.put_object(Bucket=bucket, Key="k", Body=b"data", ServerSideEncryption="AES256")
    found, message = code(update, s3, bucket, "plain")
    assert (found, "unencrypted source" in message) == ("InvalidRequest", True)
    found, message = code(update, s3, bucket, "customer")
    assert (found, "DSSE-KMS or SSE-C" in message) == ("InvalidRequest", True)
    assert code(update, s3, bucket, "none")[0] == "NoSuchKey"
    assert code(update, s3, bucket, "k", ARN.replace("aws/s3", "nobody"))[0] == "KMS.NotFoundException"
    assert code(update, s3, bucket, "k", "a-name-that-is-not-an-arn")[0] == "InvalidRequest"
    assert head(s3, bucket, "k")["ServerSideEncryption"] == "AES256"


@pytest.mark.parametrize("body", [
    b"<ObjectEncryption/>", b"<ObjectEncryption><SSE-S3/></ObjectEncryption>", b"<ObjectEncryption><SSE-KMS/></ObjectEncryption>",
    f"<ObjectEncryption><SSE-KMS><KMSKeyArn>{ARN}</KMSKeyArn><BucketKeyEnabled>1</BucketKeyEnabled></SSE-KMS></ObjectEncryption>"
    .encode(),
])
def test_a_wish_that_is_none_is_refused(server: Server, s3: Any, bucket: str, body: bytes) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data", ServerSideEncryption="AES256")
    answer = Wire(server).ask("PUT", f"/{bucket}/k?encryption", body=body)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert head(s3, bucket, "k")["ServerSideEncryption"] == "AES256"
