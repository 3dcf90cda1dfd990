"""Lifecycle rules of a bucket: the documents, and what answers say of when an object or an upload goes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote_plus

from abixio.config import KIB, MIB
from abixio.errors import AbixioError
from abixio.message import Response
from abixio.s3 import transitions
from abixio.s3.call import Call, http_date, iso_date, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.schema import ANY, FLAG, Field, check, has, maybe, one, some, word
from abixio.s3.tagging import MAX_KEY, MAX_VALUE
from abixio.s3.xml import Fragment, Node, document, node, text
from abixio.store.lifecycle_rules import (
    CONFIG,
    DAY,
    SETTING,
    Calendar,
    Filter,
    Form,
    Rule,
    Rules,
    abortion,
    decode,
    encode,
    expiry,
)
from abixio.store.types import Bucket, ObjectInfo

HEADER: Final = "x-amz-transition-default-minimum-object-size"
_MINIMUMS: Final = ("all_storage_classes_128K", "varies_by_storage_class")
"""The first is what counts when nothing is said."""
MAX_RULES: Final = 1000
MAX_ID: Final = 255
MAX_PREFIX: Final = 1024
MAX_NEWER: Final = 100
"""As S3."""
MAX_DOCUMENT: Final = 8 * MIB
"""A thousand rules with prefixes and ten tags each."""

_WHOLE: Final = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
_MAX_DAYS: Final = 2**31 - 1
"""S3 reads days as 32-bit integers."""
_DATE: Final = re.compile(r"\s*\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?\s*")
_TAG: Final = (one("Key", ANY), one("Value", ANY))
_SIZES: Final = (maybe("ObjectSizeGreaterThan", _WHOLE), maybe("ObjectSizeLessThan", _WHOLE))
_FILTER: Final = (
    maybe("Prefix", ANY), maybe("Tag", _TAG), *_SIZES, maybe("And", (maybe("Prefix", ANY), some("Tag", _TAG), *_SIZES)),
)
_CLASS: Final = maybe("StorageClass", ANY)
_TRANSITION: Final = (maybe("Days", _WHOLE), maybe("Date", _DATE), _CLASS)
_RULE: Final = (
    maybe("ID", ANY), maybe("Prefix", ANY), maybe("Filter", _FILTER), one("Status", frozenset({"Enabled", "Disabled"})),
    maybe("Expiration", (maybe("Days", _WHOLE), maybe("Date", _DATE), maybe("ExpiredObjectDeleteMarker", FLAG))),
    maybe("NoncurrentVersionExpiration", (one("NoncurrentDays", _WHOLE), maybe("NewerNoncurrentVersions", _WHOLE))),
    maybe("AbortIncompleteMultipartUpload", (one("DaysAfterInitiation", _WHOLE),)),
    some("Transition", _TRANSITION),
    some("NoncurrentVersionTransition", (maybe("NoncurrentDays", _WHOLE), maybe("NewerNoncurrentVersions", _WHOLE), _CLASS)),
)
_GRAMMAR: Final = (Field("Rule", _RULE, 1, 16 * KIB),)
"""More rules than a bucket may have are another error than none."""

Headers = list[tuple[str, str]]


# ---- operations ------------------------------------------------------------------------------------------------------
async def get_bucket_lifecycle(call: Call) -> Response:
    kept = await call.store.config(await call.bucket(), CONFIG)
    if kept is None:
        raise S3Error("NoSuchLifecycleConfiguration", BucketName=call.bucket_name)
    rules = decode(kept)
    return xml_answer(document("LifecycleConfiguration", *map(_element, rules.rules)), [(HEADER, rules.minimum)])


async def put_bucket_lifecycle(call: Call) -> Response:
    bucket = await call.bucket()
    minimum = call.headers.get(HEADER, _MINIMUMS[0])
    if minimum not in _MINIMUMS:
        raise S3Error("InvalidArgument", f"Invalid value for the {HEADER} header: {minimum}", ArgumentName=HEADER,
                      ArgumentValue=minimum)
    rules = read(await call.document("LifecycleConfiguration", MAX_DOCUMENT))
    if SETTING not in bucket.settings:
        await call.store.change_bucket(bucket.name, _may_have_rules)
    await call.store.set_config(bucket, CONFIG, encode(Rules(rules, minimum)))
    return Response(200, [(HEADER, minimum)])


async def delete_bucket_lifecycle(call: Call) -> Response:
    await call.store.set_config(await call.bucket(), CONFIG, None)
    return Response(204)


def _may_have_rules(settings: Mapping[str, str]) -> Mapping[str, str]:
    return {**settings, SETTING: "rules"}


# ---- what answers say ------------------------------------------------------------------------------------------------
def has_rules(bucket: Bucket) -> bool:
    """Whether it may have some."""
    return SETTING in bucket.settings


async def expiration(call: Call, bucket: Bucket, info: ObjectInfo) -> Headers:
    """x-amz-expiration of a current object that a rule will delete. (Of a version that is asked for by its id, only its place
    among the others would tell.)"""
    if call.version is not None:
        return []
    rules = await _rules(call, bucket)
    found = None if rules is None else expiry(rules, info.record, Calendar(call.config.debug_day))
    if found is None:
        return []
    return [("x-amz-expiration", f'expiry-date="{http_date(found[0])}", rule-id="{quote_plus(found[1])}"')]


async def abort_date(call: Call, bucket: Bucket, initiated: int) -> Headers:
    """x-amz-abort-date and its rule, of an upload that a rule will abort."""
    rules = await _rules(call, bucket)
    found = None if rules is None else abortion(rules, call.key, initiated, Calendar(call.config.debug_day))
    return [] if found is None else [("x-amz-abort-date", http_date(found[0])), ("x-amz-abort-rule-id", quote_plus(found[1]))]


async def _rules(call: Call, bucket: Bucket) -> Rules | None:
    """None also where they cannot be read now: what was asked for is done, and that is what the answer has to say."""
    try:
        kept = await call.store.config(bucket, CONFIG) if has_rules(bucket) else None
        return None if kept is None else decode(kept)
    except AbixioError:
        return None


# ---- reading ---------------------------------------------------------------------------------------------------------
def read(body: Node) -> tuple[Rule, ...]:
    """The rules of a document. MalformedXML, InvalidArgument, InvalidRequest, InvalidTag, NotImplemented."""
    check(body, _GRAMMAR)
    elements = list(body.all("Rule"))
    if len(elements) > MAX_RULES:
        raise S3Error("InvalidRequest", f"The number of lifecycle rules must not exceed the allowed limit of {MAX_RULES} rules.")
    if any(has(each, ("Filter",)) for each in elements) and any(has(each, ("Prefix",)) for each in elements):
        raise S3Error("InvalidRequest", "Base level prefix cannot be used in Lifecycle V2, prefixes are only supported in the "
                      "Filter.")
    rules = tuple(_rule(each) for each in elements)
    if len({rule.id for rule in rules}) < len(rules):
        raise S3Error("InvalidArgument", "RuleId must be unique. Found same ID for more than one rule")
    if any(has(each, transitions.NAMES) for each in elements):
        raise transitions.refuse()
    return rules


def _rule(element: Node) -> Rule:
    id = element.text("ID") or os.urandom(18).hex()
    if len(id) > MAX_ID:
        raise S3Error("InvalidArgument", f"ID length should not exceed allowed limit of {MAX_ID}")
    form, chosen = _filter(element)
    expires, old = element.find("Expiration"), element.find("NoncurrentVersionExpiration")
    abort = element.find("AbortIncompleteMultipartUpload")
    if expires is None and old is None and abort is None and not has(element, transitions.NAMES):
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule.")
    days, date, markers = _expiration(expires, chosen)
    newer = _newer(old, element)
    transitions.check(element)
    if abort is not None and chosen.tags:
        raise S3Error("InvalidRequest", "AbortIncompleteMultipartUpload cannot be specified with Tags.")
    if abort is not None and (chosen.larger is not None or chosen.smaller is not None):
        raise S3Error("InvalidRequest", "AbortIncompleteMultipartUpload cannot be specified with Object Size.")
    return Rule(
        id, word(element, "Status") == "Enabled", chosen, form, days, date, markers,
        _days(old, "NoncurrentDays", "NoncurrentVersionExpiration"), newer,
        _days(abort, "DaysAfterInitiation", "AbortIncompleteMultipartUpload"),
    )


def _expiration(element: Node | None, chosen: Filter) -> tuple[int | None, int | None, bool | None]:
    """Days, date and whether expired delete markers go: exactly one of them."""
    if element is None:
        return None, None, None
    if len(element.children) != 1:
        raise S3Error("MalformedXML")
    marker = word(element, "ExpiredObjectDeleteMarker")
    if marker == "true" and chosen.tags:
        raise S3Error("InvalidRequest", "ExpiredObjectDeleteMarker cannot be specified with Tags.")
    return _days(element, "Days", "Expiration"), _date(word(element, "Date")), marker == "true" if marker else None


def _days(element: Node | None, name: str, action: str) -> int | None:
    value = word(element, name)
    if not value:
        return None
    if int(value) <= 0:
        raise S3Error("InvalidArgument", f"'{name}' for {action} action must be a positive integer")
    if int(value) > _MAX_DAYS:
        raise S3Error("MalformedXML")
    return int(value)


def _date(value: str) -> int | None:
    """A midnight of UTC, in ms since 1970."""
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
        ms = round((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise S3Error("MalformedXML") from error
    if ms % DAY:
        raise S3Error("InvalidArgument", "'Date' must be at midnight GMT")
    return ms


def _newer(element: Node | None, rule: Node) -> int | None:
    value = word(element, "NewerNoncurrentVersions")
    if not value:
        return None
    if not has(rule, ("Filter",)):
        raise S3Error("InvalidRequest", "NewerNoncurrentVersions needs a Filter element in its rule.")
    if not 1 <= int(value) <= MAX_NEWER:
        raise S3Error("InvalidArgument", "'NewerNoncurrentVersions' for NoncurrentVersionExpiration action must be between 1 "
                      f"and {MAX_NEWER}")
    return int(value)


def _filter(rule: Node) -> tuple[Form, Filter]:
    element = rule.find("Filter")
    if element is None:
        prefix = rule.text("Prefix")
        if prefix is None:
            raise S3Error("MalformedXML")
        return "prefix", Filter(_prefix(prefix))
    if len(element.children) > 1:
        raise S3Error("MalformedXML")
    both = element.find("And")
    if both is None:
        return "filter", _criteria(element)
    if len(both.children) < 2:
        raise S3Error("MalformedXML")
    return "and", _criteria(both)


def _criteria(element: Node) -> Filter:
    prefix = element.text("Prefix")
    pairs = [(tag.text("Key") or "", tag.text("Value") or "") for tag in element.all("Tag")]
    if len(dict(pairs)) < len(pairs):
        raise S3Error("InvalidRequest", "Duplicate Tag Keys are not allowed.")
    if any(not 1 <= len(key) <= MAX_KEY or len(value) > MAX_VALUE for key, value in pairs):
        raise S3Error("InvalidTag")
    larger, smaller = word(element, "ObjectSizeGreaterThan"), word(element, "ObjectSizeLessThan")
    if larger and int(larger) < 0:
        raise S3Error("InvalidRequest", "'ObjectSizeGreaterThan' should be a non-negative integer")
    if smaller and int(smaller) <= 0:
        raise S3Error("InvalidRequest", "'ObjectSizeLessThan' should be a positive integer")
    if larger and smaller and int(larger) >= int(smaller):
        raise S3Error("InvalidRequest", "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.")
    return Filter(None if prefix is None else _prefix(prefix), tuple(pairs), int(larger) if larger else None,
                  int(smaller) if smaller else None)


def _prefix(value: str) -> str:
    if len(value.encode()) > MAX_PREFIX:
        raise S3Error("InvalidRequest", f"The maximum size of a prefix is {MAX_PREFIX}.")
    return value


# ---- writing ---------------------------------------------------------------------------------------------------------
def _element(rule: Rule) -> Fragment:
    return node(
        "Rule", *_action("Expiration", text("Days", rule.days), text("Date", None if rule.date is None else iso_date(rule.date)),
                         text("ExpiredObjectDeleteMarker", rule.markers)),
        text("ID", rule.id), _filter_element(rule), text("Status", "Enabled" if rule.enabled else "Disabled"),
        *_action("NoncurrentVersionExpiration", text("NoncurrentDays", rule.noncurrent_days),
                 text("NewerNoncurrentVersions", rule.newer)),
        *_action("AbortIncompleteMultipartUpload", text("DaysAfterInitiation", rule.abort_days)),
    )


def _action(name: str, *children: Fragment) -> Sequence[Fragment]:
    return [node(name, *children)] if any(children) else []


def _filter_element(rule: Rule) -> Fragment:
    found = rule.filter
    criteria = [
        text("Prefix", found.prefix), *(node("Tag", text("Key", key), text("Value", value)) for key, value in found.tags),
        text("ObjectSizeGreaterThan", found.larger), text("ObjectSizeLessThan", found.smaller),
    ]
    if rule.form == "prefix":
        return criteria[0]
    return node("Filter", node("And", *criteria) if rule.form == "and" else Fragment("".join(criteria)))
