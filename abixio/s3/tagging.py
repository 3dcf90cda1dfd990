"""Tags of objects, versions and buckets: documents, the x-amz-tagging header, and what S3 demands of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final
from unicodedata import category

from msgspec.structs import replace

from abixio.config import KIB
from abixio.message import Response
from abixio.s3.call import Call, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.names import query_pairs
from abixio.s3.schema import ANY, check, one, some
from abixio.s3.versioning import amend, standing, version_headers
from abixio.s3.xml import Fragment, Node, document, node, text
from abixio.store.record import Record

HEADER: Final = "x-amz-tagging"
OF_OBJECT: Final = 10
OF_BUCKET: Final = 50
"""Tags at most, as S3."""
MAX_KEY: Final = 128
MAX_VALUE: Final = 256
"""Characters, as S3."""
MAX_DOCUMENT: Final = 256 * KIB
"""50 tags of 384 characters, each of which may be written as a reference, and the elements around them."""
_CONFIG: Final = "tagging"
AT_CREATION: Final = "tags"
"""The bucket setting with the tags that a bucket was created with; tags that are put later stand before it."""
_SIGNS: Final = frozenset("_.:/=+-@")
"""Besides the letters, digits and spaces of all languages."""

_GRAMMAR: Final = (one("TagSet", (some("Tag", (one("Key", ANY), one("Value", ANY))),)),)

Tags = dict[str, str]


# ---- objects ---------------------------------------------------------------------------------------------------------
async def get_object_tagging(call: Call) -> Response:
    bucket = await call.bucket()
    info = await standing(call, bucket)
    return xml_answer(_document(info.record.tags), version_headers(bucket, info))


async def put_object_tagging(call: Call) -> Response:
    bucket = await call.bucket()
    tags = from_document(await call.document("Tagging", MAX_DOCUMENT), OF_OBJECT)
    info = await amend(call, bucket, lambda record: _tagged(record, tags))
    return Response(200, version_headers(bucket, info))


async def delete_object_tagging(call: Call) -> Response:
    bucket = await call.bucket()
    info = await standing(call, bucket)
    if not info.record.tags:
        return Response(204, version_headers(bucket, info))
    info = await amend(call, bucket, lambda record: _tagged(record, {}))
    return Response(204, version_headers(bucket, info))


def _tagged(record: Record, tags: Tags) -> Record:
    return replace(record, tags=tags)


# ---- buckets ---------------------------------------------------------------------------------------------------------
async def get_bucket_tagging(call: Call) -> Response:
    bucket = await call.bucket()
    kept = await call.store.config(bucket, _CONFIG) or bucket.settings.get(AT_CREATION)
    if kept is None:
        raise S3Error("NoSuchTagSet", BucketName=call.bucket_name)
    return xml_answer(_document(json.loads(kept)))


async def put_bucket_tagging(call: Call) -> Response:
    bucket = await call.bucket()
    tags = from_document(await call.document("Tagging", MAX_DOCUMENT), OF_BUCKET)
    if not tags:
        return await delete_bucket_tagging(call)
    await call.store.set_config(bucket, _CONFIG, json.dumps(tags))
    return Response(204)


async def delete_bucket_tagging(call: Call) -> Response:
    bucket = await call.bucket()
    if AT_CREATION in bucket.settings:
        await call.store.change_bucket(
            bucket.name, lambda settings: {name: value for name, value in settings.items() if name != AT_CREATION}
        )
    await call.store.set_config(bucket, _CONFIG, None)
    return Response(204)


def at_creation(configuration: Node) -> dict[str, str]:
    """The setting of a new bucket whose configuration has tags: they are there with it, or it is not."""
    found = configuration.find("Tags")
    tags = {} if found is None else _checked(_pairs(found), OF_BUCKET)
    return {AT_CREATION: json.dumps(tags)} if tags else {}


# ---- the forms of tags -----------------------------------------------------------------------------------------------
def from_header(headers: Mapping[str, str]) -> Tags:
    """Of x-amz-tagging: `key=value&key2=value2`, encoded as a query. InvalidArgument, InvalidTag, BadRequest."""
    value = headers.get(HEADER, "")
    if not value:
        return {}
    try:
        pairs = query_pairs(value.encode("latin-1"))
    except S3Error:
        pairs = [("", "")]
    if len(dict(pairs)) < len(pairs) or any(not key for key, _ in pairs) or len(value) > MAX_DOCUMENT:
        raise S3Error("InvalidArgument", "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "
                      "parameters without tag name duplicates.", ArgumentName=HEADER, ArgumentValue=value)
    return _checked(pairs, OF_OBJECT)


def from_document(body: Node, most: int) -> Tags:
    """Of a `Tagging` document. MalformedXML, InvalidTag, BadRequest."""
    check(body, _GRAMMAR)
    return _checked(_pairs(body.children[0]), most)


def _pairs(found: Node) -> list[tuple[str, str]]:
    pairs = []
    for tag in found.children:
        key, value = tag.text("Key"), tag.text("Value")
        if tag.name != "Tag" or key is None or value is None:
            raise S3Error("MalformedXML")
        pairs.append((key, value))
    return pairs


def _checked(pairs: Sequence[tuple[str, str]], most: int) -> Tags:
    tags = dict(pairs)
    if len(tags) < len(pairs):
        keys = [key for key, _ in pairs]
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key",
                      TagKey=next(key for key in keys if keys.count(key) > 1))
    if len(tags) > most:
        kind = "Object" if most == OF_OBJECT else "Bucket"
        raise S3Error("BadRequest", f"{kind} tags cannot be greater than {most}")
    for key, value in tags.items():
        if not 1 <= len(key) <= MAX_KEY or not _fits(key):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
        if len(value) > MAX_VALUE or not _fits(value):
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid", TagKey=key, TagValue=value)
        if key.lower().startswith("aws:"):
            raise S3Error("InvalidTag", "System tags cannot be added/updated by requester", TagKey=key)
    return tags


def _fits(value: str) -> bool:
    return all(sign in _SIGNS or category(sign)[0] in "LNZ" for sign in value)


def _document(tags: Mapping[str, str]) -> bytes:
    elements: list[Fragment] = [node("Tag", text("Key", key), text("Value", value)) for key, value in tags.items()]
    return document("Tagging", node("TagSet", *elements))
