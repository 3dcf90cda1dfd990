"""Transitions in lifecycle rules. There is one storage class, so none of them can be made: a document with one is refused as what
is not there, unless S3 would refuse it too, which is told first."""

from __future__ import annotations

from typing import Final

from abixio.s3.errors import S3Error
from abixio.s3.schema import has, word
from abixio.s3.xml import Node

NAMES: Final = {"Transition": "Days", "NoncurrentVersionTransition": "NoncurrentDays"}
"""Each with what its days are called."""
_LEAST: Final = {
    "STANDARD_IA": 30, "ONEZONE_IA": 30, "INTELLIGENT_TIERING": 0, "GLACIER_IR": 0, "GLACIER": 0, "DEEP_ARCHIVE": 0,
}
"""Classes that something can be moved to, with the days until then, as S3."""


def check(rule: Node) -> None:
    """MalformedXML, InvalidArgument, InvalidRequest."""
    for action, days in NAMES.items():
        classes: set[str] = set()
        for each in rule.all(action):
            storage = word(each, "StorageClass")
            if storage not in _LEAST or has(each, (days,)) == has(each, ("Date",)):
                raise S3Error("MalformedXML")
            _check_days(word(each, days), action, days, storage)
            if storage in classes:
                raise S3Error("InvalidRequest", f"'StorageClass' must be different for '{action}' actions in same 'Rule'")
            classes.add(storage)
    if len({has(each, ("Date",)) for each in rule.all("Transition")}) > 1:
        raise S3Error("InvalidRequest", "Found mixed 'Date' and 'Days' based Transition actions in lifecycle rule")
    _check_order(rule)


def _check_days(value: str, action: str, days: str, storage: str) -> None:
    if value and int(value) < 0:
        raise S3Error("InvalidArgument", f"'{days}' in {action} action must be nonnegative")
    if value and int(value) < _LEAST[storage]:
        raise S3Error("InvalidArgument", f"'{days}' in {action} action must be greater than or equal to {_LEAST[storage]} for "
                      f"storageClass '{storage}'")


def _check_order(rule: Node) -> None:
    """What is moved is moved before it is deleted."""
    for action, end in (("Transition", "Expiration"), ("NoncurrentVersionTransition", "NoncurrentVersionExpiration")):
        days = NAMES[action]
        last = word(rule.find(end), days)
        if last and any(int(word(each, days) or -1) >= int(last) for each in rule.all(action)):
            raise S3Error("InvalidArgument", f"'{days}' in the {end} action must be greater than '{days}' in the {action} action")


def refuse() -> S3Error:
    return S3Error("NotImplemented", "There is one storage class, so nothing can be moved to another: Transition and "
                   "NoncurrentVersionTransition are not implemented.")
