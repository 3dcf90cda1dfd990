"""DeleteObjects: up to 1,000 keys in one request, each with its own outcome."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from abixio.config import MIB
from abixio.errors import AbixioError
from abixio.message import Response
from abixio.s3 import conditions, metadata
from abixio.s3.call import Call, demand_digest, xml_answer
from abixio.s3.errors import S3Error, from_exception, headline
from abixio.s3.locking import BYPASS, bypasses
from abixio.s3.names import check_key
from abixio.s3.xml import Fragment, Node, document, node, text
from abixio.store.types import Bucket

MAX_KEYS: Final = 1000
"""As S3."""
MAX_DOCUMENT: Final = 8 * MIB
"""1,000 keys of 1,024 bytes, each of which may be written as a reference of six bytes, and the elements around them."""
AT_ONCE: Final = 32
"""Deletes in flight: enough to share the sync of a commit, too few to starve other requests."""


_NAMES: Final = frozenset({"Key", "VersionId", "ETag", "LastModifiedTime", "Size"})


class Doomed(NamedTuple):
    """One object to delete."""

    key: str
    version: str | None
    doom: conditions.Doom


async def delete_objects(call: Call) -> Response:
    metadata.refuse_unsupported(call.headers, (BYPASS,))
    demand_digest(call)
    bucket = await call.bucket()
    bypass = bypasses(call, bucket)
    body = await call.document("Delete", MAX_DOCUMENT)
    if any(child.name not in ("Object", "Quiet") for child in body.children):
        raise S3Error("MalformedXML")
    doomed = [_doomed(child) for child in body.all("Object")]
    if not 1 <= len(doomed) <= MAX_KEYS:
        raise S3Error("MalformedXML")
    quiet = (body.text("Quiet") or "").strip().lower() == "true"
    del body  # many times the size of what is left of it, and deleting takes its time
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(each: Doomed) -> Fragment:
        async with turns:
            return await _delete(call, bucket, each, quiet, bypass)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(each)) for each in doomed]
    return xml_answer(document("DeleteResult", *(task.result() for task in tasks)))


async def _delete(call: Call, bucket: Bucket, doomed: Doomed, quiet: bool, bypass: bool) -> Fragment:
    """What became of one key. Only what the server can answer for is an entry; a defect fails the request."""
    try:
        check_key(doomed.key)
        gone = await call.store.delete(bucket, doomed.key, conditions.for_delete(doomed.doom), doomed.version or None,
                                       bypass)
    except AbixioError as error:
        return node("Error", text("Key", doomed.key), text("VersionId", doomed.version or None), *headline(from_exception(error)))
    if quiet:
        return Fragment("")
    if gone is None or not gone.marker:
        return node("Deleted", text("Key", doomed.key), text("VersionId", doomed.version or None))
    return node("Deleted", text("Key", doomed.key), text("VersionId", doomed.version or None), text("DeleteMarker", True),
                text("DeleteMarkerVersionId", gone.version))


def _doomed(entry: Node) -> Doomed:
    key = entry.text("Key")
    if not key or any(child.name not in _NAMES for child in entry.children):
        raise S3Error("MalformedXML")
    doom = conditions.Doom(entry.text("ETag"), entry.text("LastModifiedTime"), entry.text("Size"))
    return Doomed(key, entry.text("VersionId"), doom)
