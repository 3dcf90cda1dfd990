"""GetObject, HeadObject, PutObject and DeleteObject."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Final, NamedTuple

from abixio.config import KIB, MAX_PARTS
from abixio.errors import AbixioError, IsDeleteMarker, NoSuchKey
from abixio.message import Buffer, Promise, Response
from abixio.s3 import acl, conditions, encryption, grants, lifecycle, locking, metadata, ranges, tagging
from abixio.s3.call import OWNER, Call, check_owner, checksum_headers, http_date, quoted, sums_of
from abixio.s3.errors import S3Error
from abixio.s3.payload import Payload, PlainSource, has_content_md5, payload_source
from abixio.s3.payload_checks import DEFAULT
from abixio.s3.ranges import Span
from abixio.s3.versioning import is_versioned, version_headers, written
from abixio.store.composite import COMBINABLE
from abixio.store.types import AtHand, Bucket, Condition, Deleted, ObjectInfo, PutSpec, Reader, Says

ONE_WRITE: Final = 64 * KIB
"""Up to here an answer is collected and sent with its head in one write: a copy of 64 KiB costs less than a second write."""

KEPT: Final = locking.HEADERS | {tagging.HEADER}
"""Headers of uploads that ask for more than storing bytes, and get it."""
UPLOADING: Final = KEPT | encryption.HEADERS | grants.HEADERS
"""The same, with those that an append cannot follow: it goes on as the object began."""
OFFSET: Final = "x-amz-write-offset-bytes"
UNUSUAL: Final = encryption.HEADERS | grants.HEADERS | {OFFSET}
"""Headers of uploads for which something has to be looked up."""
MAX_OFFSET: Final = 2**63 - 1
"""S3 reads it as a 64-bit integer."""
_NOT_MODIFIED: Final = frozenset({"ETag", "Last-Modified", "Cache-Control", "Expires", "x-amz-version-id"})
"""What a 304 repeats of the 200 (RFC 9110, 15.4.5)."""


class Plan(NamedTuple):
    """What to answer a GET or HEAD with."""

    status: int
    headers: list[tuple[str, str]]
    span: Span


class Made(NamedTuple):
    """An answer that was given at once, and what it was made from."""

    response: Response
    source: AtHand


class ObjectStream:
    """A response body that reads while it is sent."""

    def __init__(self, reader: Reader, span: Span) -> None:
        self.length = span.length
        self._reader = reader
        self._span = span

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._reader.stream(*self._span)

    async def aclose(self) -> None:
        await self._reader.aclose()


async def get_object(call: Call) -> Response:
    _check_read(call)
    bucket = await call.bucket()
    reader = await call.store.open(bucket, call.key, call.version, encryption.unlocks(call))
    streams = False
    try:
        plan = await _plan(call, bucket, reader.info)
        if plan.span.length > ONE_WRITE:
            streams = True
            return Response(plan.status, plan.headers, ObjectStream(reader, plan.span))
        body = b"".join([piece async for piece in reader.stream(*plan.span)]) if plan.span.length else b""
        return Response(plan.status, plan.headers, body)
    finally:
        if not streams:
            await reader.aclose()


async def head_object(call: Call) -> Response:
    _check_read(call)
    bucket = await call.bucket()
    return _headed(await _plan(call, bucket, encryption.opened(call, await call.store.head(bucket, call.key, call.version))))


def _headed(plan: Plan) -> Response:
    if plan.status != 304:
        plan.headers.append(("Content-Length", str(plan.span.length)))
    return Response(plan.status, plan.headers)


def read_at_once(call: Call) -> Made | None:
    """GetObject and HeadObject, where what they need is at hand; None where it is not, or more than the plain object is asked
    for. What is answered is decided by the same functions in the same order."""
    if call.version is not None or call.headers.keys() & encryption.HEADERS:
        return None
    reads = call.request.method == "GET"
    _check_read(call)
    found = call.store.at_hand(call.bucket_name, call.key, reads)
    data = None if found is None else found.data()
    if found is None or data is None or found.info.record.encryption or lifecycle.has_rules(found.bucket):
        return None
    check_owner(found.bucket, call.headers.get(OWNER))
    headers = _described(call, found.bucket, found.info)
    plan = _unchanged(call, found.info, headers) or _selected(call, found.info, headers)
    if reads:
        start, length = plan.span
        return Made(Response(plan.status, plan.headers, data if length == len(data) else data[start : start + length]), found)
    return Made(_headed(plan), found)


async def put_object(call: Call) -> Response:
    if OFFSET in call.headers:
        return await append_object(call)
    bucket = await call.bucket()
    spec = await put_spec(call, bucket, metadata.read(call.headers))
    info = await call.store.put(bucket, call.key, spec, _put_source(call, spec))
    headers = _put_headers(call, info) + await lifecycle.expiration(call, bucket, info)
    return Response(200, headers)


def put_at_once(call: Call, end: Callable[[Response], Response], refused: Callable[[AbixioError], Response]) -> Promise | None:
    """PutObject, where its body and what else it needs are at hand; None where they are not, or more than the plain object is
    asked for. What is answered is decided by the same functions in the same order."""
    data = call.request.body.at_hand()
    if data is None or not UNUSUAL.isdisjoint(call.headers):
        return None
    bucket = call.store.bucket_at_hand(call.bucket_name)
    if bucket is None or lifecycle.has_rules(bucket):
        return None
    check_owner(bucket, call.headers.get(OWNER))
    spec = _spec(call, bucket, metadata.read(call.headers), {}, UPLOADING)
    source = _put_source(call, spec)
    if not isinstance(source, PlainSource):
        return None  # in chunks, with or without signatures
    says: Says[ObjectInfo, Response] = Says(lambda info: end(Response(200, _put_headers(call, info))), refused)
    return call.store.put_at_once(bucket, call.key, spec, source, data, says)


def _put_source(call: Call, spec: PutSpec) -> Payload:
    source = payload_source(call.request, call.identity)
    locking.check_digest(spec.lock, source.checksum is not None or spec.real_md5)
    if source.checksum is None:
        source.add_checksum(DEFAULT)
    return source


def _put_headers(call: Call, info: ObjectInfo) -> list[tuple[str, str]]:
    headers = [("ETag", quoted(info.etag)), *written(info), *checksum_headers(info.record)]
    return headers + encryption.shown_to_writer(call, info.record)


async def append_object(call: Call) -> Response:
    """PutObject with x-amz-write-offset-bytes. A checksum of the kind that the object has is computed, so that it keeps one."""
    offset = call.header_integer(OFFSET, -1, 0, MAX_OFFSET)
    if offset < 0:
        raise S3Error("InvalidArgument", ArgumentName=OFFSET, ArgumentValue=call.headers[OFFSET])
    bucket = await call.bucket()
    spec = await put_spec(call, bucket, metadata.read(call.headers), {*KEPT, OFFSET})
    source = payload_source(call.request, call.identity)
    wanted = await _kept_checksum(call, bucket)
    if source.checksum != wanted:
        source.add_checksum(wanted)
    info = await call.store.append(bucket, call.key, spec, offset, source)
    headers = [("ETag", quoted(info.etag)), ("x-amz-object-size", str(info.size)), *checksum_headers(info.record)]
    return Response(200, headers + encryption.shown(info.record))


async def _kept_checksum(call: Call, bucket: Bucket) -> str:
    """The algorithm of the object's checksum, if it can go on with what is appended."""
    try:
        known = (await call.store.head(bucket, call.key)).record.checksums
    except (NoSuchKey, IsDeleteMarker):
        known = {}
    return next((name for name in known if name in COMBINABLE), DEFAULT)


async def delete_object(call: Call) -> Response:
    condition = _delete_condition(call)
    bucket = await call.bucket()
    gone = await call.store.delete(bucket, call.key, condition, call.version, locking.bypasses(call, bucket))
    return _deleted(call, bucket, gone)


def delete_at_once(
    call: Call, end: Callable[[Response], Response], refused: Callable[[AbixioError], Response]
) -> Promise | None:
    """DeleteObject, likewise."""
    if call.version is not None or call.request.body.at_hand() is None:
        return None
    condition = _delete_condition(call)
    bucket = call.store.bucket_at_hand(call.bucket_name)
    if bucket is None:
        return None
    check_owner(bucket, call.headers.get(OWNER))
    says: Says[Deleted | None, Response] = Says(lambda gone: end(_deleted(call, bucket, gone)), refused)
    return call.store.delete_at_once(bucket, call.key, condition, locking.bypasses(call, bucket), says)


def _delete_condition(call: Call) -> Condition:
    metadata.refuse_unsupported(call.headers, (conditions.MODIFIED, conditions.SIZE, locking.BYPASS))
    get = call.headers.get
    doom = conditions.Doom(get("if-match"), get(conditions.MODIFIED), get(conditions.SIZE))
    if call.version is not None and doom.etag is not None:  # S3 looks at the current version only
        raise S3Error("NotImplemented", Header="If-Match")
    return conditions.for_delete(doom, conditions.read(call.headers))


def _deleted(call: Call, bucket: Bucket, gone: Deleted | None) -> Response:
    headers = [("x-amz-delete-marker", "true")] if gone is not None and gone.marker else []
    if call.version is not None:
        headers.append(("x-amz-version-id", call.version))
    elif gone is not None and is_versioned(bucket):
        headers.append(("x-amz-version-id", gone.version))
    return Response(204, headers)


async def put_spec(call: Call, bucket: Bucket, found: metadata.Metadata, known: Collection[str] = UPLOADING) -> PutSpec:
    """What PutObject, CopyObject and CreateMultipartUpload have in common, checked. `known`: headers that ask for more than
    storing bytes, and get it."""
    metadata.refuse_unsupported(call.headers, known)
    kept = None if grants.HEADERS.isdisjoint(call.headers) else await acl.of_headers(call, bucket)
    return _spec(call, bucket, found, {metadata.LIST: kept} if kept else {}, known)


def _spec(
    call: Call, bucket: Bucket, found: metadata.Metadata, grants: Mapping[str, str], known: Collection[str]
) -> PutSpec:
    metadata.refuse_unsupported(call.headers, known)
    return PutSpec(
        owner=call.owner.id, headers={**found.headers, **grants}, meta=found.meta, ftt=found.ftt,
        real_md5=has_content_md5(call.request), condition=conditions.for_write(call.headers),
        tags=tagging.from_header(call.headers), lock=locking.from_headers(call.headers, bucket),
        seal=encryption.seal_for(call, bucket),
    )


def _check_read(call: Call) -> None:
    metadata.refuse_unsupported(call.headers, encryption.HEADERS)
    if "partNumber" in call.query:
        call.integer("partNumber", 0, 1, MAX_PARTS)
        if "range" in call.headers:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")


async def _plan(call: Call, bucket: Bucket, info: ObjectInfo) -> Plan:
    """Conditions first, then the part or range, as RFC 9110 13.2.2 orders them."""
    headers = _described(call, bucket, info)
    plan = _unchanged(call, info, headers)
    if plan is None:
        headers += await lifecycle.expiration(call, bucket, info)
        plan = _selected(call, info, headers)
    return plan


def _described(call: Call, bucket: Bucket, info: ObjectInfo) -> list[tuple[str, str]]:
    """The headers that tell of an object."""
    headers = [("ETag", quoted(info.etag)), ("Last-Modified", http_date(info.modified)), ("Accept-Ranges", "bytes")]
    headers += version_headers(bucket, info) + metadata.answer(info, call.query) + locking.lock_headers(info.record)
    headers += encryption.shown_to_owner(call, info.record)
    if info.record.tags:
        headers.append(("x-amz-tagging-count", str(len(info.record.tags))))
    return headers


def _unchanged(call: Call, info: ObjectInfo, headers: list[tuple[str, str]]) -> Plan | None:
    """The 304, where the conditions ask for it. PreconditionFailed."""
    if not conditions.check_read(conditions.read(call.headers), info):
        return Plan(304, [pair for pair in headers if pair[0] in _NOT_MODIFIED], Span(0, 0))
    return None


def _selected(call: Call, info: ObjectInfo, headers: list[tuple[str, str]]) -> Plan:
    """What of the object is sent."""
    if "partNumber" in call.query:
        return _part(call, info, headers)
    wanted = call.headers.get("range")
    span = None
    if wanted is not None and conditions.range_applies(call.headers.get("if-range"), info):
        span = ranges.parse(wanted, info.size)
    if _shows_checksums(call) and span in (None, (0, info.size)):
        headers += checksum_headers(info.record)
    if span is None:
        return Plan(200, headers, Span(0, info.size))
    headers.append(("Content-Range", ranges.content_range(span, info.size)))
    return Plan(206, headers, span)


def _part(call: Call, info: ObjectInfo, headers: list[tuple[str, str]]) -> Plan:
    """One part of a multipart object, by the number it was uploaded under; part 1 of any other object is all of it."""
    number, record, start = call.integer("partNumber", 0, 1, MAX_PARTS), info.record, 0
    if not record.upload:
        if number > 1:
            raise _no_such_part(number, 1)
        if _shows_checksums(call):
            headers += checksum_headers(record)
        return _partial(info, headers, Span(0, info.size))
    for part in record.parts:
        if part.number == number:
            headers.append(("x-amz-mp-parts-count", str(len(record.parts))))
            if _shows_checksums(call):
                headers += [("x-amz-checksum-" + name, value) for name, value in sums_of(record, part).items()]
            return _partial(info, headers, Span(start, part.size))
        start += part.size
    raise _no_such_part(number, len(record.parts))


def _partial(info: ObjectInfo, headers: list[tuple[str, str]], span: Span) -> Plan:
    if span.length == 0:
        return Plan(200, headers, span)
    headers.append(("Content-Range", ranges.content_range(span, info.size)))
    return Plan(206, headers, span)


def _no_such_part(number: int, count: int) -> S3Error:
    return S3Error("InvalidPartNumber", PartNumberRequested=number, ActualPartCount=count)


def _shows_checksums(call: Call) -> bool:
    return call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
