"""Access control lists. Where the owner of a bucket owns all in it, which is how buckets begin, there is one list, which says so:
it can be read, and set to what it is. Where lists count, they are kept and shown as S3 does it.

A list never opens anything. So one that grants the public something is taken only where S3 itself would ignore such grants.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from abixio.config import KIB
from abixio.message import Response
from abixio.s3 import grants, ownership, settings
from abixio.s3.call import Call, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.grants import Grants
from abixio.s3.metadata import LIST, NO_LISTS
from abixio.s3.versioning import amend, standing
from abixio.s3.xml import Node, document, node
from abixio.store.record import Record
from abixio.store.types import Bucket

MAX_DOCUMENT: Final = 64 * KIB
"""S3 takes 100 grants, each of about 300 bytes."""


# ---- operations ------------------------------------------------------------------------------------------------------
async def get_bucket_acl(call: Call) -> Response:
    bucket = await call.bucket()
    return _answer(call, bucket, bucket.settings.get(grants.SETTING, ""))


async def get_object_acl(call: Call) -> Response:
    bucket = await call.bucket()
    info = await call.store.head(bucket, call.key, call.version)
    return _answer(call, bucket, info.record.headers.get(LIST, ""))


async def put_bucket_acl(call: Call) -> Response:
    bucket = await call.bucket()
    kept = await _asked(call, bucket)
    if kept != bucket.settings.get(grants.SETTING, ""):
        await call.store.change_bucket(bucket.name, lambda known: {**known, grants.SETTING: kept})
    return Response(200)


async def put_object_acl(call: Call) -> Response:
    bucket = await call.bucket()
    info = await standing(call, bucket)
    kept = await _asked(call, bucket)
    if kept != info.record.headers.get(LIST, ""):
        await amend(call, bucket, lambda record: _listed(record, kept))
    return Response(200)


def _listed(record: Record, kept: str) -> Record:
    others = {name: value for name, value in record.headers.items() if name != LIST}
    return replace(record, headers=others | ({LIST: kept} if kept else {}))


def _answer(call: Call, bucket: Bucket, kept: str) -> Response:
    given = grants.unpack(kept) if kept and ownership.lists_count(bucket) else grants.private(call.owner.id)
    elements = [grants.element(each, call.owner.name) for each in given]
    return xml_answer(document("AccessControlPolicy", call.owner.element(), node("AccessControlList", *elements)))


# ---- what requests ask for -------------------------------------------------------------------------------------------
async def _asked(call: Call, bucket: Bucket) -> str:
    """The list that PutBucketAcl or PutObjectAcl brings, as it is kept."""
    if not grants.HEADERS.isdisjoint(call.headers):
        if call.request.body.length != 0:
            raise S3Error("UnexpectedContent")
        return await of_headers(call, bucket)
    if call.request.body.length == 0:
        raise S3Error("MissingSecurityHeader", MissingHeaderName=grants.CANNED)
    policy = await _policy(call)
    given = grants.from_document(policy)
    if not ownership.lists_count(bucket):
        if given != grants.private(call.owner.id):
            raise S3Error(NO_LISTS)
        return ""
    owner = policy.find("Owner")
    if owner is None:
        raise S3Error("MalformedACLError")
    if (owner.text("ID") or "").strip() != call.owner.id:
        raise S3Error("AccessDenied")
    return await _kept(call, bucket, given)


async def _policy(call: Call) -> Node:
    try:
        return await call.document("AccessControlPolicy", MAX_DOCUMENT)
    except S3Error as error:
        if error.code != "MalformedXML":
            raise
        raise S3Error("MalformedACLError") from error


async def of_headers(call: Call, bucket: Bucket) -> str:
    """The list that an upload, or a request for a new list, asks for in headers, as it is kept: empty for the usual one."""
    name = grants.canned(call.headers)
    if not ownership.lists_count(bucket):
        if name not in grants.OWNERS:
            raise S3Error(NO_LISTS)
        return ""
    if name == grants.ELSEWHERE:
        raise S3Error("NotImplemented", Header=grants.CANNED)
    return await _kept(call, bucket, grants.from_headers(call.headers, call.owner.id))


def at_creation(call: Call, lists_count: bool) -> dict[str, str]:
    """The setting of a new bucket. To the public, a new bucket is closed."""
    if grants.HEADERS.isdisjoint(call.headers):
        return {}
    name = grants.canned(call.headers)
    if not lists_count and name not in grants.OWNERS:
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    if name == grants.ELSEWHERE:
        raise S3Error("NotImplemented", Header=grants.CANNED)
    given = grants.from_headers(call.headers, call.owner.id)
    grants.check_grantees(given, call.owner.id)
    if _is_public(given):
        raise S3Error("InvalidBucketAclWithBlockPublicAccessError")
    kept = _packed(call, given)
    return {grants.SETTING: kept} if kept else {}


async def _kept(call: Call, bucket: Bucket, given: Grants) -> str:
    """AccessDenied where grants to the public are blocked, NotImplemented where they would count."""
    grants.check_grantees(given, call.owner.id)
    if _is_public(given):
        block = await settings.public_access(call, bucket)
        if block["BlockPublicAcls"]:
            raise S3Error("AccessDenied")
        if not block["IgnorePublicAcls"]:
            raise S3Error("NotImplemented", "Access of the public is not implemented: a list that grants it is taken only where "
                          "IgnorePublicAcls is set.")
    return _packed(call, given)


def _is_public(given: Grants) -> bool:
    return any(each.who in grants.PUBLIC for each in given)


def _packed(call: Call, given: Grants) -> str:
    return "" if given == grants.private(call.owner.id) else grants.pack(given)
