"""CopyObject and UploadPartCopy: an object of this store as the body of a PUT, without ever holding more of it than a slice."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from abixio.config import MAX_OBJECT
from abixio.errors import DataLost, IsDeleteMarker, NoSuchBucket, NoSuchKey
from abixio.message import Response
from abixio.s3 import conditions, customer_keys, encryption, lifecycle, metadata
from abixio.s3.call import CHECKSUMS, Call, check_owner, checksum_elements, iso_date, quoted, xml_answer
from abixio.s3.errors import S3Error, from_exception, of_copy_source
from abixio.s3.multipart import part_number, part_sums, upload_algorithm
from abixio.s3.names import check_key, decode_path
from abixio.s3.objects import UPLOADING, put_spec
from abixio.s3.payload_checks import DEFAULT
from abixio.s3.ranges import Span, parse_copy
from abixio.s3.versioning import is_versioned, written
from abixio.s3.xml import document, text
from abixio.store.stored import Stored
from abixio.store.types import Bucket, ObjectInfo, PutSpec, Reader

HEADER: Final = "x-amz-copy-source"
_MD5: Final = re.compile("[0-9a-f]{32}")
_VERSION: Final = "?versionId="
_SELF: Final = (
    "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, "
    "storage class, website redirect location or encryption attributes."
)


class Place(NamedTuple):
    """Where a copy's source is."""

    bucket: str
    key: str
    version: str | None = None


class ReaderSource(Stored):
    """The bytes of an open object as the source of an upload. When all of it is copied, its stored checksums are
    computed again on the way and compared."""

    def __init__(self, reader: Reader, span: Span, algorithms: Collection[str]) -> None:
        super().__init__(reader, *span)
        info = reader.info
        whole = span.length == info.size and info.record.checksum_type != "COMPOSITE"
        self._expected: Mapping[str, str] = info.record.checksums if whole else {}
        self._kept = algorithms
        self.algorithms = {*algorithms, *self._expected}

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        found = {name: b64encode(digests[name]).decode() for name in self.algorithms}
        for name, value in self._expected.items():
            if found[name] != value:
                raise DataLost(f"the {name} of the source is not what it was")
        return {name: found[name] for name in self._kept}


async def copy_object(call: Call) -> Response:
    _check_no_body(call)
    place = parse_source(call.headers[HEADER])
    replaces = _directive(call.headers)
    chosen = _algorithm(call.headers)
    bucket = await call.bucket()
    reader = await _open(call, place)
    try:
        source = reader.info
        if source.size > MAX_OBJECT:
            raise S3Error("InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy "
                          f"source: {MAX_OBJECT}")
        spec = await _spec(call, bucket, source, replaces)
        current = place.version is None or not is_versioned(bucket)
        if current and place[:2] == (bucket.name, call.key) and not (
            replaces or _changes(call, spec, source, chosen) or encryption.changes(call, source.record, spec.seal)
        ):
            raise S3Error("InvalidRequest", _SELF)
        body = ReaderSource(reader, Span(0, source.size), [chosen] if chosen else _known(source))
        await body.begin()
        info = await call.store.put(bucket, call.key, spec, body)
    finally:
        await reader.aclose()
    return xml_answer(document(
        "CopyObjectResult", text("LastModified", iso_date(info.modified)), text("ETag", quoted(info.etag)),
        *checksum_elements(info.record.checksums, "FULL_OBJECT"),
    ), [*written(info), *_source_version(reader), *encryption.shown_to_writer(call, info.record),
        *await lifecycle.expiration(call, bucket, info)])


async def upload_part_copy(call: Call) -> Response:
    _check_no_body(call)
    metadata.refuse_unsupported(call.headers, encryption.COPYING)
    place, number = parse_source(call.headers[HEADER]), part_number(call)
    bucket = await call.bucket()
    upload = await call.store.upload(bucket, call.key, call.query["uploadId"])
    algorithm, seal = upload_algorithm(upload), encryption.part_seal(call, bucket, upload)
    reader = await _open(call, place)
    try:
        wanted = call.headers.get("x-amz-copy-source-range")
        span = Span(0, reader.info.size) if wanted is None else parse_copy(wanted, reader.info.size)
        if span.length > MAX_OBJECT:
            raise S3Error("EntityTooLarge", ProposedSize=span.length, MaxSizeAllowed=MAX_OBJECT)
        source = ReaderSource(reader, span, [algorithm])
        await source.begin()
        part = await call.store.put_part(bucket, call.key, upload.id, number, source, seal=seal)
    finally:
        await reader.aclose()
    return xml_answer(document(
        "CopyPartResult", text("LastModified", iso_date(part.modified)), text("ETag", quoted(part.etag)),
        *part_sums(upload, part),
    ), [*_source_version(reader), *encryption.shown_to_owner(call, upload.record)])


def _check_no_body(call: Call) -> None:
    if call.request.body.length:
        raise S3Error("InvalidRequest", "The request included a body. Requests of this type must not include a non-empty body.")


def parse_source(header: str) -> Place:
    """`bucket/key` or `/bucket/key`, percent-encoded, perhaps with `?versionId=`. S3 decodes it as a form, where a `+` is a
    space, and some clients encode it so. InvalidArgument."""
    path, _, version = header.partition(_VERSION)
    bucket, _, key = decode_path(path.replace("+", " ").encode("latin-1")).removeprefix("/").partition("/")
    if not bucket or not key:
        raise S3Error("InvalidArgument", f"Invalid copy source {'object key' if bucket else 'bucket name'}", ArgumentName=HEADER,
                      ArgumentValue=header)
    if bucket.startswith("arn:"):
        raise S3Error("NotImplemented", Header=HEADER)
    check_key(key)
    return Place(bucket, key, version if _VERSION in header else None)


async def _open(call: Call, place: Place) -> Reader:
    """The source, if its conditions hold."""
    try:
        bucket: Bucket = await call.store.bucket(place.bucket)
        check_owner(bucket, call.headers.get("x-amz-source-expected-bucket-owner"))
        unlock = encryption.unlocks(call, customer_keys.OF_SOURCE)
        reader = await call.store.open(bucket, place.key, place.version, unlock)
    except IsDeleteMarker as error:
        raise of_copy_source(error) from error
    except (NoSuchBucket, NoSuchKey) as error:
        found = from_exception(error)  # which would be taken to be about the target
        found.fields |= {"BucketName": place.bucket} if isinstance(error, NoSuchBucket) else {"Key": place.key}
        raise found from None
    try:
        conditions.check_source(conditions.read(call.headers, "x-amz-copy-source-"), reader.info)
    except BaseException:
        await reader.aclose()
        raise
    return reader


def _source_version(reader: Reader) -> list[tuple[str, str]]:
    """Which version was copied, where that is said."""
    version = reader.info.version
    return [("x-amz-copy-source-version-id", version)] if version != "null" else []


def _directive(headers: Mapping[str, str]) -> bool:
    """Whether the request's metadata replaces that of the source."""
    for name in ("x-amz-metadata-directive", "x-amz-tagging-directive"):
        if headers.get(name, "COPY") not in ("COPY", "REPLACE"):
            raise S3Error("InvalidArgument", f"Unknown {name[6:].replace('-', ' ')}.",
                          ArgumentName=name, ArgumentValue=headers[name])
    return headers.get("x-amz-metadata-directive") == "REPLACE"


def _algorithm(headers: Mapping[str, str]) -> str:
    """The checksum that the copy shall have; empty: those of the source."""
    name = headers.get("x-amz-checksum-algorithm", "").lower()
    if name and name not in CHECKSUMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    return name


def _known(source: ObjectInfo) -> list[str]:
    """The checksums that the copy has because its source has them."""
    return [name for name in source.record.checksums if name in CHECKSUMS] or [DEFAULT]


async def _spec(call: Call, bucket: Bucket, source: ObjectInfo, replaces: bool) -> PutSpec:
    """The copy's own metadata. Storage class, redirect and conditions always come from the request; so does the fault
    tolerance if it names one."""
    found = metadata.read(call.headers)
    if not replaces:
        moved = {name: value for name, value in source.record.headers.items() if name not in metadata.NOT_COPIED}
        meta = dict(source.record.meta)
        if found.ftt is not None:
            meta[metadata.FTT] = found.ftt
        found = metadata.Metadata(moved | metadata.placement(call.headers), meta)
    # The copy of an object whose ETag is an MD5 has the same ETag, which is what clients compare; for that it must be
    # computed also where the copy alone would get the fast form.
    real_md5 = call.config.etag == "auto" and _MD5.fullmatch(source.etag) is not None
    spec = replace(await put_spec(call, bucket, found, UPLOADING | encryption.COPYING), real_md5=real_md5)
    spec = replace(spec, seal=encryption.copy_seal(call, bucket, source.record, spec.seal))
    retagged = call.headers.get("x-amz-tagging-directive") == "REPLACE"
    return spec if retagged else replace(spec, tags=source.record.tags)


def _changes(call: Call, spec: PutSpec, source: ObjectInfo, algorithm: str) -> bool:
    """Whether a copy onto itself changes anything that S3 counts, or the layout. To S3, a storage class and a redirect that are
    named are a change, also where they are what they were."""
    record = source.record
    return (
        any(name in call.headers or spec.headers.get(name, default) != record.headers.get(name, default)
            for name, default in metadata.PLACEMENT.items())
        or spec.ftt != record.meta.get(metadata.FTT)
        or bool(algorithm and [algorithm] != list(record.checksums))
    )
