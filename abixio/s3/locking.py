"""Object Lock: the bucket's configuration, retention and legal hold of versions, and the headers of uploads that set them.

What a lock forbids is enforced by the store, on every way to delete; here is who may change a lock, and how it is spelt.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from abixio.config import KIB
from abixio.errors import ObjectLocked
from abixio.message import Response
from abixio.s3.call import Call, demand_digest, iso_date, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.schema import ANY, check, maybe, one, word
from abixio.s3.versioning import LOCKABLE, SETTING, amend, standing
from abixio.s3.xml import Fragment, Node, document, node, text
from abixio.store.record import Record
from abixio.store.types import Bucket

MODE: Final = "x-amz-object-lock-mode"
UNTIL: Final = "x-amz-object-lock-retain-until-date"
HOLD: Final = "x-amz-object-lock-legal-hold"
HEADERS: Final = frozenset({MODE, UNTIL, HOLD})
BYPASS: Final = "x-amz-bypass-governance-retention"
ENABLE: Final = "x-amz-bucket-object-lock-enabled"
MAX_DOCUMENT: Final = 16 * KIB
"""It holds some words and a date."""
MAX_DAYS: Final = 36_500
MAX_YEARS: Final = 100
"""As S3."""
_MODES: Final = frozenset({"GOVERNANCE", "COMPLIANCE"})
_HOLDS: Final = frozenset({"ON", "OFF"})
_CONFIGURATION: Final = (maybe("ObjectLockEnabled", ANY), maybe("Rule", (
    one("DefaultRetention", (maybe("Mode", ANY), maybe("Days", ANY), maybe("Years", ANY))),
)))
_RETENTION: Final = (maybe("Mode", ANY), maybe("RetainUntilDate", ANY))
_HOLD: Final = (one("Status", _HOLDS),)
_MISSING: Final = "Bucket is missing Object Lock Configuration"
_DAY: Final = 86_400_000
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2})?")

Lock = dict[str, str]
"""`mode` and `until` (ms since 1970), `hold`, as the record keeps them."""


# ---- buckets ---------------------------------------------------------------------------------------------------------
async def get_object_lock_configuration(call: Call) -> Response:
    bucket = await call.bucket()
    kept = bucket.settings.get(LOCKABLE)
    if kept is None:
        raise S3Error("ObjectLockConfigurationNotFoundError", BucketName=bucket.name)
    rule = Fragment("")
    if kept:
        mode, unit, number = kept.split()
        rule = node("Rule", node("DefaultRetention", text("Mode", mode), text(unit, number)))
    return xml_answer(document("ObjectLockConfiguration", text("ObjectLockEnabled", "Enabled"), rule))


async def put_object_lock_configuration(call: Call) -> Response:
    bucket = await call.bucket()
    demand_digest(call)
    kept = _default(await call.document("ObjectLockConfiguration", MAX_DOCUMENT))

    def edit(settings: Mapping[str, str]) -> Mapping[str, str]:
        if settings.get(SETTING) != "Enabled":
            raise S3Error("InvalidBucketState", "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
        return {**settings, LOCKABLE: kept}

    await call.store.change_bucket(bucket.name, edit)
    return Response(200)


def _default(body: Node) -> str:
    """The bucket setting: empty, or `mode unit number`."""
    check(body, _CONFIGURATION)
    if (body.text("ObjectLockEnabled") or "").strip() != "Enabled":
        raise S3Error("MalformedXML")
    rule = body.find("Rule")
    if rule is None:
        return ""
    found = rule.find("DefaultRetention")
    if found is None:
        raise S3Error("MalformedXML")
    mode, days, years = ((found.text(name) or "").strip() for name in ("Mode", "Days", "Years"))
    if mode not in _MODES or bool(days) == bool(years):
        raise S3Error("MalformedXML")
    unit, number, most = ("Days", days, MAX_DAYS) if days else ("Years", years, MAX_YEARS)
    if not number.lstrip("+-").isdecimal() or not number.isascii() or len(number) > 18:
        raise S3Error("MalformedXML")
    if int(number) <= 0:
        raise S3Error("InvalidArgument", "Default retention period must be a positive integer value.", ArgumentName=unit,
                      ArgumentValue=number)
    if int(number) > most:
        raise S3Error("InvalidArgument", "Default retention period is too large.", ArgumentName=unit, ArgumentValue=number)
    return f"{mode} {unit} {int(number)}"


# ---- versions --------------------------------------------------------------------------------------------------------
async def get_object_retention(call: Call) -> Response:
    lock = await _lock(call)
    if "mode" not in lock:
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml_answer(document("Retention", text("Mode", lock["mode"]), text("RetainUntilDate", iso_date(int(lock["until"])))))


async def get_object_legal_hold(call: Call) -> Response:
    lock = await _lock(call)
    if "hold" not in lock:
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml_answer(document("LegalHold", text("Status", lock["hold"])))


async def put_object_retention(call: Call) -> Response:
    bucket = _lockable(await call.bucket())
    body = await _document(call, "Retention")
    check(body, _RETENTION)
    mode, until = (body.text("Mode") or "").strip(), (body.text("RetainUntilDate") or "").strip()
    if bool(mode) != bool(until) or (mode and mode not in _MODES):
        raise S3Error("MalformedXML")
    new = {"mode": mode, "until": str(_future(until, in_document=True))} if mode else {}
    bypass = bypasses(call)

    def edit(record: Record) -> Record:
        _check_change(record.lock, new, bypass)
        return replace(record, lock={name: value for name, value in record.lock.items() if name == "hold"} | new)

    await amend(call, bucket, edit)
    return Response(200)


async def put_object_legal_hold(call: Call) -> Response:
    bucket = _lockable(await call.bucket())
    body = await _document(call, "LegalHold")
    check(body, _HOLD)
    status = word(body, "Status")
    await amend(call, bucket, lambda record: replace(record, lock={**record.lock, "hold": status}))
    return Response(200)


async def _document(call: Call, root: str) -> Node:
    """That of a lock, which S3 calls malformed where it is missing."""
    demand_digest(call)
    if call.request.body.length == 0:
        raise S3Error("MalformedXML")
    return await call.document(root, MAX_DOCUMENT)


def _check_change(old: Lock, new: Lock, bypass: bool) -> None:
    """Retention that runs may be made longer by anybody, and nothing else: governance by who may bypass it, compliance never."""
    if "mode" not in old or int(old["until"]) <= _now():
        return
    longer = bool(new) and int(new["until"]) >= int(old["until"]) and new["mode"] == old["mode"]
    stricter = bool(new) and int(new["until"]) >= int(old["until"]) and new["mode"] == "COMPLIANCE" and bypass
    if not (longer or stricter or (bypass and old["mode"] == "GOVERNANCE")):
        raise ObjectLocked("retention can only be made longer")


async def _lock(call: Call) -> Lock:
    bucket = _lockable(await call.bucket())
    return (await standing(call, bucket)).record.lock


def _lockable(bucket: Bucket) -> Bucket:
    if LOCKABLE not in bucket.settings:
        raise S3Error("InvalidRequest", _MISSING)
    return bucket


# ---- headers ---------------------------------------------------------------------------------------------------------
def from_headers(headers: Mapping[str, str], bucket: Bucket) -> Lock:
    """The lock of a new version: what the upload asks for, else the bucket's default."""
    if headers.keys().isdisjoint(HEADERS):
        return _by_default(bucket) if LOCKABLE in bucket.settings else {}
    mode, until, hold = (headers.get(name, "") for name in (MODE, UNTIL, HOLD))
    if not (mode or until or hold):
        return _by_default(bucket)
    if LOCKABLE not in bucket.settings:
        raise S3Error("InvalidRequest", "Bucket is missing ObjectLockConfiguration")
    if bool(mode) != bool(until):
        raise S3Error("InvalidArgument", f"{UNTIL} and {MODE} must both be supplied", ArgumentName=UNTIL if mode else MODE)
    if mode and mode not in _MODES:
        raise S3Error("InvalidArgument", "Unknown wormMode directive.", ArgumentName=MODE, ArgumentValue=mode)
    if hold and hold not in _HOLDS:
        raise S3Error("InvalidArgument", "Legal Hold must be either of 'ON' or 'OFF'", ArgumentName=HOLD, ArgumentValue=hold)
    lock = {"mode": mode, "until": str(_future(until))} if mode else _by_default(bucket)
    return lock | ({"hold": hold} if hold else {})


def _by_default(bucket: Bucket) -> Lock:
    kept = bucket.settings.get(LOCKABLE)
    if not kept:
        return {}
    mode, unit, number = kept.split()
    days = int(number) * (1 if unit == "Days" else 365)
    return {"mode": mode, "until": str(_now() + days * _DAY)}


def lock_headers(record: Record) -> list[tuple[str, str]]:
    """What GET and HEAD show of a lock."""
    lock = record.lock
    found = [(MODE, lock["mode"]), (UNTIL, iso_date(int(lock["until"])))] if "mode" in lock else []
    return found + ([(HOLD, lock["hold"])] if "hold" in lock else [])


def bypasses(call: Call, bucket: Bucket | None = None) -> bool:
    """Whether the caller sets governance retention aside. The root credential may. InvalidArgument for a delete from a bucket
    that has no locks."""
    asked = call.headers.get(BYPASS, "").lower() == "true"
    if asked and bucket is not None and LOCKABLE not in bucket.settings:
        raise S3Error("InvalidArgument", f"{BYPASS} is only applicable to Object Lock enabled buckets.", ArgumentName=BYPASS)
    return asked


def is_locked(lock: Mapping[str, str]) -> bool:
    """Whether retention runs, or a legal hold is on."""
    return lock.get("hold") == "ON" or int(lock.get("until", "0")) > _now()


def check_digest(lock: Mapping[str, str], has_one: bool) -> None:
    """InvalidRequest for an upload that will be locked and could have been damaged on its way, since nobody could replace it."""
    if lock and not has_one:
        raise S3Error("InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with "
                      "Object Lock parameters")


def _future(value: str, in_document: bool = False) -> int:
    """A date of ISO 8601, ms since 1970. In a document anything else is not of its schema."""
    try:
        if not _DATE.fullmatch(value):
            raise ValueError(value)
        date = datetime.fromisoformat(value)
    except ValueError:
        if in_document:
            raise S3Error("MalformedXML") from None
        raise S3Error("InvalidArgument", "The retain until date must be provided in ISO 8601 format", ArgumentName=UNTIL,
                      ArgumentValue=value) from None
    ms = int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * 1000)
    if ms <= _now():
        raise S3Error("InvalidArgument", "The retain until date must be in the future!", ArgumentName=UNTIL, ArgumentValue=value)
    return ms


def _now() -> int:
    return time.time_ns() // 1_000_000
