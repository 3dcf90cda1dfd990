"""What the examples of the model test are drawn from, and how it is written on the wire."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from hashlib import md5
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

from hypothesis import strategies as st

KIB, MIB = 1 << 10, 1 << 20
KEYS = ("a", "a/", "a/b", "a/b/c", "a//b", "b", "..", "é/ü", "space and +%&<>", "z" * 300)
SIZES = (0, 1, 700, 17 * KIB, 100 * KIB, 600 * KIB)
LARGE = 5 * MIB
"""The least part that may have another behind it."""

buckets = st.sampled_from(("x",) * 8 + ("y",) * 3 + ("nowhere",))
keys = st.sampled_from(KEYS[:3] * 6 + KEYS)
sizes = st.sampled_from(SIZES)
ftts = st.sampled_from((None, None, None, 0, 1, 2, 3))
metas = st.sampled_from(({}, {"name": "value"}, {"name": "another", "second": "x y"}))
kinds = st.sampled_from(("binary/octet-stream", "text/plain"))
tags = st.sampled_from((None, None, None, None, "*", "right", "wrong"))
times = st.sampled_from((None, None, None, -1, 1))
spans = st.sampled_from((None, None, (0, 0), (0, 99), (5, None), (None, 7), (None, 0), (650, 100_000), (90_000, 110_000), (9, 3),
                         (10**7, None)))
numbers = st.sampled_from((1, 2, 3))
seeds = st.integers(0, 2**32)


class Ask(NamedTuple):
    """Conditions as drawn: tags that are right or wrong, times before or after."""

    match: str | None
    none_match: str | None
    modified: int | None
    unmodified: int | None


asks = st.builds(Ask, tags, tags, times, times)
writes = st.builds(Ask, tags, st.sampled_from((None, None, None, "*")), st.none(), times)
nothing = Ask(None, None, None, None)


# ---- the wire --------------------------------------------------------------------------------------------------------
def tag(etag: str | None) -> str | None:
    return etag if etag in (None, "*") else f'"{etag}"'


def with_ftt(meta: Mapping[str, str], ftt: int | None) -> dict[str, str]:
    return dict(meta) if ftt is None else {**meta, "ec-ftt": str(ftt)}


def described(meta: Mapping[str, str], kind: str) -> dict[str, str]:
    return {"content-type": kind} | {"x-amz-meta-" + name: value for name, value in meta.items()}


def quoted(key: str) -> str:
    return "".join(f"%{byte:02X}" for byte in key.encode())


def text(name: bytes) -> str:
    """A name in an answer, where it is XML."""
    return name.decode().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def listed(name: bytes) -> str:
    """A name in a listing that was asked for with encoding-type=url."""
    return unquote_plus(name.decode())


def deletion(keys: Sequence[str | tuple[str, str]]) -> tuple[dict[str, str], bytes]:
    """Of objects, or of versions as (key, id)."""
    named = [(each, "") if isinstance(each, str) else each for each in keys]
    one = "<Object><Key>{}</Key>{}</Object>"
    objects = [one.format(escape(key), f"<VersionId>{id}</VersionId>" if id else "") for key, id in named]
    body = "<Delete>" + "".join(objects) + "</Delete>"
    return {"content-md5": base64.b64encode(md5(body.encode()).digest()).decode()}, body.encode()


def spoilt(parts: list[tuple[int, str]], how: str) -> list[tuple[int, str]]:
    if how == "order":
        return parts[::-1]
    if how == "tag":
        return [(number, "e" * 32) for number, _ in parts]
    return [*parts, (77, "d" * 32)] if how == "more" else parts
