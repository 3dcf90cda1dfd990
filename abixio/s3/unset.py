"""Settings of buckets and objects that cannot be made here. Reading one has a true answer all the same: what S3 answers
where it was never made. So has taking it away. Clients that only look around, which many do before they start, go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from abixio.message import Response
from abixio.s3.call import Call, Handler, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.xml import Fragment, document, node, text

_NO: Final = text("IsTruncated", False)


def _absent(code: str) -> Handler:
    """The bucket has none: an error of its own."""

    async def answer(call: Call) -> Response:
        raise S3Error(code, BucketName=(await call.bucket()).name)

    return answer


def _plain(name: str, *children: Fragment) -> Handler:
    """The bucket's answer is the same for every bucket."""
    body = document(name, *children)

    async def answer(call: Call) -> Response:
        await call.bucket()
        return xml_answer(body)

    return answer


async def _nothing_to_delete(call: Call) -> Response:
    await call.bucket()
    return Response(204)


async def _object_tags(call: Call) -> Response:
    await _check_object(call)
    return xml_answer(document("Tagging", node("TagSet")))


async def _delete_object_tags(call: Call) -> Response:
    await _check_object(call)
    return Response(204)


async def _object_lock(call: Call) -> Response:
    """Retention and legal hold: buckets without Object Lock have neither."""
    await call.bucket()
    raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")


async def _check_object(call: Call) -> None:
    call.refuse_versions()
    await call.store.head(await call.bucket(), call.key)


HANDLERS: Final[Mapping[str, Handler]] = {
    "DeleteBucketAnalyticsConfiguration": _absent("NoSuchConfiguration"),
    "DeleteBucketCors": _nothing_to_delete,
    "DeleteBucketEncryption": _nothing_to_delete,
    "DeleteBucketIntelligentTieringConfiguration": _absent("NoSuchConfiguration"),
    "DeleteBucketInventoryConfiguration": _absent("NoSuchConfiguration"),
    "DeleteBucketLifecycle": _nothing_to_delete,
    "DeleteBucketMetricsConfiguration": _absent("NoSuchConfiguration"),
    "DeleteBucketPolicy": _nothing_to_delete,
    "DeleteBucketReplication": _nothing_to_delete,
    "DeleteBucketTagging": _nothing_to_delete,
    "DeleteBucketWebsite": _nothing_to_delete,
    "DeleteObjectTagging": _delete_object_tags,
    "DeletePublicAccessBlock": _nothing_to_delete,
    "GetBucketAccelerateConfiguration": _plain("AccelerateConfiguration"),
    "GetBucketAnalyticsConfiguration": _absent("NoSuchConfiguration"),
    "GetBucketCors": _absent("NoSuchCORSConfiguration"),
    "GetBucketEncryption": _absent("ServerSideEncryptionConfigurationNotFoundError"),
    "GetBucketIntelligentTieringConfiguration": _absent("NoSuchConfiguration"),
    "GetBucketInventoryConfiguration": _absent("NoSuchConfiguration"),
    "GetBucketLifecycleConfiguration": _absent("NoSuchLifecycleConfiguration"),
    "GetBucketLogging": _plain("BucketLoggingStatus"),
    "GetBucketMetricsConfiguration": _absent("NoSuchConfiguration"),
    "GetBucketNotificationConfiguration": _plain("NotificationConfiguration"),
    # As CreateBucket takes it: access control lists give nobody anything.
    "GetBucketOwnershipControls": _plain(
        "OwnershipControls", node("Rule", text("ObjectOwnership", "BucketOwnerEnforced")),
    ),
    "GetBucketPolicy": _absent("NoSuchBucketPolicy"),
    "GetBucketPolicyStatus": _absent("NoSuchBucketPolicy"),
    "GetBucketReplication": _absent("ReplicationConfigurationNotFoundError"),
    "GetBucketRequestPayment": _plain("RequestPaymentConfiguration", text("Payer", "BucketOwner")),
    "GetBucketTagging": _absent("NoSuchTagSet"),
    "GetBucketVersioning": _plain("VersioningConfiguration"),
    "GetBucketWebsite": _absent("NoSuchWebsiteConfiguration"),
    "GetObjectLegalHold": _object_lock,
    "GetObjectLockConfiguration": _absent("ObjectLockConfigurationNotFoundError"),
    "GetObjectRetention": _object_lock,
    "GetObjectTagging": _object_tags,
    "GetPublicAccessBlock": _absent("NoSuchPublicAccessBlockConfiguration"),
    "ListBucketAnalyticsConfigurations": _plain("ListBucketAnalyticsConfigurationResult", _NO),
    "ListBucketIntelligentTieringConfigurations": _plain("ListBucketIntelligentTieringConfigurationsOutput", _NO),
    "ListBucketInventoryConfigurations": _plain("ListInventoryConfigurationsResult", _NO),
    "ListBucketMetricsConfigurations": _plain("ListMetricsConfigurationsResult", _NO),
}
