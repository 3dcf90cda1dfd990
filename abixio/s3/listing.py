"""ListObjects, ListObjectsV2, ListObjectVersions and ListMultipartUploads: pages of keys, their tokens and markers."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import quote_plus

from abixio.errors import InvalidVersionId, NoSuchUpload
from abixio.message import Response
from abixio.s3.call import Call, Owner, iso_date, quoted, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.metadata import STORAGE_CLASS, storage_class
from abixio.s3.multipart import asked_checksum
from abixio.s3.xml import Fragment, document, node, text
from abixio.store.types import Listing, ObjectInfo, Upload, VersionListing

_TOKEN: Final = "1"
"""What a continuation token starts with, so that its content can change."""

Writer = Callable[[str], str]


async def list_objects(call: Call) -> Response:
    """Version 1: the client goes on from a key, NextMarker is only given where it could be a common prefix."""
    query, name = call.query, _writer(call)
    prefix, delimiter, marker = query.get("prefix", ""), query.get("delimiter", ""), query.get("marker", "")
    limit = call.page_size("max-keys")
    page = await _page(call, prefix, delimiter, marker, limit)
    following = page.next if page.truncated and delimiter else None
    return xml_answer(document(
        "ListBucketResult", text("Name", call.bucket_name), text("Prefix", name(prefix)), text("Marker", name(marker)),
        text("NextMarker", None if following is None else name(following)), text("MaxKeys", limit),
        text("Delimiter", name(delimiter) if delimiter else None), text("EncodingType", query.get("encoding-type") or None),
        text("IsTruncated", page.truncated), *_contents(page.items, name, call.owner), *_prefixes(page.prefixes, name),
    ))


async def list_objects_v2(call: Call) -> Response:
    query, name = call.query, _writer(call)
    if query["list-type"] != "2":
        raise S3Error("InvalidArgument", "Invalid List Type specified in Request", ArgumentName="list-type",
                      ArgumentValue=query["list-type"])
    prefix, delimiter, start = query.get("prefix", ""), query.get("delimiter", ""), query.get("start-after", "")
    token = query.get("continuation-token")
    if token == "":
        raise bad_token(token)
    limit = call.page_size("max-keys")
    page = await _page(call, prefix, delimiter, start if token is None else decode_token(token), limit)
    owner = call.owner if query.get("fetch-owner", "").lower() == "true" else None
    return xml_answer(document(
        "ListBucketResult", text("Name", call.bucket_name), text("Prefix", name(prefix)), text("MaxKeys", limit),
        text("Delimiter", name(delimiter) if delimiter else None), text("EncodingType", query.get("encoding-type") or None),
        text("KeyCount", len(page.items) + len(page.prefixes)), text("IsTruncated", page.truncated),
        text("ContinuationToken", token), text("StartAfter", name(start) if start else None),
        text("NextContinuationToken", encode_token(page.next) if page.truncated and page.next is not None else None),
        *_contents(page.items, name, owner), *_prefixes(page.prefixes, name),
    ))


async def list_object_versions(call: Call) -> Response:
    """Versions and delete markers in the order of their keys, newest first. Of a bucket that was never versioned every object is
    its own and only version, named `null`."""
    query, name = call.query, _writer(call)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    marker, version = query.get("key-marker", ""), query.get("version-id-marker")
    if version is not None and not marker:
        raise S3Error("InvalidArgument", "A version-id marker cannot be specified without a key marker.",
                      ArgumentName="version-id-marker", ArgumentValue=version)
    limit = call.page_size("max-keys")
    bucket = await call.bucket()
    page = VersionListing([], [], False, None)
    if limit:
        covered = rolled(prefix, delimiter, marker)
        after = (marker, version) if covered is None else (covered, None)
        try:
            page = await call.store.versions(bucket, prefix, delimiter, after, limit)
        except InvalidVersionId:
            raise S3Error("InvalidArgument", "Invalid version id specified", ArgumentName="version-id-marker",
                          ArgumentValue=version) from None
    last, last_version = (None, None) if page.next is None else page.next
    return xml_answer(document(
        "ListVersionsResult", text("Name", call.bucket_name), text("Prefix", name(prefix)), text("KeyMarker", name(marker)),
        text("VersionIdMarker", version or ""), text("NextKeyMarker", None if last is None else name(last)),
        text("NextVersionIdMarker", last_version), text("MaxKeys", limit),
        text("Delimiter", name(delimiter) if delimiter else None), text("EncodingType", query.get("encoding-type") or None),
        text("IsTruncated", page.truncated), *(_version(info, latest, name, call.owner) for info, latest in page.versions),
        *_prefixes(page.prefixes, name),
    ))


async def list_multipart_uploads(call: Call) -> Response:
    query, name = call.query, _writer(call)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    key_marker = query.get("key-marker", "")
    id_marker = query.get("upload-id-marker", "") if key_marker else ""
    limit = call.page_size("max-uploads")
    bucket = await call.bucket()
    uploads: list[Upload] = []
    prefixes: list[str] = []
    truncated, following = False, ("", "")
    if limit:
        covered = rolled(prefix, delimiter, key_marker)
        after = (key_marker, id_marker) if covered is None else (covered, "")
        try:
            uploads, prefixes, truncated, following = await call.store.uploads(bucket, prefix, delimiter, after, limit)
        except NoSuchUpload:
            raise S3Error("InvalidArgument", "Invalid uploadId marker", ArgumentName="upload-id-marker",
                          ArgumentValue=id_marker) from None
    if not truncated:  # S3 names the last one on every page
        following = max([(each.key, each.id) for each in uploads[-1:]] + [(each, "") for each in prefixes[-1:]], default=("", ""))
    return xml_answer(document(
        "ListMultipartUploadsResult", text("Bucket", bucket.name), text("KeyMarker", name(key_marker)),
        text("UploadIdMarker", id_marker), text("NextKeyMarker", name(following[0])),
        text("NextUploadIdMarker", following[1]), text("Prefix", name(prefix) if prefix else None),
        text("Delimiter", name(delimiter) if delimiter else None), text("EncodingType", query.get("encoding-type") or None),
        text("MaxUploads", limit), text("IsTruncated", truncated), *(_upload(call, upload, name) for upload in uploads),
        *_prefixes(prefixes, name),
    ))


def encode_token(last: str) -> str:
    """A continuation token; clients must not look inside."""
    return _TOKEN + urlsafe_b64encode(last.encode()).decode().rstrip("=")


def decode_token(token: str) -> str:
    """The last key or prefix covered; InvalidArgument for what is no token of ours."""
    if not token:
        return ""
    body = token[1:]
    try:
        last = urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
    except ValueError:
        raise bad_token(token) from None
    if encode_token(last) != token:
        raise bad_token(token)
    return last


def bad_token(token: str) -> S3Error:
    return S3Error("InvalidArgument", "The continuation token provided is incorrect", ArgumentName="continuation-token",
                   ArgumentValue=token)


async def _page(call: Call, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
    """A page of no keys is an answer too, and never says that there is more, as in S3."""
    bucket = await call.bucket()
    if limit == 0:
        return Listing([], [], False, None)
    covered = rolled(prefix, delimiter, after)
    return await call.store.list(bucket, prefix, delimiter, after if covered is None else covered, limit)


def rolled(prefix: str, delimiter: str, marker: str) -> str | None:
    """The common prefix that a marker lies in. S3 shows a common prefix only when it is greater than the marker, so this
    one is covered, with all its keys."""
    if not delimiter or not marker.startswith(prefix):
        return None
    at = marker.find(delimiter, len(prefix))
    return None if at < 0 else marker[: at + len(delimiter)]


def _writer(call: Call) -> Writer:
    """How names are written: as they are, or percent-encoded when the client asks, since XML cannot carry every key."""
    encoding = call.query.get("encoding-type")
    if not encoding:
        return str
    if encoding != "url":
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request", ArgumentName="encoding-type",
                      ArgumentValue=encoding)
    return _encoded


def _encoded(name: str) -> str:
    """As S3 writes names in a URL: it writes a space as a plus sign, and leaves slashes and asterisks as they are."""
    return quote_plus(name, safe="/*").replace("~", "%7E")


def _contents(items: Iterable[ObjectInfo], name: Writer, owner: Owner | None) -> list[Fragment]:
    by = owner.element() if owner else Fragment("")
    return [
        node("Contents", text("Key", name(info.key)), text("LastModified", iso_date(info.modified)),
             text("ETag", quoted(info.etag)), *_algorithms(info), text("Size", info.size), by,
             text("StorageClass", storage_class(info)))
        for info in items
    ]


def _version(info: ObjectInfo, latest: bool, name: Writer, owner: Owner) -> Fragment:
    said = [text("Key", name(info.key)), text("VersionId", info.version), text("IsLatest", latest),
            text("LastModified", iso_date(info.modified))]
    if info.record.kind == "marker":
        return node("DeleteMarker", *said, owner.element())
    return node("Version", *said, text("ETag", quoted(info.etag)), *_algorithms(info), text("Size", info.size), owner.element(),
                text("StorageClass", storage_class(info)))


def _algorithms(info: ObjectInfo) -> list[Fragment]:
    record = info.record
    if not record.checksums:
        return []
    return [*(text("ChecksumAlgorithm", algorithm.upper()) for algorithm in record.checksums),
            text("ChecksumType", record.checksum_type or "FULL_OBJECT")]


def _prefixes(prefixes: Iterable[str], name: Writer) -> list[Fragment]:
    return [node("CommonPrefixes", text("Prefix", name(prefix))) for prefix in prefixes]


def _upload(call: Call, upload: Upload, name: Writer) -> Fragment:
    record = upload.record
    return node(
        "Upload", text("Key", name(upload.key)), text("UploadId", upload.id), call.owner.element("Initiator"),
        call.owner.element(), text("StorageClass", record.headers.get(STORAGE_CLASS, "STANDARD")),
        text("Initiated", iso_date(upload.initiated)), *asked_checksum(upload),
    )
