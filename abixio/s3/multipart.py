"""Multipart uploads: create, upload part, complete, abort, list parts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from abixio.config import MAX_PARTS, MIB
from abixio.errors import NoSuchUpload
from abixio.message import Response
from abixio.s3 import conditions, metadata
from abixio.s3.call import CHECKSUMS, Call, checksum_elements, iso_date, quoted, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.objects import put_spec
from abixio.s3.payload import has_content_md5, payload_source
from abixio.s3.xml import Node, document, node, text
from abixio.store.types import Bucket, PartInfo, PartRef, Source, Upload

MAX_COMPLETION: Final = 8 * MIB
"""10,000 parts with a number, an ETag and the longest checksums are 4 MiB; twice that leaves room for white space."""
MAX_PART_DIGITS: Final = 9
"""A part number of more digits is no part number, whatever its value."""
FULL_OBJECT: Final = "FULL_OBJECT"
COMPOSITE: Final = "COMPOSITE"
TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "CRC32": (COMPOSITE, FULL_OBJECT), "CRC32C": (COMPOSITE, FULL_OBJECT), "CRC64NVME": (FULL_OBJECT,),
    "SHA1": (COMPOSITE,), "SHA256": (COMPOSITE,),
}
"""Which types of multipart checksum each algorithm can have, its default first, as S3."""


class Summed:
    """A source whose payload gets one more checksum than the client sent, because its upload asks for that one."""

    def __init__(self, source: Source, algorithm: str) -> None:
        self.length: int | None = source.length
        self.algorithms: Collection[str] = {*source.algorithms, algorithm}
        self.readinto = source.readinto
        self._source = source
        self._algorithm = algorithm

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        found = self._source.verify(digests)
        found.setdefault(self._algorithm, b64encode(digests[self._algorithm]).decode())
        return found


async def create_multipart_upload(call: Call) -> Response:
    spec = put_spec(call, metadata.read(call.headers))
    algorithm, kind = _checksum(call.headers)
    if algorithm:
        spec = replace(spec, settings={"checksum_algorithm": algorithm, "checksum_type": kind}, checksum_type=kind)
    upload = await call.store.create_upload(await call.bucket(), call.key, spec)
    headers = [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)] if algorithm else []
    return xml_answer(document(
        "InitiateMultipartUploadResult", text("Bucket", call.bucket_name), text("Key", call.key), text("UploadId", upload.id),
    ), headers)


async def upload_part(call: Call) -> Response:
    metadata.refuse_unsupported(call.headers)
    number = part_number(call)
    source = payload_source(call.request, call.identity)
    bucket = await call.bucket()
    algorithm = upload_algorithm(await call.store.upload(bucket, call.key, call.query["uploadId"]))
    if algorithm:
        _check_same_algorithm(call.headers, algorithm)
        source = Summed(source, algorithm)
    part = await call.store.put_part(bucket, call.key, call.query["uploadId"], number, source, has_content_md5(call.request))
    sums = [("x-amz-checksum-" + name, value) for name, value in part.checksums.items()]
    return Response(200, [("ETag", quoted(part.etag)), *sums])


async def complete_multipart_upload(call: Call) -> Response:
    metadata.refuse_unsupported(call.headers)
    condition = conditions.for_write(call.headers)
    bucket = await call.bucket()
    body = await call.document("CompleteMultipartUpload", MAX_COMPLETION, checksums=False)
    parts = [_part_ref(child) for child in body.all("Part")]
    if not 1 <= len(parts) <= MAX_PARTS:
        raise S3Error("MalformedXML")
    del body  # many times the size of `parts`
    expected = {name: call.headers["x-amz-checksum-" + name] for name in CHECKSUMS if "x-amz-checksum-" + name in call.headers}
    await _check_announced(call, bucket, parts, expected)
    info = await call.store.complete_upload(bucket, call.key, call.query["uploadId"], parts, condition, expected)
    record = info.record
    scheme = "https" if call.request.secure else "http"
    # Bucket and key are spelt as the client spelt them, in either style of addressing.
    place = f"{scheme}://{call.headers.get('host', '')}{call.request.target.partition(b'?')[0].decode('ascii', 'replace')}"
    return xml_answer(document(
        "CompleteMultipartUploadResult", text("Location", place), text("Bucket", bucket.name), text("Key", call.key),
        text("ETag", quoted(info.etag)), *checksum_elements(record.checksums, record.checksum_type or COMPOSITE),
    ))


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
        text("ChecksumAlgorithm", record.settings.get("checksum_algorithm")),
        text("ChecksumType", record.settings.get("checksum_type")),
        *(node("Part", text("PartNumber", part.number), text("LastModified", iso_date(part.modified)),
               text("ETag", quoted(part.etag)), text("Size", part.size), *checksum_elements(part.checksums)) for part in parts),
    ))


def part_number(call: Call) -> int:
    """Of the query: 1 to 10,000. InvalidArgument."""
    if not call.query["partNumber"]:
        raise S3Error("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive",
                      ArgumentName="partNumber", ArgumentValue="")
    return call.integer("partNumber", 0, 1, MAX_PARTS)


def upload_algorithm(upload: Upload) -> str:
    """The checksum that all parts of an upload have, by the name that digests go by; empty for none."""
    return upload.record.settings.get("checksum_algorithm", "").lower()


def _checksum(headers: Mapping[str, str]) -> tuple[str, str]:
    """The checksum algorithm and type that the parts and the object will have; two empty strings for none."""
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


def _check_same_algorithm(headers: Mapping[str, str], algorithm: str) -> None:
    """A part may not bring a checksum of another kind than its upload was opened for."""
    trailers = {name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",")}
    sent = ["x-amz-checksum-" + name for name in CHECKSUMS]
    _check_kind(algorithm, [name.rpartition("-")[2] for name in sent if name in headers or name in trailers])


def _part_ref(part: Node) -> PartRef:
    """One `Part` of a completion."""
    number, etag = (part.text("PartNumber") or "").strip(), (part.text("ETag") or "").strip()
    if not (number.isascii() and number.isdigit() and len(number) <= MAX_PART_DIGITS and etag):
        raise S3Error("MalformedXML")
    if not 1 <= int(number) <= MAX_PARTS:
        raise S3Error("InvalidArgument", "PartNumber must be >= 1 and <= 10000", ArgumentName="partNumber", ArgumentValue=number)
    found = {name: part.text("Checksum" + name.upper()) for name in CHECKSUMS}
    return PartRef(int(number), etag.strip('"'), {name: value.strip() for name, value in found.items() if value})


async def _check_announced(call: Call, bucket: Bucket, parts: list[PartRef], sums: Collection[str]) -> None:
    """x-amz-checksum-type, x-amz-mp-object-size and the kind of x-amz-checksum-*: what the client believes it uploaded. Of an
    upload that is complete already nothing is left to compare: the store tells whether this is the same completion again."""
    kind, size = call.headers.get("x-amz-checksum-type", "").upper(), call.headers.get("x-amz-mp-object-size")
    if not kind and size is None and not sums:
        return
    try:
        upload = await call.store.upload(bucket, call.key, call.query["uploadId"])
        _check_kind(upload_algorithm(upload), sums)
        if kind and kind != upload.record.settings.get("checksum_type", kind):
            raise S3Error("BadDigest", "The checksum type does not match the one that the upload was created with.")
        if size is not None and size != str(await _size(call, bucket, {part.number for part in parts})):
            raise S3Error("InvalidRequest", "The provided 'x-amz-mp-object-size' header does not match what was computed.")
    except NoSuchUpload:
        return


def _check_kind(algorithm: str, sums: Collection[str]) -> None:
    """A checksum of another kind than the parts have could not be compared with anything."""
    for name in sums:
        if name != algorithm:
            raise S3Error("InvalidRequest", "Checksum Type mismatch occurred, "
                          f"expected checksum Type: {algorithm or 'null'}, actual checksum Type: {name}")


async def _size(call: Call, bucket: Bucket, numbers: set[int]) -> int:
    """The bytes in those parts."""
    total, after, more = 0, 0, True
    while more:
        page, more = await call.store.parts(bucket, call.key, call.query["uploadId"], after, 1000)
        total += sum(part.size for part in page if part.number in numbers)
        after = page[-1].number if page else MAX_PARTS
    return total
