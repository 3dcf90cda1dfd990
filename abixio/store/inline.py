"""Small shards as the catalog keeps them: the shard's bytes, then the checksum of its only block, little-endian."""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64_intdigest

from abixio.codec.checksum import SUM
from abixio.config import KIB
from abixio.errors import ShardCorrupt
from abixio.message import Buffer

INLINE_LIMIT: Final = 16 * KIB
"""Longest shard that lives in the catalog: one commit instead of a file, as long as it does not bloat the database."""


def pack_shard(data: Buffer, seed: int) -> bytes:
    """What to store. An empty shard has a sum too, so that a lost one can be told from it."""
    return b"".join((data, xxh3_64_intdigest(data, seed).to_bytes(SUM, "little")))


def unpack_shard(stored: bytes, seed: int) -> memoryview:
    """The shard's bytes; ShardCorrupt unless they match their sum."""
    data = memoryview(stored)[:-SUM]
    if xxh3_64_intdigest(data, seed) != int.from_bytes(stored[-SUM:], "little"):
        raise ShardCorrupt("an inline shard does not match its checksum")
    return data


class InlineShard:
    """An inline shard as `abixio.volume.interface.Shard`."""

    __slots__ = ("blake3", "checksums", "record", "view")

    def __init__(self, stored: bytes, seed: int, record: bytes) -> None:
        self.view = unpack_shard(stored, seed)
        self.checksums = memoryview(stored[-SUM:] if self.view else b"").cast("Q")
        self.record = record
        self.blake3 = b""

    def populate(self, offset: int, length: int) -> None:
        """It is in memory."""

    def close(self) -> None:
        """There is nothing to close."""
