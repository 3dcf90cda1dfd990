"""Authenticated encryption of object bytes: AES-256-GCM over chunks that with their tags are as long as a checksum block.

A body of n bytes is cut into chunks of BODY bytes, the last one shorter; each is stored with its tag of 16 bytes behind it. So
a full chunk takes CHUNK = 64 KiB: stripes hold whole chunks, and reading any byte takes one block and not two.

The nonce of a chunk is its number and whether it is the last one, so that chunks can neither be exchanged nor cut off; the
key is derived from the object's for each write (`derive`), so that none of another part, object or write fits.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from abixio.codec.checksum import BLOCK
from abixio.message import Buffer

KEY: Final = 32
"""Bytes of any key here."""
SALT: Final = 16
"""Random bytes that make a derived key one of its own: never the same twice, however many are drawn."""
TAG: Final = 16
CHUNK: Final = BLOCK
"""Stored bytes of a full chunk."""
BODY: Final = CHUNK - TAG
"""Bytes of the body in it."""
_ONCE: Final = bytes(12)
"""The nonce of a key that encrypts one thing only."""


class Forged(Exception):
    """A tag does not match: the bytes, their place or the key are not what they were."""


def derive(key: bytes, purpose: bytes, salt: bytes) -> bytes:
    """A key for one purpose and one use."""
    return hmac.digest(key, b"abixio " + purpose + b"\0" + salt, "sha256")


def wrap(key: bytes, secret: bytes, about: bytes) -> bytes:
    """A short secret, encrypted and bound to what it is about; SALT and TAG bytes longer."""
    salt = secrets.token_bytes(SALT)
    return salt + AESGCM(derive(key, b"wrap", salt)).encrypt(_ONCE, secret, about)


def unwrap(key: bytes, wrapped: bytes, about: bytes) -> bytes:
    """What was wrapped. Forged."""
    try:
        return AESGCM(derive(key, b"wrap", wrapped[:SALT])).decrypt(_ONCE, wrapped[SALT:], about)
    except InvalidTag:
        raise Forged from None


# ---- where the bytes are ---------------------------------------------------------------------------------------------
def sealed_size(length: int) -> int:
    """Stored bytes of a body."""
    return length + TAG * -(-length // BODY)


def body_room(stored: int) -> int:
    """Bytes of a body that fit into so many stored ones, which are whole chunks."""
    return stored // CHUNK * BODY


def chunks(start: int, stop: int) -> tuple[int, int]:
    """The chunks [first, end) with the bytes [start, stop) of a body."""
    return start // BODY, -(-stop // BODY)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(8, "big") + (b"\0\0\0\1" if last else b"\0\0\0\0")


# ---- in and out ------------------------------------------------------------------------------------------------------
class Sealer:
    """Encrypts one body, piece after piece."""

    __slots__ = ("_cipher", "_number", "_scratch")

    def __init__(self, key: bytes) -> None:
        """`key` must be derived for this body alone."""
        self._cipher = AESGCM(key)
        self._number = 0
        self._scratch = memoryview(bytearray(CHUNK))
        """A chunk on its way: source and target overlap, which the cipher does not take, and new memory for each costs more."""

    def seal(self, view: memoryview, length: int, ends: bool) -> None:
        """Encrypt `length` bytes at the front of `view` where they are; it is as long as they are sealed. `ends`: they are the
        last ones; else they are whole chunks.

        From behind: the place of a sealed chunk holds no bytes but its own and those of chunks that are sealed already.
        """
        count = -(-length // BODY)
        for index in reversed(range(count)):
            start, stop = index * BODY, min((index + 1) * BODY, length)
            nonce = _nonce(self._number + index, ends and index == count - 1)
            at, size = index * CHUNK, stop - start + TAG
            self._cipher.encrypt_into(nonce, view[start:stop], None, self._scratch[:size])
            view[at : at + size] = self._scratch[:size]
        self._number += count


class Unsealer:
    """Decrypts chunks of one body, in any order."""

    __slots__ = ("_cipher", "_last", "_size")

    def __init__(self, key: bytes, size: int) -> None:
        """`size`: bytes of the body."""
        self._cipher = AESGCM(key)
        self._size = size
        self._last = -(-size // BODY) - 1

    def length(self, first: int, end: int) -> int:
        """Bytes of the body in those chunks."""
        return min(end * BODY, self._size) - first * BODY

    def stored(self, first: int, end: int) -> int:
        """Stored bytes of those chunks."""
        return sealed_size(self.length(first, end))

    def unseal(self, pieces: Sequence[Buffer], first: int, out: memoryview) -> None:
        """Fill `out` with the chunks from `first` on; `pieces`, one after the other, are what is stored of them. Forged: then
        nothing in `out` may be used."""
        stream, at, number = _Stream(pieces), 0, first
        while at < len(out):
            length = min(BODY, len(out) - at)
            try:
                self._cipher.decrypt_into(
                    _nonce(number, number == self._last), stream.take(length + TAG), None, out[at : at + length]
                )
            except InvalidTag:
                raise Forged(f"chunk {number}") from None
            at += length
            number += 1


class _Stream:
    """Consecutive buffers, taken in pieces of any length; only those that span two buffers are copied."""

    def __init__(self, pieces: Sequence[Buffer]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def take(self, length: int) -> Buffer:
        if len(self._rest) >= length:
            found, self._rest = self._rest[:length], self._rest[length:]
            return found
        joined = bytearray()
        while len(joined) < length:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    raise Forged("too few bytes")
                self._rest = memoryview(piece)
                if not joined and len(self._rest) >= length:
                    return self.take(length)
            missing = length - len(joined)
            joined += self._rest[:missing]
            self._rest = self._rest[missing:]
        return joined
