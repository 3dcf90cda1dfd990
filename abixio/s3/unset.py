"""Settings of buckets and objects that cannot be made here. Reading one has a true answer all the same: what S3 answers
where it was never made. So has taking it away. Clients that only look around, which many do before they start, go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from abixio.message import Response
from abixio.s3.call import Call, Handler, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.xml import document


def _absent(code: str) -> Handler:
    """The bucket has none: an error of its own."""

    async def answer(call: Call) -> Response:
        raise S3Error(code, BucketName=(await call.bucket()).name)

    return answer


def _empty(name: str) -> Handler:
    """An empty document, for every bucket."""
    body = document(name)

    async def answer(call: Call) -> Response:
        await call.bucket()
        return xml_answer(body)

    return answer


async def _nothing_to_delete(call: Call) -> Response:
    await call.bucket()
    return Response(204)


HANDLERS: Final[Mapping[str, Handler]] = {
    "DeleteBucketMetadataConfiguration": _nothing_to_delete,
    "DeleteBucketMetadataTableConfiguration": _nothing_to_delete,
    "DeleteBucketPolicy": _nothing_to_delete,
    "DeleteBucketReplication": _nothing_to_delete,
    "GetBucketLogging": _empty("BucketLoggingStatus"),
    "GetBucketNotificationConfiguration": _empty("NotificationConfiguration"),
    "GetBucketMetadataConfiguration": _absent("MetadataConfigurationNotFound"),
    "GetBucketMetadataTableConfiguration": _absent("MetadataConfigurationNotFound"),
    "GetBucketPolicy": _absent("NoSuchBucketPolicy"),
    "GetBucketPolicyStatus": _absent("NoSuchBucketPolicy"),
    "GetBucketReplication": _absent("ReplicationConfigurationNotFoundError"),
}
