"""The settings of which a bucket may have many, each under an id: metrics, analytics, intelligent tiering and inventories.
Those are kept that deliver nothing to anybody; storage classes change nothing here, so a rule about them promises nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from abixio.config import KIB
from abixio.message import Response
from abixio.s3.call import Call, Handler, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.listing import bad_token, decode_token, encode_token
from abixio.s3.schema import ANY, EMPTY, FLAG, NUMBER, SOME, Field, check, has, inner, maybe, one, some, word
from abixio.s3.xml import Fragment, Node, document, node, text

MAX_DOCUMENT: Final = 64 * KIB
"""A filter of ten tags and an address; far more than any comment around it."""
MOST: Final = 1000
"""Configurations of a kind in one bucket, as S3."""
PAGE: Final = 100
"""Configurations in one answer, as S3."""
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LEAST_DAYS: Final = {"ARCHIVE_ACCESS": 90, "DEEP_ARCHIVE_ACCESS": 180}
_MOST_DAYS: Final = 730
"""As S3."""

_TAG: Final = (one("Key", SOME), one("Value", ANY))
_FILTER: Final = (
    maybe("Prefix", ANY), maybe("Tag", _TAG), maybe("AccessPointArn", ANY),
    maybe("And", (maybe("Prefix", ANY), some("Tag", _TAG), maybe("AccessPointArn", ANY))),
)
_WORDS: Final = re.compile(r"\s*[A-Za-z]{1,64}\s*")
_BUCKET: Final = (
    one("Bucket", SOME), maybe("AccountId", ANY), one("Format", frozenset({"CSV", "ORC", "Parquet"})), maybe("Prefix", ANY),
    maybe("Encryption", (maybe("SSE-S3", EMPTY), maybe("SSE-KMS", (one("KeyId", SOME),)))),
)
_EXPORT: Final = (one("OutputSchemaVersion", frozenset({"V_1"})), one("Destination", (one("S3BucketDestination", (
    one("Format", frozenset({"CSV"})), maybe("BucketAccountId", ANY), one("Bucket", SOME), maybe("Prefix", ANY),
)),)))
_TIERING: Final = (one("Days", NUMBER), one("AccessTier", frozenset(_LEAST_DAYS)))


@dataclass(frozen=True, slots=True)
class Kind:
    """One sub-resource."""

    name: str
    operation: str
    """What stands between the verb and `Configuration` in the operations' names."""
    page: str
    """The root of a list."""
    fields: tuple[Field, ...]
    check: Callable[[Node], None]

    @property
    def root(self) -> str:
        return self.operation.removeprefix("Bucket") + "Configuration"


def _check_filter(body: Node) -> None:
    """One condition, or two and more inside And; NotImplemented for access points, which are not there."""
    found = body.find("Filter")
    if found is None:
        return
    inside = found.find("And")
    if len(found.children) != 1 or (inside is not None and len(inside.children) < 2):
        raise S3Error("MalformedXML")
    if has(found, ("AccessPointArn",)) or (inside is not None and has(inside, ("AccessPointArn",))):
        raise S3Error("NotImplemented", "Access points are not implemented.")


def _analytics(body: Node) -> None:
    _check_filter(body)
    analysis = body.find("StorageClassAnalysis")
    if analysis is not None and analysis.children:
        raise S3Error("NotImplemented", "Exports of analytics are not implemented.")


def _tiering(body: Node) -> None:
    _check_filter(body)
    seen: set[str] = set()
    for tiering in body.all("Tiering"):
        tier, days = word(tiering, "AccessTier"), word(tiering, "Days")
        if tier in seen or not _LEAST_DAYS[tier] <= int(days) <= _MOST_DAYS:
            raise S3Error("InvalidArgument", ArgumentName="Days" if tier not in seen else "AccessTier",
                          ArgumentValue=days if tier not in seen else tier)
        seen.add(tier)


def _inventory(body: Node) -> None:
    """One that is switched off delivers nothing."""
    if word(body, "IsEnabled") == "true":
        raise S3Error("NotImplemented", "Inventories are not implemented.")


_NAME: Final = one("Id", ANY)
KINDS: Final = (
    Kind("metrics", "BucketMetrics", "ListMetricsConfigurationsResult", (_NAME, maybe("Filter", _FILTER)), _check_filter),
    Kind("analytics", "BucketAnalytics", "ListBucketAnalyticsConfigurationResult",
         (_NAME, maybe("Filter", _FILTER), one("StorageClassAnalysis", (maybe("DataExport", _EXPORT),))), _analytics),
    Kind("intelligent-tiering", "BucketIntelligentTiering", "ListBucketIntelligentTieringConfigurationsOutput",
         (_NAME, maybe("Filter", _FILTER), one("Status", frozenset({"Enabled", "Disabled"})), some("Tiering", _TIERING, 1)),
         _tiering),
    Kind("inventory", "BucketInventory", "ListInventoryConfigurationsResult", (
        _NAME, one("Destination", (one("S3BucketDestination", _BUCKET),)), one("IsEnabled", FLAG),
        maybe("Filter", (one("Prefix", ANY),)), one("IncludedObjectVersions", frozenset({"All", "Current"})),
        maybe("OptionalFields", (some("Field", _WORDS),)), one("Schedule", (one("Frequency", frozenset({"Daily", "Weekly"})),)),
    ), _inventory),
)


# ---- one way for all of them -----------------------------------------------------------------------------------------
def _prefix(kind: Kind) -> str:
    return kind.name + "/"


def _asked(call: Call) -> str:
    """The id in the query."""
    id = call.query.get("id", "")
    if not _ID.fullmatch(id):
        raise S3Error("InvalidArgument", "The specified configuration id is invalid.", ArgumentName="id", ArgumentValue=id)
    return id


def _getter(kind: Kind) -> Handler:
    async def get(call: Call) -> Response:
        kept = await call.store.config(await call.bucket(), _prefix(kind) + _asked(call))
        if kept is None:
            raise S3Error("NoSuchConfiguration", BucketName=call.bucket_name)
        return xml_answer(document(kind.root, Fragment(kept)))

    return get


def _putter(kind: Kind) -> Handler:
    async def put(call: Call) -> Response:
        bucket, id = await call.bucket(), _asked(call)
        body = await call.document(kind.root, MAX_DOCUMENT)
        check(body, kind.fields)
        if body.text("Id") != id:
            raise S3Error("InvalidArgument", "The id of the document is not that of the request.", ArgumentName="id",
                          ArgumentValue=body.text("Id"))
        kind.check(body)
        there = await call.store.configs(bucket, _prefix(kind))
        if len(there) >= MOST and _prefix(kind) + id not in there:
            raise S3Error("TooManyConfigurations")
        await call.store.set_config(bucket, _prefix(kind) + id, inner(body))
        return Response(200)

    return put


def _deleter(kind: Kind) -> Handler:
    async def delete(call: Call) -> Response:
        bucket, name = await call.bucket(), _prefix(kind) + _asked(call)
        if await call.store.config(bucket, name) is None:
            raise S3Error("NoSuchConfiguration", BucketName=bucket.name)
        await call.store.set_config(bucket, name, None)
        return Response(204)

    return delete


def _lister(kind: Kind) -> Handler:
    async def page(call: Call) -> Response:
        bucket, token = await call.bucket(), call.query.get("continuation-token")
        if token == "":
            raise bad_token(token)
        after = _prefix(kind) + decode_token(token or "")
        kept = await call.store.configs(bucket, _prefix(kind))
        behind = [name for name in sorted(kept) if name > after]
        shown, more = behind[:PAGE], len(behind) > PAGE
        following = encode_token(shown[-1].removeprefix(_prefix(kind))) if more else None
        return xml_answer(document(
            kind.page, text("IsTruncated", more), text("ContinuationToken", token), text("NextContinuationToken", following),
            *(node(kind.root, Fragment(kept[name])) for name in shown),
        ))

    return page


HANDLERS: Final[Mapping[str, Handler]] = {
    **{f"Get{kind.operation}Configuration": _getter(kind) for kind in KINDS},
    **{f"Put{kind.operation}Configuration": _putter(kind) for kind in KINDS},
    **{f"Delete{kind.operation}Configuration": _deleter(kind) for kind in KINDS},
    **{f"List{kind.operation}Configurations": _lister(kind) for kind in KINDS},
}
