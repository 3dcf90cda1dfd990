"""Access control lists, while one owner has everything: each bucket and object has the one list that says so, which can be
read, and set to what it is. A list that would give somebody something is refused, never ignored."""

from __future__ import annotations

from typing import Final

from abixio.config import KIB
from abixio.message import Response
from abixio.s3 import metadata, ownership
from abixio.s3.call import Call, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.xml import SCHEMA_INSTANCE, Fragment, Node, document, node, text
from abixio.store.types import Bucket

MAX_DOCUMENT: Final = 64 * KIB
"""S3 takes 100 grants, each of about 300 bytes."""
ALL: Final = "FULL_CONTROL"
_PERSON: Final = f' xmlns:xsi="{SCHEMA_INSTANCE}" xsi:type="CanonicalUser"'


async def get_bucket_acl(call: Call) -> Response:
    await call.bucket()
    return xml_answer(_private(call))


async def get_object_acl(call: Call) -> Response:
    await _check_object(call)
    return xml_answer(_private(call))


async def put_bucket_acl(call: Call) -> Response:
    await _check_request(call, ownership.no_lists(await call.bucket()))
    return Response(200)


async def put_object_acl(call: Call) -> Response:
    bucket = await _check_object(call)
    await _check_request(call, ownership.no_lists(bucket))
    return Response(200)


def _private(call: Call) -> bytes:
    grantee = node("Grantee", text("ID", call.owner.id), text("DisplayName", call.owner.name), attributes=_PERSON)
    grants: Fragment = node("AccessControlList", node("Grant", grantee, text("Permission", ALL)))
    return document("AccessControlPolicy", call.owner.element(), grants)


async def _check_object(call: Call) -> Bucket:
    bucket = await call.bucket()
    await call.store.head(bucket, call.key, call.version)
    return bucket


async def _check_request(call: Call, no_lists: str) -> None:
    """The code `no_lists` unless the request asks for what is, in one of three ways: a canned list, grants in headers,
    or a document."""
    metadata.refuse_unsupported(call.headers, no_lists=no_lists)
    if "x-amz-acl" in call.headers:
        if call.request.body.length != 0:
            raise S3Error("UnexpectedContent")
        return
    if call.request.body.length == 0:
        raise S3Error("MissingSecurityHeader", MissingHeaderName="x-amz-acl")
    policy = await call.document("AccessControlPolicy", MAX_DOCUMENT)
    grants = policy.find("AccessControlList")
    if grants is None:
        raise S3Error("MalformedACLError")
    given = [_grant(grant) for grant in grants.all("Grant")]
    if given != [(call.owner.id, ALL)]:
        raise S3Error(no_lists)


def _grant(grant: Node) -> tuple[str | None, str | None]:
    """Who may do what. Grantees that are groups or known by mail have no ID."""
    grantee = grant.find("Grantee")
    if grantee is None:
        raise S3Error("MalformedACLError")
    return grantee.text("ID"), grant.text("Permission")
