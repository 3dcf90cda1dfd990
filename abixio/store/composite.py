"""Checksums of multipart objects. COMPOSITE: over the parts' checksums, as `<base64>-<parts>`. FULL_OBJECT: of all bytes, which
for a CRC follows from the parts' checksums and lengths."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence

from abixio.codec.digest import COMBINERS, Digests, combine
from abixio.errors import DigestMismatch
from abixio.store.record import Record


def composite(upload: Record, parts: Sequence[Record], expected: Mapping[str, str]) -> dict[str, str]:
    """The checksums to store with a completed object, by the algorithm and type of its upload; without an algorithm none.
    DigestMismatch when the client expects another."""
    algorithm = upload.settings.get("checksum_algorithm", "").lower()
    if not algorithm or any(algorithm not in part.checksums for part in parts):
        return {}
    if upload.checksum_type == "FULL_OBJECT" and algorithm in COMBINERS:
        value = _of_all_bytes(algorithm, parts)
    else:
        value = _of_checksums(algorithm, parts)
    if expected.get(algorithm, value) not in (value, value.rpartition("-")[0]):
        raise DigestMismatch(algorithm)
    return {algorithm: value}


def _of_checksums(algorithm: str, parts: Sequence[Record]) -> str:
    digests = Digests([algorithm])
    digests.update(b"".join(b64decode(part.checksums[algorithm]) for part in parts))
    return f"{b64encode(digests.digests()[algorithm]).decode()}-{len(parts)}"


def _of_all_bytes(algorithm: str, parts: Sequence[Record]) -> str:
    total = b64decode(parts[0].checksums[algorithm])
    for part in parts[1:]:
        total = combine(algorithm, total, b64decode(part.checksums[algorithm]), part.size)
    return b64encode(total).decode()
