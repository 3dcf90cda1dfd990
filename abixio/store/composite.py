"""Checksums of multipart objects, from those of their parts.

COMPOSITE: the checksum over the parts' checksums, shown as `<base64>-<parts>`. FULL_OBJECT: the checksum of the whole
object, which for CRCs can be combined from the parts' without reading a byte.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from awscrt.checksums import combine_crc32, combine_crc32c, combine_crc64nvme

from abixio.codec.digest import Digests
from abixio.errors import DigestMismatch
from abixio.store.record import Record

_COMBINE: Final[Mapping[str, tuple[int, Callable[[int, int, int], int]]]] = {
    "crc32": (4, combine_crc32), "crc32c": (4, combine_crc32c), "crc64nvme": (8, combine_crc64nvme),
}
"""Algorithm -> bytes of its value, and what joins the values of two runs given the length of the second."""
COMBINABLE: Final = ("crc64nvme", "crc32c", "crc32")
"""Those algorithms, the longest value first."""


def composite(upload: Record, parts: Sequence[Record], expected: Mapping[str, str]) -> dict[str, str]:
    """The checksums to store with a completed object; none for an upload that was opened without an algorithm, or when
    a part lacks it. DigestMismatch when the client expects another."""
    algorithm = upload.settings.get("checksum_algorithm", "").lower()
    if not algorithm or any(algorithm not in part.checksums for part in parts):
        return {}
    values = [part.checksums[algorithm] for part in parts]
    if upload.checksum_type == "FULL_OBJECT":
        value = whole(algorithm, values, [part.size for part in parts])
    else:
        digests = Digests([algorithm])
        digests.update(b"".join(b64decode(value) for value in values))
        value = f"{b64encode(digests.digests()[algorithm]).decode()}-{len(parts)}"
    if expected.get(algorithm, value) not in (value, value.partition("-")[0]):
        raise DigestMismatch(algorithm)
    return {algorithm: value}


def whole(algorithm: str, values: Sequence[str], sizes: Sequence[int]) -> str:
    """The checksum of runs of bytes that follow each other, of which the checksums and lengths are known."""
    width, combine = _COMBINE[algorithm]
    total = 0
    for value, size in zip(values, sizes, strict=True):
        total = combine(total, int.from_bytes(b64decode(value), "big"), size)
    return b64encode(total.to_bytes(width, "big")).decode()
