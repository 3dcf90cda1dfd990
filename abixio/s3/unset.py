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


HANDLERS: Final[Mapping[str, Handler]] = {
    "DeleteBucketAnalyticsConfiguration": _absent("NoSuchConfiguration"),
    "DeleteBucketEncryption": _nothing_to_delete,
    "DeleteBucketIntelligentTieringConfiguration": _absent("NoSuchConfiguration"),
    "DeleteBucketInventoryConfiguration": _absent("NoSuchConfiguration"),
    "DeleteBucketLifecycle": _nothing_to_delete,
    "DeleteBucketMetricsConfiguration": _absent("NoSuchConfiguration"),
    "DeleteBucketPolicy": _nothing_to_delete,
    "DeleteBucketReplication": _nothing_to_delete,
    "DeleteBucketWebsite": _nothing_to_delete,
    "DeletePublicAccessBlock": _nothing_to_delete,
    "GetBucketAccelerateConfiguration": _plain("AccelerateConfiguration"),
    "GetBucketAnalyticsConfiguration": _absent("NoSuchConfiguration"),
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
    "GetBucketWebsite": _absent("NoSuchWebsiteConfiguration"),
    "GetPublicAccessBlock": _absent("NoSuchPublicAccessBlockConfiguration"),
    "ListBucketAnalyticsConfigurations": _plain("ListBucketAnalyticsConfigurationResult", _NO),
    "ListBucketIntelligentTieringConfigurations": _plain("ListBucketIntelligentTieringConfigurationsOutput", _NO),
    "ListBucketInventoryConfigurations": _plain("ListInventoryConfigurationsResult", _NO),
    "ListBucketMetricsConfigurations": _plain("ListMetricsConfigurationsResult", _NO),
}
