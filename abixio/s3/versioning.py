"""Versioning of a bucket, and what answers say of versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from abixio.config import KIB
from abixio.errors import IsDeleteMarker
from abixio.message import Response
from abixio.s3.call import Call, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.schema import ANY, check, maybe
from abixio.s3.xml import document, text
from abixio.store.record import NULL, Record
from abixio.store.types import Bucket, ObjectInfo

SETTING: Final = "versioning"
LOCKABLE: Final = "object_lock"
"""The bucket setting that says that Object Lock may be used; versioning cannot be suspended then."""
MAX_DOCUMENT: Final = 16 * KIB
"""It holds two words."""
_STATES: Final = frozenset({"Enabled", "Suspended"})
_GRAMMAR: Final = (maybe("Status", ANY), maybe("MfaDelete", ANY))
_LOCKED: Final = (
    "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
)


async def get_bucket_versioning(call: Call) -> Response:
    bucket = await call.bucket()
    return xml_answer(document("VersioningConfiguration", text("Status", bucket.settings.get(SETTING))))


async def put_bucket_versioning(call: Call) -> Response:
    bucket = await call.bucket()
    body = await call.document("VersioningConfiguration", MAX_DOCUMENT)
    check(body, _GRAMMAR)
    state = (body.text("Status") or "").strip()
    multifactor = (body.text("MfaDelete") or "").strip()
    if multifactor == "Enabled":
        raise S3Error("NotImplemented", "MfaDelete is not implemented.")
    if state not in _STATES or multifactor not in ("", "Disabled"):
        raise S3Error("IllegalVersioningConfigurationException" if not state else "MalformedXML")

    def edit(settings: Mapping[str, str]) -> Mapping[str, str]:
        if LOCKABLE in settings and state != "Enabled":
            raise S3Error("InvalidBucketState", _LOCKED)
        return {**settings, SETTING: state}

    await call.store.change_bucket(bucket.name, edit)
    return Response(200)


async def standing(call: Call, bucket: Bucket) -> ObjectInfo:
    """What is known of a version of which something is asked that a delete marker has not: S3 says so with a 405, also where
    it is just the current version, where a GET would be told that there is no such key."""
    try:
        return await call.store.head(bucket, call.key, call.version)
    except IsDeleteMarker as error:
        raise _of_marker(error) from error


def _of_marker(error: IsDeleteMarker) -> IsDeleteMarker:
    key, version, _, modified = error.args
    return IsDeleteMarker(key, version, True, modified)


async def amend(call: Call, bucket: Bucket, edit: Callable[[Record], Record]) -> ObjectInfo:
    """Change what is said of a version. A delete marker has nothing that could be changed, as with `standing`."""
    try:
        return await call.store.amend(bucket, call.key, call.version, edit)
    except IsDeleteMarker as error:
        raise _of_marker(error) from error


def is_versioned(bucket: Bucket) -> bool:
    """Whether it is or was versioned: then answers name versions, `null` among them."""
    return SETTING in bucket.settings


def written(info: ObjectInfo) -> list[tuple[str, str]]:
    """What the answer to an upload says of its version: nothing of the null version, whose id S3 shows to readers only."""
    return [("x-amz-version-id", info.version)] if info.version != NULL else []


def version_headers(bucket: Bucket, info: ObjectInfo) -> list[tuple[str, str]]:
    """x-amz-version-id, in a bucket that has versions."""
    return [("x-amz-version-id", info.version)] if is_versioned(bucket) else []

