"""UpdateObjectEncryption: the key of an encrypted object is wrapped anew, under a key of the key store. Its bytes stay as they
are, and so do its ETag, times and checksums: it is a revision of what is said of the version, as new tags are."""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from abixio.config import KIB
from abixio.message import Response
from abixio.s3 import encryption, envelope, locking
from abixio.s3.call import Call
from abixio.s3.errors import S3Error
from abixio.s3.schema import word
from abixio.s3.versioning import amend, version_headers
from abixio.s3.xml import Node
from abixio.store.record import Record

MAX_DOCUMENT: Final = 16 * KIB
"""It holds the name of a key, which is 2,048 characters at most."""
_ARN: Final = re.compile(r"arn:aws[a-zA-Z0-9-]*:kms:[a-z0-9-]*:[0-9]{12}:key/.{1,2000}")
_OTHER: Final = (
    "Requests that modify an object encryption configuration require a valid new encryption type. Valid values are SSEKMS. "
    "Modify the request to specify SSE-KMS for the updated encryption type, and then try again."
)
_NO_ARN: Final = (
    "Requests that modify an object's encryption type to SSE-KMS require an Amazon Web Services KMS key Amazon Resource Name "
    "(ARN). Modify the request to specify a KMS key ARN, and then try again."
)
_BAD_ARN: Final = (
    "Requests that modify an object's encryption type to SSE-KMS require a valid Amazon Web Services KMS key Amazon Resource "
    "Name (ARN). Confirm that you have a correctly formatted KMS key ARN in your request, and then try again."
)
_BAD_FLAG: Final = (
    "The BucketKeyEnabled value isn't valid. Valid values are true or false. Modify the request to specify a valid value, and "
    "then try again."
)
_PLAIN: Final = (
    "The UpdateObjectEncryption operation doesn't supported unencrypted source objects. Only source objects encrypted with "
    "SSE-S3 or SSE-KMS are supported."
)
_CUSTOMER: Final = (
    "The UpdateObjectEncryption operation doesn't support source objects with the encryption type DSSE-KMS or SSE-C. Only source "
    "objects encrypted with SSE-S3 or SSE-KMS are supported."
)
_LOCKED: Final = (
    "The encryption type for the specified object can't be updated because that object is protected by S3 Object Lock."
)


async def update_object_encryption(call: Call) -> Response:
    bucket = await call.bucket()
    encryption.check_signature(call)
    about = _wanted(await call.document("ObjectEncryption", MAX_DOCUMENT))
    id, secret = encryption.newest(call, about[envelope.NAME])

    def edit(record: Record) -> Record:
        _check(record)
        key = envelope.open_by_server(call.keys, bucket.space, record.encryption)
        return replace(record, encryption=envelope.moved(bucket.space, record.encryption, key, about, id, secret))

    info = await amend(call, bucket, edit)
    return Response(200, version_headers(bucket, info))


def _wanted(body: Node) -> dict[str, str]:
    """Which key the object's own shall be wrapped by. InvalidRequest."""
    chosen = body.find("SSE-KMS")
    if chosen is None or len(body.children) != 1:
        raise S3Error("InvalidRequest", _OTHER)
    name, bucket_key = word(chosen, "KMSKeyArn"), word(chosen, "BucketKeyEnabled") or "false"
    if not _ARN.fullmatch(name):
        raise S3Error("InvalidRequest", _BAD_ARN if name else _NO_ARN)
    if bucket_key not in ("true", "false"):
        raise S3Error("InvalidRequest", _BAD_FLAG)
    about = {envelope.MODE: envelope.KMS, envelope.NAME: name}
    return about | ({envelope.BUCKET_KEY: "true"} if bucket_key == "true" else {})


def _check(record: Record) -> None:
    """Whether the key of that version can be wrapped anew. InvalidRequest, AccessDenied."""
    mode = record.encryption.get(envelope.MODE)
    if mode in (None, envelope.CUSTOMER):
        raise S3Error("InvalidRequest", _PLAIN if mode is None else _CUSTOMER)
    if locking.is_locked(record.lock):
        raise S3Error("AccessDenied", _LOCKED)
