"""The digests that S3 knows by name, over a body that comes in pieces: for ETags, Content-MD5 and x-amz-checksum-*."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, Protocol

from awscrt.checksums import combine_crc32, combine_crc32c, combine_crc64nvme, crc32c, crc64nvme
from isal.isal_zlib import crc32
from xxhash import xxh3_64, xxh3_128, xxh64

from abixio._md5 import MD5
from abixio.message import Buffer


class Hash(Protocol):
    """A running digest."""

    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    """Gives a checksum function the shape of a hash."""

    __slots__ = ("_function", "_size", "_value")

    def __init__(self, function: Callable[[Buffer, int], int], size: int, data: Buffer = b"") -> None:
        self._function, self._size, self._value = function, size, function(data, 0)

    def update(self, data: Buffer, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


MAKERS: Final[Mapping[str, Callable[..., Hash]]] = {
    "md5": MD5,
    "sha1": partial(hashlib.sha1, usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    # zlib's crc32 does 2.4 GB/s; these take the carry-less multiplication and do ten times that.
    "crc32": partial(_Crc, crc32, 4),
    "crc32c": partial(_Crc, crc32c, 4),
    "crc64nvme": partial(_Crc, crc64nvme, 8),
    "xxh64": xxh64,
    "xxhash64": xxh64,
    "xxhash3": xxh3_64,
    "xxhash128": xxh3_128,
}
"""By the names that S3 gives them in x-amz-checksum-*; `xxh64` is that of ETags, which may be wanted beside `xxhash64`."""


COMBINERS: Final[Mapping[str, Callable[[int, int, int], int]]] = {
    "crc32": combine_crc32, "crc32c": combine_crc32c, "crc64nvme": combine_crc64nvme,
}
"""Checksums of a whole that follow from those of its pieces; hashes do not."""


def combine(name: str, first: bytes, second: bytes, length: int) -> bytes:
    """The checksum of two pieces one after the other, from theirs and the length of the second. KeyError for a hash."""
    combined = COMBINERS[name](int.from_bytes(first, "big"), int.from_bytes(second, "big"), length)
    return combined.to_bytes(len(first), "big")


def digests_of(names: Collection[str], data: Buffer) -> dict[str, bytes]:
    """Of bytes that are all there, what `Digests` gives. KeyError for a name that is not in MAKERS."""
    return {name: MAKERS[name](data).digest() for name in names}


class Digests:
    """Several digests over the same bytes. All of them drop the GIL for big buffers."""

    __slots__ = ("_running",)

    def __init__(self, names: Collection[str]) -> None:
        """ValueError for a name that is not in MAKERS."""
        unknown = sorted(set(names) - MAKERS.keys())
        if unknown:
            raise ValueError(f"no such digest: {', '.join(unknown)}")
        self._running = {name: MAKERS[name]() for name in names}

    def update(self, view: Buffer) -> None:
        """Append contiguous bytes."""
        for running in self._running.values():
            running.update(view)

    def digests(self) -> dict[str, bytes]:
        """Of all bytes so far, in the algorithm's own length; checksums and xxh64 big-endian, as S3 writes them in base64."""
        return {name: running.digest() for name, running in self._running.items()}
