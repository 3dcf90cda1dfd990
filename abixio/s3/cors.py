"""CORS: which pages of other origins a browser lets read answers of a bucket, and send requests to it.

Rules are documents of the bucket, looked up only for requests that name an origin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from abixio.config import KIB
from abixio.errors import AbixioError
from abixio.message import Request, Response
from abixio.s3.call import MAX_INT, Call, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.names import Target
from abixio.s3.schema import ANY, Field, check, maybe, some
from abixio.s3.xml import Fragment, Node, document, node, text
from abixio.store.api import StoreAPI

CONFIG: Final = "cors"
MAX_DOCUMENT: Final = 64 * KIB
"""S3's limit for the document."""
MAX_RULES: Final = 100
MAX_ID: Final = 255
"""Characters, as S3."""
METHODS: Final = ("GET", "PUT", "HEAD", "POST", "DELETE")
_RULE: Final = (
    maybe("ID", ANY), some("AllowedOrigin", ANY, 1), some("AllowedMethod", ANY, 1), some("AllowedHeader", ANY),
    some("ExposeHeader", ANY), maybe("MaxAgeSeconds", ANY),
)
_GRAMMAR: Final = (Field("CORSRule", _RULE, 1, KIB),)
"""More rules than a bucket may have are another error than none. More of them do not fit into a document."""
_VARY: Final = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
_REFUSED: Final = (
    "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / "
    "Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec."
)

Headers = list[tuple[str, str]]


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One CORSRule."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age: int | None = None
    id: str = ""

    def allows(self, origin: str, method: str, headers: Sequence[str]) -> bool:
        """Whether a page of that origin may send that method with those headers."""
        return (
            method in self.methods
            and any(_like(pattern, origin) for pattern in self.origins)
            and all(any(_like(pattern.lower(), name) for pattern in self.headers) for name in headers)
        )


@lru_cache(maxsize=1024)
def _pattern(value: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(piece) for piece in value.split("*")))


def _like(pattern: str, value: str) -> bool:
    return pattern == value if "*" not in pattern else _pattern(pattern).fullmatch(value) is not None


# ---- the bucket's configuration --------------------------------------------------------------------------------------
async def get_bucket_cors(call: Call) -> Response:
    kept = await call.store.config(await call.bucket(), CONFIG)
    if kept is None:
        raise S3Error("NoSuchCORSConfiguration", BucketName=call.bucket_name)
    return xml_answer(document("CORSConfiguration", *(_element(rule) for rule in _decode(kept))))


async def put_bucket_cors(call: Call) -> Response:
    bucket = await call.bucket()
    body = await call.document("CORSConfiguration", MAX_DOCUMENT)
    check(body, _GRAMMAR)
    rules = [_rule(each) for each in body.children]
    if len(rules) > MAX_RULES:
        raise S3Error("InvalidRequest", f"The number of CORS rules should not exceed allowed limit of {MAX_RULES} rules.")
    await call.store.set_config(bucket, CONFIG, msgspec.json.encode(rules).decode())
    return Response(200)


async def delete_bucket_cors(call: Call) -> Response:
    await call.store.set_config(await call.bucket(), CONFIG, None)
    return Response(204)


def _rule(element: Node) -> Rule:
    found = {name: tuple((each.value or "").strip() for each in element.all(name))
             for name in ("AllowedOrigin", "AllowedMethod", "AllowedHeader", "ExposeHeader")}
    for method in found["AllowedMethod"]:
        if method not in METHODS:
            raise S3Error("InvalidRequest", f"Found unsupported HTTP method in CORS config. Unsupported method is {method}")
    for name in ("AllowedOrigin", "AllowedHeader"):
        for value in found[name]:
            if value.count("*") > 1:
                raise S3Error("InvalidRequest", f'{name} "{value}" can not have more than one wildcard.')
    for value in found["ExposeHeader"]:
        if "*" in value:
            raise S3Error("InvalidRequest", f'ExposeHeader "{value}" contains wildcard. We currently do not support wildcard '
                          "for ExposeHeader.")
    age = (element.text("MaxAgeSeconds") or "").strip()
    if age and not (age.isascii() and age.isdigit() and len(age) <= 10 and int(age) <= MAX_INT):
        raise S3Error("MalformedXML")
    id = (element.text("ID") or "").strip()
    if len(id) > MAX_ID:
        raise S3Error("InvalidRequest", f"ID length should not exceed {MAX_ID} characters.")
    return Rule(found["AllowedOrigin"], found["AllowedMethod"], found["AllowedHeader"], found["ExposeHeader"],
                int(age) if age else None, id)


def _element(rule: Rule) -> Fragment:
    return node(
        "CORSRule", text("ID", rule.id or None), *(text("AllowedMethod", each) for each in rule.methods),
        *(text("AllowedOrigin", each) for each in rule.origins), *(text("AllowedHeader", each) for each in rule.headers),
        text("MaxAgeSeconds", rule.max_age), *(text("ExposeHeader", each) for each in rule.expose),
    )


@lru_cache(maxsize=64)
def _decode(kept: str) -> list[Rule]:
    return msgspec.json.decode(kept, type=list[Rule])


# ---- requests --------------------------------------------------------------------------------------------------------
async def preflight(store: StoreAPI, request: Request, target: Target) -> Response:
    """OPTIONS: what a browser asks before it lets a page of another origin send a request. It is never signed, and says
    nothing but what the rules of the bucket say. AccessForbidden, or BadRequest for what is no question of a browser."""
    origin, method = request.headers.get("origin"), request.headers.get("access-control-request-method")
    if not origin:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    if method not in METHODS:
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    kind = "OBJECT" if target.key else "BUCKET"
    rules = await _rules(store, target.bucket)
    if not rules:
        raise S3Error("AccessForbidden", Method=method, ResourceType=kind)
    asked = request.headers.get("access-control-request-headers", "")
    wanted = [name.strip().lower() for name in asked.split(",") if name.strip()]
    rule = next((each for each in rules if each.allows(origin, method, wanted)), None)
    if rule is None:
        raise S3Error("AccessForbidden", _REFUSED, Method=method, ResourceType=kind)
    headers = _allow(rule, origin)
    if wanted:
        headers.append(("Access-Control-Allow-Headers", ", ".join(wanted)))
    if rule.max_age is not None:
        headers.append(("Access-Control-Max-Age", str(rule.max_age)))
    return Response(200, headers)


async def answer_headers(store: StoreAPI, request: Request, bucket: str) -> Headers:
    """What a real answer to a page of another origin says; nothing when no rule allows it. Who names a method as if asking first,
    which no browser does, gets the answer for that one, as from S3."""
    origin = request.headers.get("origin")
    if not origin or not bucket:
        return []
    method = request.headers.get("access-control-request-method", request.method)
    rule = next((each for each in await _rules(store, bucket) if each.allows(origin, method, ())), None)
    return [] if rule is None else _allow(rule, origin)


def _allow(rule: Rule, origin: str) -> Headers:
    headers = [("Access-Control-Allow-Origin", "*" if "*" in rule.origins else origin),
               ("Access-Control-Allow-Methods", ", ".join(rule.methods))]
    if "*" not in rule.origins:
        headers.append(("Access-Control-Allow-Credentials", "true"))
    if rule.expose:
        headers.append(("Access-Control-Expose-Headers", ", ".join(rule.expose)))
    headers.append(("Vary", _VARY))
    return headers


async def _rules(store: StoreAPI, bucket: str) -> list[Rule]:
    """Of a bucket; none where they cannot be read now: then no origin may do anything."""
    try:
        kept = await store.config(await store.bucket(bucket), CONFIG) if bucket else None
    except AbixioError:
        return []
    return [] if kept is None else _decode(kept)
