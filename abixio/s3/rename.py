"""RenameObject: `PUT /bucket/new?renameObject` with the old key in a header.

S3 has it in its directory buckets; here any bucket that was never versioned has it. `docs/s3.md` says what else differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from abixio.errors import PreconditionFailed
from abixio.message import Response
from abixio.s3 import conditions
from abixio.s3.call import Call
from abixio.s3.errors import S3Error
from abixio.s3.names import check_key, decode_path
from abixio.store.types import Condition, Move, ObjectInfo, always

SOURCE: Final = "x-amz-rename-source"
TOKEN: Final = "x-amz-client-token"
_TOKEN: Final = re.compile(r"[!-~]{1,64}")
"""As S3 documents it: at most 64 characters, 33 to 126."""
_CONDITIONS: Final = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


async def rename_object(call: Call) -> Response:
    source = parse_source(call.headers.get(SOURCE, ""))
    token = call.headers.get(TOKEN, "")
    if TOKEN in call.headers and not _TOKEN.fullmatch(token):
        raise S3Error("InvalidArgument", "The client token is not valid.", ArgumentName=TOKEN, ArgumentValue=token)
    for key in (source, call.key):
        if key.endswith("/"):
            raise S3Error("InvalidRequest", "An object whose key ends with a slash cannot be renamed, nor become one.")
    names = (*_CONDITIONS, *(f"{SOURCE}-{name}" for name in _CONDITIONS))
    asked = tuple(f"{name}:{call.headers.get(name, '')}" for name in names)
    move = Move(source, _of_source(call.headers), _of_target(call.headers), token, asked)
    await call.store.rename(await call.bucket(), call.key, move)
    return Response(200)


def parse_source(header: str) -> str:
    """The key of the source, percent-encoded; clients may put a slash before it. InvalidArgument."""
    key = decode_path(header.encode("latin-1")).removeprefix("/")
    if not key:
        raise S3Error("InvalidArgument", "A rename needs the key of its source.", ArgumentName=SOURCE, ArgumentValue=header)
    check_key(key)
    return key


def _of_source(headers: Mapping[str, str]) -> Condition:
    """Whatever does not hold is a 412."""
    return _holding(conditions.read(headers, f"{SOURCE}-"), f"{SOURCE}-")


def _of_target(headers: Mapping[str, str]) -> Condition:
    """As for PUT, but that If-Modified-Since counts, and that with If-Match or If-Modified-Since something has to be there."""
    wanted = conditions.read(headers)
    if wanted.none_match is not None and wanted.none_match != "*":
        raise S3Error("NotImplemented", Header="If-None-Match")
    return _holding(wanted, "")


def _holding(wanted: conditions.Conditions, prefix: str) -> Condition:
    if not wanted:
        return always

    def hold(current: ObjectInfo | None) -> None:
        failed = conditions.verdict(wanted, current) if current is not None else _without(wanted)
        if failed:
            raise PreconditionFailed(prefix + failed)

    return hold


def _without(wanted: conditions.Conditions) -> str:
    """The condition that cannot hold where nothing is."""
    if wanted.match is not None:
        return "If-Match"
    return "If-Modified-Since" if wanted.modified_since is not None and wanted.none_match is None else ""
