"""GetObjectAttributes: what is known of an object, its parts among it, without its bytes."""

from __future__ import annotations

from typing import Final

from abixio.config import MAX_PARTS
from abixio.message import Response
from abixio.s3 import encryption
from abixio.s3.call import MAX_INT, Call, checksum_elements, http_date, sums_of, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.metadata import storage_class
from abixio.s3.versioning import version_headers
from abixio.s3.xml import Fragment, document, node, text
from abixio.store.record import Record
from abixio.store.types import Bucket, ObjectInfo

HEADER: Final = "x-amz-object-attributes"
NAMES: Final = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})
DIGITS: Final = 10
"""Of a number of parts, which S3 reads as a 32-bit integer."""
PAGE: Final = 1000
"""Parts in one answer, as S3."""


async def get_object_attributes(call: Call) -> Response:
    wanted = _wanted(call)
    limit = _limit(call.headers.get("x-amz-max-parts", ""))
    after = call.header_integer("x-amz-part-number-marker", 0, 0, MAX_INT)
    bucket = await call.bucket()
    info = encryption.opened(call, await call.store.head(bucket, call.key, call.version))
    record = info.record
    elements = {
        "ETag": text("ETag", info.etag),
        "Checksum": _checksum(record),
        "ObjectParts": _parts(record, after, limit) if record.upload else Fragment(""),
        "StorageClass": text("StorageClass", storage_class(info)),
        "ObjectSize": text("ObjectSize", info.size),
    }
    shown = (element for name, element in elements.items() if name in wanted)
    return xml_answer(document("GetObjectAttributesResponse", *shown), _headers(bucket, info))


def _limit(value: str) -> int:
    """Of parts. What is no number of parts is ignored, as by S3."""
    return min(int(value), PAGE) if value.isascii() and value.isdigit() and len(value) <= DIGITS else PAGE


def _wanted(call: Call) -> set[str]:
    wanted = [name.strip() for name in call.headers.get(HEADER, "").split(",") if name.strip()]
    if not wanted:
        raise S3Error("InvalidRequest", f"The {HEADER} header specifying the attributes to be retrieved is either missing or "
                      "empty")
    for name in wanted:
        if name not in NAMES:
            raise S3Error("InvalidArgument", "Invalid attribute name specified.", ArgumentName=HEADER, ArgumentValue=name)
    return set(wanted)


def _headers(bucket: Bucket, info: ObjectInfo) -> list[tuple[str, str]]:
    return [("Last-Modified", http_date(info.modified)), *version_headers(bucket, info)]


def _checksum(record: Record) -> Fragment:
    """The value as S3 shows it here: without the number of parts that it has elsewhere."""
    if not record.checksums:
        return Fragment("")
    bare = {name: value.partition("-")[0] for name, value in record.checksums.items()}
    return node("Checksum", *checksum_elements(bare, record.checksum_type or "FULL_OBJECT"))


def _parts(record: Record, after: int, limit: int) -> Fragment:
    """Those with a number above `after`."""
    behind = [part for part in record.parts if part.number > after]
    page = behind[:limit]
    last = page[-1].number if page else 0
    return node(
        "ObjectParts", text("PartsCount", len(record.parts)), text("PartNumberMarker", min(after, MAX_PARTS)),
        text("NextPartNumberMarker", last), text("MaxParts", limit), text("IsTruncated", bool(page) and len(behind) > limit),
        *(node("Part", text("PartNumber", part.number), text("Size", part.size), *checksum_elements(sums_of(record, part)))
          for part in page),
    )
