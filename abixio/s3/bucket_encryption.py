"""The default encryption of a bucket, and whether it takes objects under keys of customers: a setting of the bucket, since every
upload asks for it. Nothing is encrypted by default here, so a bucket that nobody set has none to show."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec
from msgspec.structs import replace

from abixio.config import KIB
from abixio.message import Response
from abixio.s3.call import Call, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.schema import FLAG, SOME, check, maybe, one, some, word
from abixio.s3.xml import Fragment, document, node, text
from abixio.store.types import Bucket

SETTING: Final = "encryption"
MAX_DOCUMENT: Final = 16 * KIB
"""It holds some words and the name of a key, which is 2,048 characters at most."""
MAX_KEY_ID: Final = 2048
"""Characters, as AWS KMS."""
_ALGORITHMS: Final = frozenset({"AES256", "aws:kms", "aws:kms:dsse"})
_FIELDS: Final = (some("Rule", (
    maybe("ApplyServerSideEncryptionByDefault", (one("SSEAlgorithm", _ALGORITHMS), maybe("KMSMasterKeyID", SOME))),
    maybe("BucketKeyEnabled", FLAG),
    maybe("BlockedEncryptionTypes", (some("EncryptionType", frozenset({"NONE", "SSE-C"}), 1),)),
), 1),)
_RULE: Final = "ApplyServerSideEncryptionByDefault"


class Default(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one rule."""

    algorithm: str = ""
    """AES256 or aws:kms; empty: the rule only blocks."""
    key: str = ""
    bucket_key: bool = False
    blocked: str = ""
    """NONE or SSE-C, if the rule says so."""


@lru_cache(maxsize=64)
def _decode(kept: str) -> Default:
    return msgspec.json.decode(kept, type=Default)


def default_of(bucket: Bucket) -> Default | None:
    """None where nobody set one."""
    kept = bucket.settings.get(SETTING)
    return None if kept is None else _decode(kept)


def blocks_customer_keys(bucket: Bucket) -> bool:
    """Whether uploads with keys of customers are refused."""
    default = default_of(bucket)
    return default is not None and default.blocked == "SSE-C"


async def get_bucket_encryption(call: Call) -> Response:
    default = default_of(await call.bucket())
    if default is None:
        raise S3Error("ServerSideEncryptionConfigurationNotFoundError", BucketName=call.bucket_name)
    nothing = Fragment("")
    rule = node(
        "Rule",
        node(_RULE, text("SSEAlgorithm", default.algorithm), text("KMSMasterKeyID", default.key or None))
        if default.algorithm else nothing,
        text("BucketKeyEnabled", default.bucket_key),
        node("BlockedEncryptionTypes", text("EncryptionType", default.blocked)) if default.blocked else nothing,
    )
    return xml_answer(document("ServerSideEncryptionConfiguration", rule))


async def put_bucket_encryption(call: Call) -> Response:
    bucket = await call.bucket()
    body = await call.document("ServerSideEncryptionConfiguration", MAX_DOCUMENT)
    check(body, _FIELDS)
    if len(body.children) > 1:
        raise S3Error("MalformedXML")
    (rule,) = body.children
    chosen, blocked = rule.find(_RULE), rule.find("BlockedEncryptionTypes")
    types = [] if blocked is None else [(each.value or "").strip() for each in blocked.children]
    if (chosen is None and not types) or len(types) > 1:
        raise S3Error("MalformedXML")
    algorithm, key = word(chosen, "SSEAlgorithm"), word(chosen, "KMSMasterKeyID")
    if algorithm == "aws:kms:dsse":
        raise S3Error("NotImplemented", f"{algorithm} is not implemented.")
    if key and algorithm != "aws:kms":
        raise S3Error("InvalidArgument", "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or "
                      "aws:kms:dsse", ArgumentName=_RULE)
    if len(key) > MAX_KEY_ID:
        raise S3Error("MalformedXML")
    default = Default(algorithm, key, word(rule, "BucketKeyEnabled") == "true", types[0] if types else "")
    await call.store.change_bucket(bucket.name, lambda settings: {**settings, SETTING: _merged(settings.get(SETTING), default)})
    return Response(200)


def _merged(kept: str | None, new: Default) -> str:
    """The new rule; what the old one said of customers' keys holds on where the new one says nothing of them."""
    if kept is not None and not new.blocked:
        new = replace(new, blocked=_decode(kept).blocked)
    return msgspec.json.encode(new).decode()


async def delete_bucket_encryption(call: Call) -> Response:
    bucket = await call.bucket()
    if SETTING in bucket.settings:
        await call.store.change_bucket(
            bucket.name, lambda settings: {name: value for name, value in settings.items() if name != SETTING}
        )
    return Response(204)
