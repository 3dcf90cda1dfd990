"""Who owns the objects that others put into a bucket, and whether access control lists count there.

Everybody here is the one owner, so all three answers make him the owner of everything, and nothing but what is done with lists
differs: where they are switched off, S3 refuses them as such; where they are not, they are kept and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from abixio.config import KIB
from abixio.message import Response
from abixio.s3.call import Call, Handler, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.grants import SETTING as LIST
from abixio.s3.grants import unpack
from abixio.s3.schema import check, one, some, word
from abixio.s3.xml import document, node, text
from abixio.store.types import Bucket

SETTING: Final = "ownership"
"""The bucket setting; empty once it was taken away."""
HEADER: Final = "x-amz-object-ownership"
ENFORCED: Final = "BucketOwnerEnforced"
"""What S3 gives every new bucket."""
MAX_DOCUMENT: Final = 16 * KIB
"""It holds one word."""
_WAYS: Final = frozenset({ENFORCED, "BucketOwnerPreferred", "ObjectWriter"})
_FIELDS: Final = (some("Rule", (one("ObjectOwnership", _WAYS),), 1),)


async def get_bucket_ownership_controls(call: Call) -> Response:
    bucket = await call.bucket()
    way = bucket.settings.get(SETTING, ENFORCED)
    if not way:
        raise S3Error("OwnershipControlsNotFoundError", BucketName=bucket.name)
    return xml_answer(document("OwnershipControls", node("Rule", text("ObjectOwnership", way))))


async def put_bucket_ownership_controls(call: Call) -> Response:
    bucket = await call.bucket()
    body = await call.document("OwnershipControls", MAX_DOCUMENT)
    check(body, _FIELDS)
    if len(body.children) > 1:
        raise S3Error("MalformedXML")
    way = word(body.children[0], "ObjectOwnership")

    def edit(settings: Mapping[str, str]) -> Mapping[str, str]:
        others = [each for each in unpack(settings.get(LIST) or "[]") if each.who != call.owner.id]
        if way == ENFORCED and others:
            raise S3Error("InvalidBucketAclWithObjectOwnership")
        return {**settings, SETTING: way}

    await call.store.change_bucket(bucket.name, edit)
    return Response(200)


async def delete_bucket_ownership_controls(call: Call) -> Response:
    bucket = await call.bucket()
    await call.store.change_bucket(bucket.name, lambda settings: {**settings, SETTING: ""})
    return Response(204)


def from_header(headers: Mapping[str, str]) -> dict[str, str]:
    """The setting of a new bucket. InvalidArgument."""
    way = headers.get(HEADER)
    if way is None:
        return {}
    if way not in _WAYS:
        raise S3Error("InvalidArgument", f"Invalid x-amz-object-ownership header: {way}", ArgumentName=HEADER, ArgumentValue=way)
    return {SETTING: way}


def lists_count(bucket: Bucket) -> bool:
    """Whether access control lists are switched on."""
    return bucket.settings.get(SETTING, ENFORCED) != ENFORCED


HANDLERS: Final[Mapping[str, Handler]] = {
    "GetBucketOwnershipControls": get_bucket_ownership_controls,
    "PutBucketOwnershipControls": put_bucket_ownership_controls,
    "DeleteBucketOwnershipControls": delete_bucket_ownership_controls,
}
