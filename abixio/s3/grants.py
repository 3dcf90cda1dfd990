"""Grants of access control lists: as a request says them, in one of three ways; as they are kept; and as markup.

Nobody gets any access by them that he did not have: everybody here is the one owner. `acl` says which of them are taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from abixio.s3.errors import S3Error
from abixio.s3.xml import SCHEMA_INSTANCE, Fragment, Node, node, text

SETTING: Final = "acl"
"""The bucket setting with the list of the bucket itself, unless that is the usual one."""
CANNED: Final = "x-amz-acl"
ALL: Final = "FULL_CONTROL"
_IN_HEADERS: Final = {
    "x-amz-grant-full-control": ALL, "x-amz-grant-read": "READ", "x-amz-grant-write": "WRITE",
    "x-amz-grant-read-acp": "READ_ACP", "x-amz-grant-write-acp": "WRITE_ACP",
}
HEADERS: Final = frozenset({CANNED, *_IN_HEADERS})
MAX_GRANTS: Final = 100
"""As S3."""
_GROUPS: Final = "http://acs.amazonaws.com/groups/"
EVERYBODY: Final = _GROUPS + "global/AllUsers"
SIGNED: Final = _GROUPS + "global/AuthenticatedUsers"
LOGS: Final = _GROUPS + "s3/LogDelivery"
PUBLIC: Final = frozenset({EVERYBODY, SIGNED})
OWNERS: Final = frozenset({"private", "bucket-owner-full-control"})
"""Canned lists that say what holds anyway where the owner of the bucket owns all in it."""
ELSEWHERE: Final = "aws-exec-read"
"""The canned list that lets a service of Amazon's read, which is not here."""
_LISTS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    **dict.fromkeys(OWNERS, ()), "bucket-owner-read": (), "public-read": ((EVERYBODY, "READ"),),
    "public-read-write": ((EVERYBODY, "READ"), (EVERYBODY, "WRITE")), "authenticated-read": ((SIGNED, "READ"),),
    "log-delivery-write": ((LOGS, "WRITE"), (LOGS, "READ_ACP")), ELSEWHERE: (("", "READ"),),
}
"""Canned list -> what it grants besides the owner's full control."""
_NAMED: Final = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*(?:"([^"]*)"|([^",\s]+))\s*')
_KINDS: Final = {"id": "ID", "uri": "URI", "emailAddress": "EmailAddress"}
_INSTANCE: Final = f' xmlns:xsi="{SCHEMA_INSTANCE}" xsi:type='


class Grant(NamedTuple):
    """What one grantee may do."""

    kind: str
    """ID, URI of a group, or EmailAddress."""
    who: str
    permission: str


Grants = tuple[Grant, ...]


def private(owner: str) -> Grants:
    """What everything has where nobody says anything else."""
    return (Grant("ID", owner, ALL),)


# ---- as requests say them --------------------------------------------------------------------------------------------
def canned(headers: Mapping[str, str]) -> str | None:
    """The name of the canned list that is asked for. InvalidArgument; InvalidRequest when grants are asked for too."""
    name = headers.get(CANNED)
    if name is None:
        return None
    if any(header in headers for header in _IN_HEADERS):
        raise S3Error("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
    if name not in _LISTS:
        raise S3Error("InvalidArgument", ArgumentName=CANNED, ArgumentValue=name)
    return name


def from_headers(headers: Mapping[str, str], owner: str) -> Grants:
    """Of a canned list, or of grants one by one: then the owner has only what he gives himself."""
    name = canned(headers)
    if name is not None:
        return private(owner) + tuple(Grant("URI", who, permission) for who, permission in _LISTS[name])
    found: list[Grant] = []
    for header, permission in _IN_HEADERS.items():
        for part in headers.get(header, "").split(",") if header in headers else ():
            match = _NAMED.fullmatch(part)
            if match is None:
                raise S3Error("InvalidArgument", "Argument format not recognized", ArgumentName=header,
                              ArgumentValue=headers[header])
            found.append(Grant(_KINDS[match[1]], match[2] if match[3] is None else match[3], permission))
    return tuple(found)


def from_document(policy: Node) -> Grants:
    """Of an AccessControlPolicy. MalformedACLError."""
    listed = policy.find("AccessControlList")
    if listed is None or len(listed.children) > MAX_GRANTS:
        raise S3Error("MalformedACLError")
    return tuple(_grant(grant) for grant in listed.children)


def _grant(grant: Node) -> Grant:
    grantee, permission = grant.find("Grantee"), (grant.text("Permission") or "").strip()
    if grant.name != "Grant" or grantee is None or permission not in _IN_HEADERS.values():
        raise S3Error("MalformedACLError")
    named = [child for child in grantee.children if child.name in _KINDS.values()]
    if len(named) != 1:
        raise S3Error("MalformedACLError")
    return Grant(named[0].name, (named[0].value or "").strip(), permission)


def check_grantees(grants: Grants, owner: str) -> None:
    """Those whom a list names have to be there. InvalidArgument, UnresolvableGrantByEmailAddress."""
    for kind, who, _ in grants:
        if kind == "EmailAddress":
            raise S3Error("UnresolvableGrantByEmailAddress")
        if kind == "ID" and who != owner:
            raise S3Error("InvalidArgument", "Invalid id", ArgumentName="id", ArgumentValue=who)
        if kind == "URI" and who not in PUBLIC | {LOGS}:
            raise S3Error("InvalidArgument", "Invalid group uri", ArgumentName="Group/URI", ArgumentValue=who)


# ---- as they are kept and shown --------------------------------------------------------------------------------------
def pack(grants: Sequence[Grant]) -> str:
    return json.dumps(grants)


def unpack(kept: str) -> Grants:
    return tuple(Grant(*each) for each in json.loads(kept))


def element(grant: Grant, name: str) -> Fragment:
    """`name`: that of the owner, who is the only person."""
    if grant.kind == "ID":
        grantee = node("Grantee", text("ID", grant.who), text("DisplayName", name), attributes=_INSTANCE + '"CanonicalUser"')
    else:
        grantee = node("Grantee", text("URI", grant.who), attributes=_INSTANCE + '"Group"')
    return node("Grant", grantee, text("Permission", grant.permission))
