"""Checksums of multipart objects: the checksum over the parts' checksums, as S3 forms it (`<base64>-<parts>`)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping

from abixio.codec.digest import Digests
from abixio.errors import DigestMismatch
from abixio.store.record import Record


def composite(upload: Record, parts: list[Record], expected: Mapping[str, str]) -> dict[str, str]:
    """The checksums to store with a completed object. DigestMismatch when the client expects another.

    Only the COMPOSITE type; an upload opened without a checksum algorithm gets none.
    """
    algorithm = upload.settings.get("checksum_algorithm", "").lower()
    if not algorithm:
        return {}
    if any(algorithm not in part.checksums for part in parts):
        return {}
    digests = Digests([algorithm])
    digests.update(b"".join(b64decode(part.checksums[algorithm]) for part in parts))
    value = f"{b64encode(digests.digests()[algorithm]).decode()}-{len(parts)}"
    if expected.get(algorithm, value) not in (value, value.rpartition("-")[0]):
        raise DigestMismatch(algorithm)
    return {algorithm: value}
