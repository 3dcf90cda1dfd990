"""How rows are called in what people read: by bucket and key where the bucket is known."""

from __future__ import annotations

from collections.abc import Mapping

from abixio.store.multipart import TAIL
from abixio.store.record import ROOT

Spaces = Mapping[bytes, tuple[str, bool]]
"""What lives in a space: bucket name, and whether its open uploads or its objects."""


def name_of(spaces: Spaces, space: bytes, key: bytes) -> str:
    """`s3://bucket/key`, or the nearest to it."""
    if space == ROOT:
        return f"bucket {_text(key)}"
    if space not in spaces:
        number = int.from_bytes(key, "big") if len(key) == 4 else 0
        return f"part {number} of upload {space.hex()}" if 0 < number <= 10_000 else f"space {space.hex()} key {_text(key)}"
    bucket, uploads = spaces[space]
    if uploads:
        return f"upload {key[-16:].hex()} of s3://{bucket}/{_text(key[:-TAIL])}"
    return f"s3://{bucket}/{_text(key)}"


def _text(key: bytes) -> str:
    """Keys may hold anything, line feeds too."""
    text = key.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]
