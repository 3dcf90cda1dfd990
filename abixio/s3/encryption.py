"""Server-side encryption of requests: which seal an upload gets, which key a read needs, and what answers say of both."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Mapping
from typing import Final

from abixio.errors import KeyNeeded, WrongKey
from abixio.s3 import customer_keys, envelope
from abixio.s3.bucket_encryption import SETTING, blocks_customer_keys, default_of
from abixio.s3.call import Call
from abixio.s3.errors import S3Error
from abixio.s3.sigv2 import is_version_2
from abixio.store.record import Record
from abixio.store.sealing import revealed
from abixio.store.types import Bucket, ObjectInfo, Seal, Unlock, Upload

SSE: Final = "x-amz-server-side-encryption"
KMS_ID: Final = SSE + "-aws-kms-key-id"
CONTEXT: Final = SSE + "-context"
BUCKET_KEY: Final = SSE + "-bucket-key-enabled"
HEADERS: Final = frozenset({SSE, KMS_ID, CONTEXT, BUCKET_KEY}) | customer_keys.HEADERS
"""All that an operation on one object may come with, if only to be told that it cannot choose."""
COPYING: Final = HEADERS | customer_keys.SOURCE_HEADERS
DSSE: Final = "aws:kms:dsse"
MAX_CONTEXT: Final = 8192
"""As AWS KMS."""
_KEY_NAME: Final = re.compile(r"arn:aws[\w-]*:kms:[\w-]*:\d*:(?:key|alias)/(.+)|alias/(.+)")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PARTS: Final = (
    "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption "
    "parameters."
)

Headers = list[tuple[str, str]]


# ---- uploads ---------------------------------------------------------------------------------------------------------
def seal_for(call: Call, bucket: Bucket) -> Seal | None:
    """What PutObject, CopyObject and CreateMultipartUpload ask for, else the bucket's default; None: nothing is encrypted."""
    if call.headers.keys().isdisjoint(HEADERS):
        return _by_default(call, bucket) if SETTING in bucket.settings else None
    asked = call.headers.get(SSE)
    if call.headers.keys() & customer_keys.HEADERS:
        customer_keys.refuse_with(call.headers)
    customer = customer_keys.read(call.request, call.config.sse_c_over_http)
    if customer is not None:
        _check_blocked(call, bucket)
        return envelope.by_customer(bucket.space, customer)
    if asked is None:
        return _by_default(call, bucket)
    if asked == DSSE:
        raise S3Error("NotImplemented", Header=SSE)
    if asked not in ("AES256", "aws:kms"):
        raise S3Error("InvalidArgument", "The encryption method specified is not supported", ArgumentName=SSE,
                      ArgumentValue=asked)
    if asked == "AES256":
        _check_no_kms(call.headers)
        return _sealed(call, bucket, {envelope.MODE: envelope.S3})
    default = default_of(bucket)
    return _by_kms(call, bucket, call.headers.get(KMS_ID, ""), default is not None and default.bucket_key)


def copy_seal(call: Call, bucket: Bucket, source: Record, seal: Seal | None) -> Seal | None:
    """That of a copy: where nobody said how to encrypt what was encrypted, SSE-S3, which is the least that S3 does."""
    return _sealed(call, bucket, {envelope.MODE: envelope.S3}) if seal is None and source.encryption else seal


def changes(call: Call, source: Record, seal: Seal | None) -> bool:
    """Whether a copy onto itself asks for encryption, or gets another than its source has."""
    mode = None if seal is None else seal.fields[envelope.MODE]
    return bool(call.headers.keys() & HEADERS) or mode != source.encryption.get(envelope.MODE)


def _by_default(call: Call, bucket: Bucket) -> Seal | None:
    default = default_of(bucket)
    if default is None or not default.algorithm:
        _check_no_kms(call.headers)
        return None
    if default.algorithm == "AES256":
        return _sealed(call, bucket, {envelope.MODE: envelope.S3})
    return _by_kms(call, bucket, default.key, default.bucket_key)


def _check_no_kms(headers: Mapping[str, str]) -> None:
    for name in (KMS_ID, CONTEXT):
        if name in headers:
            raise S3Error("InvalidArgument", "Server Side Encryption with AWS KMS managed key requires HTTP header "
                          "x-amz-server-side-encryption : aws:kms", ArgumentName=SSE, ArgumentValue=headers.get(SSE, "null"))


def _by_kms(call: Call, bucket: Bucket, name: str, bucket_key: bool) -> Seal:
    about = {envelope.MODE: envelope.KMS, envelope.NAME: name or _default_key(call)}
    if (wanted := call.headers.get(BUCKET_KEY)) is not None:
        bucket_key = wanted.lower() == "true"
    if bucket_key:
        about[envelope.BUCKET_KEY] = "true"
    if CONTEXT in call.headers:
        about[envelope.CONTEXT] = _context(call.headers[CONTEXT])
    check_signature(call)
    return _sealed(call, bucket, about)


def _default_key(call: Call) -> str:
    """The first that the operator named, else the one that S3 has where nobody names one."""
    return next(iter(call.config.kms_key_ids), "aws/s3")


def _sealed(call: Call, bucket: Bucket, about: Mapping[str, str]) -> Seal:
    return envelope.by_server(bucket.space, about, *newest(call, about.get(envelope.NAME, "")))


def newest(call: Call, name: str) -> tuple[str, bytes]:
    """The key of the key store with that name, which is empty for the master key. KMS.NotFoundException."""
    found = call.keys.newest(key_name(name))
    if found is None and name:
        known = _KEY_NAME.fullmatch(name) or _UUID.fullmatch(name)
        raise S3Error("KMS.NotFoundException", f"Key '{name}' does not exist" if known else f"Invalid keyId '{name}'")
    if found is None:
        raise S3Error("NotImplemented", "This server has no key file.")
    return found


def key_name(id: str) -> str:
    """Of a key of the key store, which clients may give as an alias or as an ARN too."""
    found = _KEY_NAME.fullmatch(id)
    return id if found is None else found[1] or found[2]


def _context(value: str) -> str:
    """The encryption context. InvalidArgument."""
    try:
        pairs = json.loads(b64decode(value, validate=True))
    except (NoBase64, ValueError):
        pairs = None
    if not isinstance(pairs, dict) or not all(isinstance(each, str) for each in pairs.values()) or len(value) > MAX_CONTEXT:
        raise S3Error("InvalidArgument", "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string "
                      "holding JSON which represents a string-string map", ArgumentName=CONTEXT, ArgumentValue=value)
    return value


def check_signature(call: Call) -> None:
    """InvalidArgument for a version that must not ask for keys of the key store."""
    if "authorization" not in call.headers and is_version_2(call.query):
        raise S3Error("InvalidArgument", "Requests specifying Server Side Encryption with AWS KMS managed keys require AWS "
                      "Signature Version 4.", ArgumentName="Authorization", ArgumentValue="null")


def _check_blocked(call: Call, bucket: Bucket) -> None:
    if blocks_customer_keys(bucket):
        raise S3Error("AccessDenied", "This bucket has blocked upload requests that specify Server Side Encryption with Customer "
                      "provided keys (SSE-C). Please specify a different server-side encryption type")


def part_seal(call: Call, bucket: Bucket, upload: Upload) -> Seal | None:
    """The seal of an upload, for a part of it. SSE-C headers have to come with each part, and others cannot."""
    record, given = upload.record, customer_keys.read(call.request, call.config.sse_c_over_http)
    _refuse_wishes(call.headers)
    if (given is not None) != (record.encryption.get(envelope.MODE) == envelope.CUSTOMER):
        raise S3Error("InvalidRequest", _PARTS)
    if not record.encryption:
        return None
    if given is None:
        return envelope.again(record, envelope.open_by_server(call.keys, bucket.space, record.encryption))
    _check_blocked(call, bucket)
    key = envelope.open_by_customer(bucket.space, record.encryption, given)
    if key is None:
        raise S3Error("InvalidRequest", "The provided encryption parameters did not match the ones used originally.")
    return envelope.again(record, key)


# ---- reads -----------------------------------------------------------------------------------------------------------
def unlocks(call: Call, prefix: str = customer_keys.OWN) -> Unlock:
    """Finds the key of what is read, with the customer's key in the headers of that prefix where it needs one."""
    if prefix == customer_keys.OWN:
        _refuse_wishes(call.headers)
    given = customer_keys.read(call.request, call.config.sse_c_over_http, prefix, reading=True)

    def unlock(info: ObjectInfo) -> bytes | None:
        space, fields = info.record.space, info.record.encryption
        mode = fields.get(envelope.MODE)
        if mode != envelope.CUSTOMER and given is not None:
            raise S3Error("InvalidRequest", "The encryption parameters are not applicable to this object.")
        if mode is None:
            return None
        if mode == envelope.CUSTOMER:
            if given is None:
                raise KeyNeeded(info.key)
            key = envelope.open_by_customer(space, fields, given)
            if key is None:
                raise WrongKey(info.key)
            return key
        if mode == envelope.KMS:
            check_signature(call)
        return envelope.open_by_server(call.keys, space, fields)

    return unlock


def opened(call: Call, info: ObjectInfo) -> ObjectInfo:
    """What is known of an object, for a caller who may read it."""
    return revealed(info, unlocks(call)(info))


def _refuse_wishes(headers: Mapping[str, str]) -> None:
    """What cannot be chosen any more."""
    for name in (SSE, KMS_ID, CONTEXT, BUCKET_KEY):
        if name in headers:
            raise S3Error("InvalidArgument", f"{name} header is not supported for this operation.", ArgumentName=name,
                          ArgumentValue=headers[name])


# ---- answers ---------------------------------------------------------------------------------------------------------
def shown(record: Record) -> Headers:
    """What answers say of an object whose key the server has; nothing of any other."""
    fields = record.encryption
    match fields.get(envelope.MODE):
        case envelope.S3:
            return [(SSE, "AES256")]
        case envelope.KMS:
            bucket_key = [(BUCKET_KEY, "true")] if envelope.BUCKET_KEY in fields else []
            return [(SSE, "aws:kms"), (KMS_ID, fields[envelope.NAME]), *bucket_key]
    return []


def shown_to_owner(call: Call, record: Record) -> Headers:
    """The same, and of an object with a customer's key, that it is the one which came with the request."""
    if record.encryption.get(envelope.MODE) != envelope.CUSTOMER:
        return shown(record)
    given = customer_keys.read(call.request, call.config.sse_c_over_http, reading=True)
    assert given is not None
    return customer_keys.shown(given)


def shown_to_writer(call: Call, record: Record) -> Headers:
    """The same, and the encryption context."""
    context = record.encryption.get(envelope.CONTEXT)
    return shown_to_owner(call, record) + ([] if context is None else [(CONTEXT, context)])
