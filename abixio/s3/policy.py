"""The policy of an upload by form: a signed document that says what the form may hold. Every field has to be allowed by it.

It is not an access policy: whoever signed it may do all, and lets others do just this much.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from abixio.config import MAX_OBJECT
from abixio.s3.errors import S3Error

FREE: Final = frozenset({"x-amz-signature", "signature", "awsaccesskeyid", "policy", "file"})
"""Fields that need no condition, as S3."""
IGNORED: Final = "x-ignore-"
MAX_NUMBER: Final = 2**63 - 1
_LISTS: Final = "content-type"
"""The field in whose value a comma separates several, each of which has to begin as the policy says."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on one field."""

    operator: str
    field: str
    value: str

    def holds(self, value: str) -> bool:
        if self.operator == "eq":
            return value == self.value
        pieces = value.split(",") if self.field == _LISTS else [value]
        return all(piece.strip().startswith(self.value) if len(pieces) > 1 else piece.startswith(self.value) for piece in pieces)

    def __str__(self) -> str:
        return json.dumps([self.operator, "$" + self.field, self.value])


@dataclass(frozen=True, slots=True)
class Policy:
    """What was signed."""

    expires: datetime
    conditions: list[Condition] = field(default_factory=list)
    least: int = 0
    most: int = MAX_OBJECT
    """Bytes of the file."""

    def check(self, fields: Mapping[str, str], now: float) -> None:
        """AccessDenied unless all conditions hold and every field has one."""
        if datetime.fromtimestamp(now, UTC) >= self.expires:
            raise _denied("Policy expired.")
        for condition in self.conditions:
            if not condition.holds(fields.get(condition.field, "")):
                raise _denied(f"Policy Condition failed: {condition}")
        named = {condition.field for condition in self.conditions} | FREE
        extra = [name for name in fields if name not in named and not name.startswith(IGNORED)]
        if extra:
            raise _denied(f"Extra input fields: {', '.join(extra)}")

    def check_size(self, size: int, ended: bool) -> None:
        """EntityTooLarge as soon as there is too much, EntityTooSmall at the end."""
        if size > self.most:
            raise S3Error("EntityTooLarge", ProposedSize=size, MaxSizeAllowed=self.most)
        if ended and size < self.least:
            raise S3Error("EntityTooSmall", ProposedSize=size, MinSizeAllowed=self.least)


def parse_policy(encoded: str) -> Policy:
    """InvalidPolicyDocument."""
    try:
        found = json.loads(b64decode("".join(encoded.split()), validate=True).decode())
    except (ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None
    if not isinstance(found, dict):
        raise _invalid("Invalid JSON.")
    for name in ("expiration", "conditions"):
        if name not in found:
            raise _invalid(f"Policy missing {name}.")
    if set(found) - {"expiration", "conditions"}:
        raise _invalid(f"Unexpected: '{min(set(found) - {'expiration', 'conditions'})}'")
    if not isinstance(found["conditions"], list) or not found["conditions"]:
        raise _invalid("Invalid conditions.")
    return _conditions(_expiration(found["expiration"]), found["conditions"])


def _expiration(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _invalid("Invalid 'expiration' value.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _conditions(expires: datetime, entries: list[Any]) -> Policy:
    conditions: list[Condition] = []
    least, most = 0, MAX_OBJECT
    for entry in entries:
        match entry:
            case dict() if len(entry) == 1:
                ((name, value),) = entry.items()
                if not isinstance(value, str):
                    raise _invalid("Invalid Simple-Condition: value must be a string.")
                conditions.append(Condition("eq", name.lower(), value))
            case [str(operator), str(name), str(value)] if operator.lower() in ("eq", "starts-with") and name.startswith("$"):
                conditions.append(Condition(operator.lower(), name[1:].lower(), value))
            case [str(operator), low, high] if operator.lower() == "content-length-range":
                least, most = max(least, _number(low)), min(most, _number(high))
            case _:
                raise _invalid("Invalid condition.")
    return Policy(expires, conditions, least, most)


def _number(value: Any) -> int:
    """A number of bytes, which may be written as a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(MAX_NUMBER)):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise _invalid("Invalid content-length-range.")
    return value


def _invalid(why: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {why}")


def _denied(why: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {why}")
