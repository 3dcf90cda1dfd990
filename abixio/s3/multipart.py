"""Multipart uploads: create, upload part, complete, abort, list parts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from abixio.config import MAX_PARTS, MIB
from abixio.errors import NoSuchUpload
from abixio.message import Response
from abixio.s3 import conditions, customer_keys, encryption, lifecycle, metadata
from abixio.s3.call import CHECKSUMS, Call, checksum_elements, iso_date, quoted, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.objects import put_spec
from abixio.s3.payload import Payload, has_content_md5, payload_source
from abixio.s3.payload_checks import DEFAULT
from abixio.s3.versioning import written
from abixio.s3.xml import Fragment, Node, document, node, text
from abixio.store.types import Bucket, PartInfo, PartRef, Upload

MAX_COMPLETION: Final = 8 * MIB
"""10,000 parts with a number, an ETag and the longest checksums are 4 MiB; twice that leaves room for white space."""
MAX_PART_DIGITS: Final = 9
"""A part number of more digits is no part number, whatever its value."""
_NUMBER: Final = re.compile(rf"[+-]?[0-9]{{1,{MAX_PART_DIGITS}}}")
FULL_OBJECT: Final = "FULL_OBJECT"
COMPOSITE: Final = "COMPOSITE"
TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "CRC32": (COMPOSITE, FULL_OBJECT), "CRC32C": (COMPOSITE, FULL_OBJECT), "CRC64NVME": (FULL_OBJECT,),
    "SHA1": (COMPOSITE,), "SHA256": (COMPOSITE,), "SHA512": (COMPOSITE,), "MD5": (COMPOSITE,), "XXHASH64": (COMPOSITE,),
    "XXHASH3": (COMPOSITE,), "XXHASH128": (COMPOSITE,),
}
"""Which types of multipart checksum each algorithm can have, its default first, as S3."""
_UNASKED: Final = {"checksum_algorithm": DEFAULT.upper(), "checksum_type": FULL_OBJECT, "checksum_unasked": "true"}
"""Settings of an upload whose client wants no checksum: the object gets one all the same."""


async def create_multipart_upload(call: Call) -> Response:
    bucket = await call.bucket()
    spec = await put_spec(call, bucket, metadata.read(call.headers))
    algorithm, kind = _checksum(call.headers)
    settings = {"checksum_algorithm": algorithm, "checksum_type": kind} if algorithm else _UNASKED
    spec = replace(spec, settings=settings, checksum_type=settings["checksum_type"])
    upload = await call.store.create_upload(bucket, call.key, spec)
    headers = [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)] if algorithm else []
    return xml_answer(document(
        "InitiateMultipartUploadResult", text("Bucket", call.bucket_name), text("Key", call.key), text("UploadId", upload.id),
    ), headers + encryption.shown_to_writer(call, upload.record) + await lifecycle.abort_date(call, bucket, upload.initiated))


async def upload_part(call: Call) -> Response:
    metadata.refuse_unsupported(call.headers, encryption.HEADERS)
    number = part_number(call)
    source = payload_source(call.request, call.identity)
    bucket = await call.bucket()
    upload = await call.store.upload(bucket, call.key, call.query["uploadId"])
    seal = encryption.part_seal(call, bucket, upload)
    _agree(upload, source)
    part = await call.store.put_part(bucket, call.key, upload.id, number, source, has_content_md5(call.request), seal)
    # With two of them, the first is the client's, and the other one nobody asked for.
    wanted = source.checksum is not None or "checksum_unasked" not in _settings(upload)
    sums = [("x-amz-checksum-" + name, value) for name, value in islice(part.checksums.items(), int(wanted))]
    return Response(200, [("ETag", quoted(part.etag)), *sums, *encryption.shown_to_owner(call, upload.record)])


async def complete_multipart_upload(call: Call) -> Response:
    metadata.refuse_unsupported(call.headers, customer_keys.HEADERS)
    condition = conditions.for_write(call.headers)
    bucket = await call.bucket()
    if call.request.body.length == 0:
        raise S3Error("InvalidRequest", "You must specify at least one part")
    body = await call.document("CompleteMultipartUpload", MAX_COMPLETION, checksums=False)
    parts = [_part_ref(child) for child in body.all("Part")]
    if not 1 <= len(parts) <= MAX_PARTS:
        raise S3Error("MalformedXML")
    del body  # many times the size of `parts`
    expected = {name: call.headers["x-amz-checksum-" + name] for name in CHECKSUMS if "x-amz-checksum-" + name in call.headers}
    await _check_announced(call, bucket, parts, expected)
    info = await call.store.complete_upload(bucket, call.key, call.query["uploadId"], parts, condition, expected)
    record = info.record
    return xml_answer(document(
        "CompleteMultipartUploadResult", text("Location", call.place), text("Bucket", bucket.name), text("Key", call.key),
        text("ETag", quoted(info.etag)), *checksum_elements(record.checksums, record.checksum_type or COMPOSITE),
    ), [*written(info), *encryption.shown(record), *await lifecycle.expiration(call, bucket, info)])


async def abort_multipart_upload(call: Call) -> Response:
    await call.store.abort_upload(await call.bucket(), call.key, call.query["uploadId"])
    return Response(204)


async def list_parts(call: Call) -> Response:
    limit = call.page_size("max-parts")
    after = call.integer("part-number-marker", 0, 0, 2**31 - 1)
    bucket = await call.bucket()
    upload = await call.store.upload(bucket, call.key, call.query["uploadId"])
    parts: Sequence[PartInfo] = []
    more = False
    if limit:
        parts, more = await call.store.parts(bucket, call.key, upload.id, min(after, MAX_PARTS), limit)
    record = upload.record
    return xml_answer(document(
        "ListPartsResult", text("Bucket", bucket.name), text("Key", call.key), text("UploadId", upload.id),
        call.owner.element("Initiator"), call.owner.element(),
        text("StorageClass", record.headers.get(metadata.STORAGE_CLASS, "STANDARD")), text("PartNumberMarker", after),
        text("NextPartNumberMarker", parts[-1].number if parts else 0), text("MaxParts", limit), text("IsTruncated", more),
        *asked_checksum(upload),
        *(node("Part", text("PartNumber", part.number), text("LastModified", iso_date(part.modified)),
               text("ETag", quoted(part.etag)), text("Size", part.size), *part_sums(upload, part)) for part in parts),
    ), await lifecycle.abort_date(call, bucket, upload.initiated))


def part_number(call: Call) -> int:
    """Of the query: 1 to 10,000. InvalidArgument."""
    value = call.query["partNumber"]
    if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= MAX_PARTS:
        raise S3Error("InvalidArgument", f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
                      ArgumentName="partNumber", ArgumentValue=value)
    return int(value)


def upload_algorithm(upload: Upload) -> str:
    """The checksum that all parts of an upload have, by the name that digests go by."""
    return _settings(upload)["checksum_algorithm"].lower()


def _settings(upload: Upload) -> Mapping[str, str]:
    return upload.record.settings or _UNASKED


def asked_checksum(upload: Upload) -> list[Fragment]:
    """Algorithm and type as elements; none where nobody asked for them."""
    settings = _settings(upload)
    if "checksum_unasked" in settings:
        return []
    return [text("ChecksumAlgorithm", settings["checksum_algorithm"]), text("ChecksumType", settings["checksum_type"])]


def part_sums(upload: Upload, part: PartInfo) -> list[Fragment]:
    """The checksums of a part as elements; none where nobody asked for them."""
    return [] if "checksum_unasked" in _settings(upload) else checksum_elements(part.checksums)


def _checksum(headers: Mapping[str, str]) -> tuple[str, str]:
    """The checksum algorithm and type that the client wants parts and object to have; two empty strings for none."""
    algorithm = headers.get("x-amz-checksum-algorithm", "").upper()
    kind = headers.get("x-amz-checksum-type", "").upper()
    if not algorithm:
        if kind:
            raise S3Error("InvalidRequest",
                          "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
        return "", ""
    if algorithm not in TYPES:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported. Please try again with any of the valid "
                      f"types: [{', '.join(TYPES)}]")
    if kind not in ("", COMPOSITE, FULL_OBJECT):
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    if kind and kind not in TYPES[algorithm]:
        raise S3Error("InvalidRequest",
                      f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.")
    return algorithm, kind or TYPES[algorithm][0]


def _agree(upload: Upload, source: Payload) -> None:
    """Make a part have the checksum of its upload. One of another kind than the client asked for is refused; so is none where
    the object's checksum will be made of the parts', which the client has to know then."""
    algorithm, settings = upload_algorithm(upload), _settings(upload)
    if "checksum_unasked" not in settings and (source.checksum or settings["checksum_type"] == COMPOSITE):
        _check_kind(upload, [source.checksum or "null"])
    if source.checksum != algorithm:
        source.add_checksum(algorithm)


def _part_ref(part: Node) -> PartRef:
    """One `Part` of a completion."""
    number, etag = (part.text("PartNumber") or "").strip(), (part.text("ETag") or "").strip()
    if not (_NUMBER.fullmatch(number) and etag):
        raise S3Error("MalformedXML")
    if not 1 <= int(number) <= MAX_PARTS:
        raise S3Error("InvalidArgument", "PartNumber must be >= 1 and <= 10000", ArgumentName="partNumber", ArgumentValue=number)
    found = {name: part.text("Checksum" + name.upper()) for name in CHECKSUMS}
    return PartRef(int(number), etag.strip('"'), {name: value.strip() for name, value in found.items() if value})


async def _check_announced(call: Call, bucket: Bucket, parts: list[PartRef], sums: Collection[str]) -> None:
    """What the client believes it uploaded: x-amz-checksum-type, x-amz-mp-object-size, the kind of x-amz-checksum-*, and a
    checksum for each part where that of the object is made of them. Of an upload that is complete already nothing is left to
    compare: the store tells whether this is the same completion again."""
    kind, size = call.headers.get("x-amz-checksum-type", "").upper(), call.headers.get("x-amz-mp-object-size")
    try:
        upload = await call.store.upload(bucket, call.key, call.query["uploadId"])
        _check_kind(upload, sums)
        settings, algorithm = _settings(upload), upload_algorithm(upload)
        if kind not in ("", settings["checksum_type"]):
            raise S3Error("InvalidRequest", f"The upload was created using the {settings['checksum_type']} checksum mode. "
                          "The complete request must use the same checksum mode.")
        bare = next((part.number for part in parts if algorithm not in part.checksums), None)
        if settings["checksum_type"] == COMPOSITE and bare is not None:
            raise S3Error("InvalidRequest", f"The upload was created using a {algorithm} checksum. The complete request must "
                          f"include the checksum for each part. It was missing for part {bare} in the request.")
        if size is not None and size != str(await _size(call, bucket, {part.number for part in parts})):
            raise S3Error("InvalidRequest", "The provided 'x-amz-mp-object-size' header does not match what was computed.")
    except NoSuchUpload:
        return


def _check_kind(upload: Upload, sums: Collection[str]) -> None:
    """A checksum of another kind than the parts have could not be compared with anything."""
    algorithm = upload_algorithm(upload)
    expected = "null" if "checksum_unasked" in _settings(upload) else algorithm
    for name in sums:
        if name != algorithm:
            raise S3Error("InvalidRequest", "Checksum Type mismatch occurred, "
                          f"expected checksum Type: {expected}, actual checksum Type: {name}")


async def _size(call: Call, bucket: Bucket, numbers: set[int]) -> int:
    """The bytes in those parts."""
    total, after, more = 0, 0, True
    while more:
        page, more = await call.store.parts(bucket, call.key, call.query["uploadId"], after, 1000)
        total += sum(part.size for part in page if part.number in numbers)
        after = page[-1].number if page else MAX_PARTS
    return total
