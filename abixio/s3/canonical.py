"""The canonical request of AWS Signature Version 4, as S3 wants it: each part encoded once, the path not normalised.

Clients disagree about what to percent-encode on the wire, but not about what they sign. So path and query are decoded
and encoded anew by the rule of S3 (RFC 3986 unreserved characters stand for themselves, all else is `%XX` in upper case)
unless they have that form already, which one regular expression tells.

No part can smuggle a line feed into another: path and query are encoded, header values come from a parser of lines, and
the names of signed headers must be HTTP tokens (`sigv4` checks that).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from abixio.s3.names import query_pairs

PLAIN_PATH: Final = re.compile(rb"[A-Za-z0-9_.~/-]*")
"""A path that is canonical already: most of them."""
PLAIN_QUERY: Final = re.compile(
    rb"(?:[A-Za-z0-9_.~&=-]++|%(?:[0189A-F][0-9A-F]|2[0-9A-CF]|3[A-F]|[46]0|5[B-E]|7[B-DF]))*+"
)
"""A query whose characters are all as S3 wants them: escapes in upper case, and none of an unreserved character."""
SPACES: Final = re.compile("[ \t]+")


def canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], signed: Sequence[str], payload: str
) -> str:
    """The text whose hash is signed. `path` and `query` are canonical, `signed` names the headers as the client lists them.
    Latin-1 text: one character for each byte of the headers."""
    return f"{method}\n{path}\n{query}\n{canonical_headers(headers, signed)}\n{';'.join(signed)}\n{payload}"


def canonical_path(path: bytes) -> str:
    """A slash is a slash, also one that came as `%2F`: in S3 it is part of the key all the same."""
    if PLAIN_PATH.fullmatch(path):
        return path.decode("ascii")
    return quote_from_bytes(unquote_to_bytes(path), safe="/")


def canonical_query(query: bytes, skip: bytes | None = None) -> str:
    """Sorted by encoded name, then by encoded value. (Not as joined strings: `a-b=` would come before `a=`.) `skip` is the
    parameter that is not signed, the signature itself."""
    if not query:
        return ""
    pairs = [part.split(b"=") for part in query.split(b"&")]
    if not PLAIN_QUERY.fullmatch(query) or {len(pair) for pair in pairs} != {2}:
        pairs = [[_encode(name), _encode(value)] for name, value in query_pairs(query)]
    pairs.sort()
    return b"&".join([b"=".join(pair) for pair in pairs if pair[0] != skip]).decode("ascii")


def _encode(text: str) -> bytes:
    return quote(text, safe="").encode("ascii")


def canonical_headers(headers: Mapping[str, str], signed: Sequence[str]) -> str:
    """One line each, runs of blanks folded. A header that is listed but was not sent has no line: some clients list
    every header they might send."""
    lines = []
    for name in signed:
        value = headers.get(name)
        if value is not None:
            if "  " in value or "\t" in value:
                value = SPACES.sub(" ", value)
            lines.append(f"{name}:{value}\n")
    return "".join(lines)
