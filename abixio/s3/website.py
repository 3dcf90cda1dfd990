"""The website configuration of a bucket: what it may hold, and what S3 says of one that makes no sense. It is kept and shown.
There is no website endpoint, to which alone it would apply: this server answers as S3's own endpoint, which ignores it."""

from __future__ import annotations

from typing import Final

from abixio.s3.errors import S3Error
from abixio.s3.schema import ANY, SOME, Field, has, maybe, one, some, word
from abixio.s3.xml import Node

MAX_RULES: Final = 50
"""As S3."""
_PLACE: Final = (maybe("HostName", ANY), maybe("Protocol", ANY))
_REDIRECT: Final = (*_PLACE, maybe("HttpRedirectCode", ANY), maybe("ReplaceKeyPrefixWith", ANY), maybe("ReplaceKeyWith", ANY))
_CONDITION: Final = (maybe("HttpErrorCodeReturnedEquals", ANY), maybe("KeyPrefixEquals", ANY))
_RULE: Final = (maybe("Condition", _CONDITION), one("Redirect", _REDIRECT))
FIELDS: Final[tuple[Field, ...]] = (
    maybe("IndexDocument", (one("Suffix", ANY),)),
    maybe("ErrorDocument", (one("Key", SOME),)),
    maybe("RedirectAllRequestsTo", (one("HostName", SOME), maybe("Protocol", ANY))),
    maybe("RoutingRules", (some("RoutingRule", _RULE, 1),)),
)
_BESIDE: Final = ("IndexDocument", "ErrorDocument", "RoutingRules")


def check(body: Node) -> None:
    """MalformedXML, InvalidArgument, InvalidRequest."""
    everything, index = body.find("RedirectAllRequestsTo"), body.find("IndexDocument")
    if everything is not None:
        if has(body, _BESIDE):
            raise S3Error("MalformedXML")
        _check_protocol(everything)
        return
    if index is None:
        raise S3Error("InvalidArgument", "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty",
                      ArgumentName="IndexDocument", ArgumentValue="null")
    suffix = index.text("Suffix") or ""
    if not suffix or "/" in suffix:
        raise S3Error("InvalidArgument", "The IndexDocument Suffix is not well formed", ArgumentName="IndexDocument",
                      ArgumentValue=suffix)
    rules = body.find("RoutingRules")
    if rules is None:
        return
    if len(rules.children) > MAX_RULES:
        raise S3Error("InvalidRequest", f"{len(rules.children)} routing rules provided, the number of routing rules in a website "
                      f"configuration is limited to {MAX_RULES}.")
    for rule in rules.children:
        _check_rule(rule)


def _check_rule(rule: Node) -> None:
    condition, redirect = rule.find("Condition"), rule.find("Redirect")
    assert redirect is not None
    if condition is not None:
        if not condition.children:
            raise S3Error("InvalidRequest", "Condition cannot be empty. To redirect all requests without a condition, the "
                          "condition element shouldn't be present.")
        _check_code(word(condition, "HttpErrorCodeReturnedEquals"), "45", "error", "4XX or 5XX")
    if not redirect.children:
        raise S3Error("MalformedXML")
    _check_protocol(redirect)
    code = word(redirect, "HttpRedirectCode")
    _check_code("-" if code == "300" else code, "3", "redirect", "3XX except 300")
    if has(redirect, ("ReplaceKeyPrefixWith",)) and has(redirect, ("ReplaceKeyWith",)):
        raise S3Error("InvalidRequest", "You can only define ReplaceKeyPrefix or ReplaceKey but not both.")


def _check_protocol(place: Node) -> None:
    if has(place, ("Protocol",)) and word(place, "Protocol") not in ("http", "https"):
        raise S3Error("InvalidRequest", "Invalid protocol, protocol can be http or https. If not defined the protocol will be "
                      "selected automatically.")


def _check_code(code: str, classes: str, kind: str, valid: str) -> None:
    if code and not (len(code) == 3 and code.isascii() and code.isdigit() and code[0] in classes):
        shown = "300" if code == "-" else code
        raise S3Error("InvalidRequest", f"The provided HTTP {kind} code ({shown}) is not valid. Valid codes are {valid}.")
