"""What an object carries besides its bytes: system metadata by header name, user metadata, and what S3 lets a client
override when it reads them back. Headers that ask for protection which is not there are refused here, never ignored."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from abixio.s3.errors import S3Error
from abixio.s3.payload_checks import PLAIN, SIZES
from abixio.store.types import ObjectInfo

META: Final = "x-amz-meta-"
FTT: Final = "ec-ftt"
"""The user metadata `x-amz-meta-ec-ftt` is also the fault tolerance of the object."""
STORAGE_CLASS: Final = "x-amz-storage-class"
REDIRECT: Final = "x-amz-website-redirect-location"
PLACEMENT: Final = {STORAGE_CLASS: "STANDARD", REDIRECT: ""}
"""What a copy never takes from its source, with what it is when not given."""
LIST: Final = "acl"
"""Kept among the system metadata, which no answer shows: the access control list (see `grants`), unless it is the usual one."""
NOT_COPIED: Final = frozenset({*PLACEMENT, LIST})
DEFAULT_TYPE: Final = "binary/octet-stream"

MAX_META: Final = 2048
"""Bytes of all names and values of user metadata, as S3."""
MAX_SYSTEM: Final = 8192
"""Bytes of all system metadata. S3's limit for a whole PUT request head is 8 KiB; this keeps records bounded."""
MAX_TYPE: Final = MAX_SYSTEM - len("content-type")
"""Of that, where there is nothing but the type."""
_WORD: Final = 45
"""Bytes in one encoded word of RFC 2047: 75 characters less `=?UTF-8?B?` and `?=` hold 60 of base64."""

_SYSTEM: Final = ("cache-control", "content-disposition", "content-language", "expires")
_CLASSES: Final = frozenset({
    "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE", "GLACIER_IR",
})
_CANONICAL: Final = {
    "cache-control": "Cache-Control", "content-disposition": "Content-Disposition", "content-encoding": "Content-Encoding",
    "content-language": "Content-Language", "content-type": "Content-Type", "expires": "Expires",
}
"""As the header names are usually written; just these can be overridden."""
_OVERRIDES: Final = {"response-" + name: name for name in _CANONICAL}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_PROTECTION: Final = (
    "x-amz-server-side-encryption", "x-amz-copy-source-server-side-encryption", "x-amz-object-lock-",
    "x-amz-bucket-object-lock-enabled", "x-amz-write-offset-bytes", "x-amz-if-match-",
)
"""Prefixes of headers that promise what is not there yet."""
_OWNER_ACLS: Final = frozenset({"private", "bucket-owner-full-control"})
"""Canned ACLs that say what holds anyway while one owner has everything."""
_OTHER_ACLS: Final = frozenset({
    "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read", "log-delivery-write",
})
NO_LISTS: Final = "AccessControlListNotSupported"
"""What S3 says of other access control lists where the owner has everything, which is its default too."""


USUAL: Final = PLAIN | {
    "x-amz-sdk-checksum-algorithm", "x-amz-decoded-content-length", "x-amz-trailer", *("x-amz-checksum-" + name for name in SIZES)
}
"""Headers that most uploads have at most: they describe no object but by its type, and ask for nothing that has to be refused."""


class Metadata(NamedTuple):
    """The two halves of what PutSpec takes."""

    headers: dict[str, str]
    meta: dict[str, str]

    @property
    def ftt(self) -> str | None:
        return self.meta.get(FTT)


def refuse_unsupported(headers: Mapping[str, str], known: Collection[str] = ()) -> None:
    """NotImplemented when a header asks for encryption, locks or tags, AccessControlListNotSupported when it asks for access
    rules: a 200 would be a broken promise. `known` are those that this very operation keeps."""
    if headers.keys() <= USUAL:
        return
    for name in headers:
        if not name.startswith("x-amz-") or name in known:
            continue
        if name.startswith(_PROTECTION) and headers[name].lower() != "false":
            raise S3Error("NotImplemented", Header=name)
        if name.startswith("x-amz-grant-") or (name == "x-amz-acl" and headers[name] in _OTHER_ACLS):
            raise S3Error(NO_LISTS)
        if name == "x-amz-acl" and headers[name] not in _OWNER_ACLS:
            raise S3Error("InvalidArgument", ArgumentName=name, ArgumentValue=headers[name])
        if name == "x-amz-tagging" and headers[name]:
            raise S3Error("NotImplemented", Header=name)


def read(headers: Mapping[str, str]) -> Metadata:
    """The metadata that a PUT, copy or create-upload sets."""
    kind = headers.get("content-type") or DEFAULT_TYPE
    if headers.keys() <= USUAL and len(kind) <= MAX_TYPE:
        return Metadata({"content-type": kind}, {})
    system = {name: headers[name] for name in _SYSTEM if headers.get(name)}
    system["content-type"] = kind
    encoding = _content_encoding(headers.get("content-encoding", ""))
    if encoding:
        system["content-encoding"] = encoding
    system.update(placement(headers))
    if sum(len(name) + len(value) for name, value in system.items()) > MAX_SYSTEM:
        raise S3Error("MetadataTooLarge", MaxSizeAllowed=MAX_SYSTEM)
    return Metadata(system, _user(headers))


def placement(headers: Mapping[str, str]) -> dict[str, str]:
    """Storage class and redirect location: a copy takes these from its own request, never from the source."""
    found = {}
    storage = headers.get(STORAGE_CLASS)
    if storage is not None:
        if storage not in _CLASSES:
            raise S3Error("InvalidStorageClass", StorageClassRequested=storage)
        if storage != "STANDARD":  # which S3 shows in listings only
            found[STORAGE_CLASS] = storage
    redirect = headers.get(REDIRECT)
    if redirect:
        if not redirect.startswith(("/", "http://", "https://")) or len(redirect) > MAX_META:
            raise S3Error("InvalidRedirectLocation")
        found[REDIRECT] = redirect
    return found


def storage_class(info: ObjectInfo) -> str:
    """As listings show it, where it is never left out."""
    return info.record.headers.get(STORAGE_CLASS, "STANDARD")


def answer(info: ObjectInfo, query: Mapping[str, str]) -> list[tuple[str, str]]:
    """The headers that give the metadata back, with the `response-*` overrides of the query."""
    shown, overrides = info.record.headers, _overrides(query)
    if LIST in shown:
        shown = {name: value for name, value in shown.items() if name != LIST}
    if overrides:
        shown = shown | overrides
    found = [(_CANONICAL.get(name, name), value) for name, value in shown.items()]
    found += [(META + name, _encoded(value)) for name, value in info.record.meta.items()]
    return found


def _user(headers: Mapping[str, str]) -> dict[str, str]:
    meta = {name[len(META):]: _text(value) for name, value in headers.items() if name.startswith(META)}
    size = sum(len(name) + len(value.encode()) for name, value in meta.items())
    if size > MAX_META:
        raise S3Error("MetadataTooLarge", Size=size, MaxSizeAllowed=MAX_META)
    return meta


def _text(value: str) -> str:
    """Header bytes arrive as latin-1. What is UTF-8 is taken as that, since that is what clients send; the rest stays latin-1."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _encoded(value: str) -> str:
    """A header can only carry ASCII safely: the rest goes out as RFC 2047 words, as S3 does."""
    if value.isascii():
        return value
    words, run = [], b""
    for character in value:
        octets = character.encode()
        if len(run) + len(octets) > _WORD:
            words.append(run)
            run = b""
        run += octets
    words.append(run)
    return " ".join(f"=?UTF-8?B?{b64encode(word).decode()}?=" for word in words)


def _content_encoding(value: str) -> str:
    """`aws-chunked` is the transfer's coding, not the object's."""
    if "aws-chunked" not in value.lower():
        return value
    codings = [coding.strip() for coding in value.split(",")]
    return ",".join(coding for coding in codings if coding and coding.lower() != "aws-chunked")


def _overrides(query: Mapping[str, str]) -> dict[str, str]:
    """`response-content-type` and its like. What could end the header line, or is not latin-1, is refused as S3 does."""
    found = {}
    for parameter, value in query.items():
        name = _OVERRIDES.get(parameter)
        if name is None or not value:
            continue
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise _bad_override(parameter, value, "Header value cannot be represented using ISO-8859-1.") from None
        if _CONTROL.search(value):
            raise _bad_override(parameter, value, "Header value contains control characters.")
        found[name] = value
    return found


def _bad_override(parameter: str, value: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=parameter, ArgumentValue=value)
