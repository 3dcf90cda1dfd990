"""The settings of which a bucket has one each: kept and shown where that promises nothing that is not there, else refused.

One table, one way to put, get and delete. A document is kept with the bucket as the markup of its root's content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from abixio.config import KIB
from abixio.message import Response
from abixio.s3 import website
from abixio.s3.call import Call, Handler, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.schema import FLAG, Field, check, inner, maybe, one, word
from abixio.s3.xml import Fragment, Node, document, text
from abixio.store.types import Bucket

MAX_DOCUMENT: Final = 128 * KIB
"""S3's limit for a website configuration, which is the longest of them."""


_NOTHING: Final = Fragment("")


def _fine(body: Node) -> None:
    """There is nothing more to check."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One sub-resource."""

    name: str
    """Under which its document is kept."""
    operation: str
    """What the operations' names end in."""
    root: str
    fields: tuple[Field, ...]
    unset: Fragment = _NOTHING
    """The document's content where nobody set it."""
    missing: str = ""
    """Or the code of the error that says so. With both, this is what is said where it was taken away."""
    check: Callable[[Node], None] = _fine
    write: Callable[[Node], str] = inner
    deletes: str = ""
    """The operation that takes it away, if there is one."""


# ---- what each of them promises --------------------------------------------------------------------------------------
def _accelerate(body: Node) -> None:
    """That nothing is faster is no promise."""
    if word(body, "Status") == "Enabled":
        raise S3Error("NotImplemented", "Transfer acceleration is not implemented.")


def _payment(body: Node) -> None:
    if word(body, "Payer") == "Requester":
        raise S3Error("NotImplemented", "Nobody is billed here.")


def _attributes(body: Node) -> None:
    if word(body, "Status") == "Enabled":
        raise S3Error("NotImplemented", "Access control by tags is not implemented.")


BLOCK: Final = "publicAccessBlock"
_BLOCKS: Final = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_ALL_BLOCKS: Final = Fragment("".join(text(name, True) for name in _BLOCKS))


def _blocks(body: Node) -> str:
    """All four of them, as S3 shows them."""
    return "".join(text(name, word(body, name) or "false") for name in _BLOCKS)


async def public_access(call: Call, bucket: Bucket) -> Mapping[str, bool]:
    """Which access of the public is blocked, by the names of the four."""
    kept = await call.store.config(bucket, BLOCK)
    shown = _ALL_BLOCKS if kept is None else kept
    return {name: text(name, True) in shown for name in _BLOCKS}


SETTINGS: Final = (
    Setting("website", "BucketWebsite", "WebsiteConfiguration", website.FIELDS, missing="NoSuchWebsiteConfiguration",
            check=website.check, deletes="DeleteBucketWebsite"),
    # Nothing is public here, whatever it says. New buckets of S3 have all four.
    Setting(BLOCK, "PublicAccessBlock", "PublicAccessBlockConfiguration", tuple(maybe(name, FLAG) for name in _BLOCKS),
            _ALL_BLOCKS, "NoSuchPublicAccessBlockConfiguration", write=_blocks, deletes="DeletePublicAccessBlock"),
    Setting("accelerate", "BucketAccelerateConfiguration", "AccelerateConfiguration",
            (one("Status", frozenset({"Enabled", "Suspended"})),), check=_accelerate),
    Setting("requestPayment", "BucketRequestPayment", "RequestPaymentConfiguration",
            (one("Payer", frozenset({"BucketOwner", "Requester"})),), text("Payer", "BucketOwner"), check=_payment),
    Setting("abac", "BucketAbac", "AbacStatus", (one("Status", frozenset({"Enabled", "Disabled"})),),
            text("Status", "Disabled"), check=_attributes),
)


# ---- one way for all of them -----------------------------------------------------------------------------------------
def _getter(setting: Setting) -> Handler:
    async def get(call: Call) -> Response:
        kept = await call.store.config(await call.bucket(), setting.name)
        if not kept and setting.missing and (kept is not None or not setting.unset):
            raise S3Error(setting.missing, BucketName=call.bucket_name)
        return xml_answer(document(setting.root, setting.unset if kept is None else Fragment(kept)))

    return get


def _putter(setting: Setting) -> Handler:
    async def put(call: Call) -> Response:
        bucket = await call.bucket()
        body = await call.document(setting.root, MAX_DOCUMENT)
        check(body, setting.fields)
        setting.check(body)
        await call.store.set_config(bucket, setting.name, setting.write(body))
        return Response(200)

    return put


def _deleter(setting: Setting) -> Handler:
    async def delete(call: Call) -> Response:
        await call.store.set_config(await call.bucket(), setting.name, "" if setting.unset else None)
        return Response(204)

    return delete


def _never(root: str, *targets: str) -> Handler:
    """Puts what may only say that nothing is wanted: to send something somewhere is refused, and so there is nothing to keep."""
    async def put(call: Call) -> Response:
        await call.bucket()
        body = await call.document(root, MAX_DOCUMENT)
        if body.value.strip() or any(child.name not in targets for child in body.children):
            raise S3Error("MalformedXML")
        if body.children:
            raise S3Error("NotImplemented", f"{body.children[0].name} is not implemented.")
        return Response(200)

    return put


HANDLERS: Final[Mapping[str, Handler]] = {
    **{"Get" + setting.operation: _getter(setting) for setting in SETTINGS},
    **{"Put" + setting.operation: _putter(setting) for setting in SETTINGS},
    **{setting.deletes: _deleter(setting) for setting in SETTINGS if setting.deletes},
    "PutBucketLogging": _never("BucketLoggingStatus", "LoggingEnabled"),
    "PutBucketNotificationConfiguration": _never(
        "NotificationConfiguration", "TopicConfiguration", "QueueConfiguration", "CloudFunctionConfiguration",
        "EventBridgeConfiguration",
    ),
}
