"""The key file: the keys that the keys of objects are wrapped with. It is kept on every volume, or where --master-key-file says.

Keys are never changed and never removed by us: the newest of a name wraps, each of them unwraps. So files that differ, since a
volume was away when a key was added, are put together. A key stays in this module, the file and the arithmetic: it is in no log
line, no error and no representation.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from abixio.errors import StartupError, VolumeError
from abixio.volume import names
from abixio.volume.files import Files
from abixio.volume.identity import read_keys, write_keys

_log = logging.getLogger(__name__)

MAGIC: Final = "abixio keys"
FORMAT: Final = 1
SIZE: Final = 32
"""Bytes of a key: AES-256."""
MASTER: Final = ""
"""The name of the keys of SSE-S3; those of SSE-KMS have the names that clients give."""
DEFAULT_KMS: Final = "aws/s3"
"""The key of SSE-KMS where nobody names one, as in AWS."""


@dataclass(frozen=True, slots=True)
class Key:
    """One of them."""

    id: str
    """32 hex digits, random."""
    name: str
    created: int
    """ms since 1970."""
    secret: bytes = field(repr=False)


def generate(name: str, after: Iterable[Key] = ()) -> Key:
    """A new key, newer than all of those."""
    now = max([time.time_ns() // 1_000_000, *(key.created + 1 for key in after)])
    return Key(secrets.token_hex(16), name, now, secrets.token_bytes(SIZE))


class KeyRing:
    """All keys of a server."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = sorted(keys, key=lambda key: (key.created, key.id))
        self._by_id = {key.id: key.secret for key in self.keys}
        self._newest = {key.name: key for key in self.keys}

    def newest(self, name: str) -> tuple[str, bytes] | None:
        """The id and the secret of the key that wraps under that name; None when there is no such name."""
        key = self._newest.get(name)
        return None if key is None else (key.id, key.secret)

    def find(self, id: str) -> bytes | None:
        """The secret of a key."""
        return self._by_id.get(id)

    def lacking(self, wanted: Iterable[str]) -> list[str]:
        """Those names for which there is no key."""
        return [name for name in dict.fromkeys(wanted) if name not in self._newest]

    def __or__(self, other: KeyRing) -> KeyRing:
        return KeyRing({key.id: key for key in (*self.keys, *other.keys)}.values())


# ---- the file --------------------------------------------------------------------------------------------------------
def pack(ring: KeyRing) -> bytes:
    keys = [{"id": key.id, "name": key.name, "created": key.created, "key": b64encode(key.secret).decode()} for key in ring.keys]
    return msgspec.json.format(msgspec.json.encode({"magic": MAGIC, "format": FORMAT, "keys": keys}), indent=2) + b"\n"


def unpack(data: bytes, where: str) -> KeyRing:
    """StartupError for anything that is no such file. Nothing of its content may show in a message."""
    try:
        content = msgspec.json.decode(data)
        if content["magic"] == MAGIC and content["format"] != FORMAT:
            raise StartupError(f"{where}: is of a format that this version of abixio does not know; use the one that wrote it")
        if content["magic"] == MAGIC:
            return KeyRing([_key(each) for each in content["keys"]])
    except (msgspec.MsgspecError, UnicodeDecodeError, NoBase64, KeyError, TypeError, ValueError):
        pass
    raise StartupError(f"{where}: is not a key file, or damaged; restore it, for without its keys nothing can be decrypted")


def _key(fields: dict[str, Any]) -> Key:
    key = Key(fields["id"], fields["name"], fields["created"], b64decode(fields["key"], validate=True))
    if len(key.secret) != SIZE or not isinstance(key.created, int) or not (isinstance(key.id, str) and isinstance(key.name, str)):
        raise ValueError
    return key


# ---- where it is -----------------------------------------------------------------------------------------------------
def stored(files: Files, volumes: Iterable[str], path: str | None) -> KeyRing:
    """What is there, on the volumes or in that file. StartupError for a file that others may read, for keys on the volumes
    that it lacks, since objects may need them, and when there is nothing but what is damaged or cannot be read."""
    held, failed = _held(files, volumes)
    if failed and not held.keys and path is None:
        raise StartupError(failed[0])
    for failure in failed:
        _log.warning("%s", failure)
    if path is None:
        return held
    ring = _read(files, path)
    missing = [key.id for key in held.keys if ring.find(key.id) is None]
    if missing:
        raise StartupError(
            f"--master-key-file {path}: lacks keys that the volumes hold ({', '.join(missing)}); move {names.keys('VOLUME')} of "
            "one of them there and remove the others, see docs/encryption.md"
        )
    return ring


def _held(files: Files, volumes: Iterable[str]) -> tuple[KeyRing, list[str]]:
    """The keys on the volumes, and what went wrong with those that have none."""
    held, failed = KeyRing([]), []
    for volume in volumes:
        try:
            data = read_keys(files, volume)
            if data is not None:
                held |= unpack(data, names.keys(volume))
        except (VolumeError, StartupError) as error:
            failed.append(str(error))
    return held, failed


def _read(files: Files, path: str) -> KeyRing:
    try:
        if not files.exists(path):
            return KeyRing([])
        if files.mode(path) & 0o077:
            raise StartupError(f"--master-key-file {path}: others may read it; chmod 600")
        return unpack(files.read(path), path)
    except OSError as error:
        raise StartupError(f"--master-key-file {path}: cannot be read: {error.strerror}") from error


def complete(ring: KeyRing, kms: Sequence[str]) -> KeyRing:
    """With a master key, and a key for each of those names."""
    missing = ring.lacking((MASTER, DEFAULT_KMS, *kms))
    return ring | KeyRing([generate(name) for name in missing])


def keep(files: Files, volumes: Iterable[str], path: str | None, ring: KeyRing) -> bool:
    """Write them wherever they are not yet. False when no volume takes them, so that they must not be used; StartupError when
    the file that was named does not."""
    data = pack(ring)
    if path is not None:
        _write(files, path, data)
        return True
    holders = 0
    for volume in volumes:
        try:
            if read_keys(files, volume) != data:
                write_keys(files, volume, data)
            holders += 1
        except VolumeError as error:
            _log.warning("%s", error)
    return bool(holders)


def _write(files: Files, path: str, data: bytes) -> None:
    try:
        if not files.exists(path) or files.read(path) != data:
            files.replace(os.path.abspath(path), data, 0o600)
    except OSError as error:
        raise StartupError(f"--master-key-file {path}: cannot be written: {error.strerror}") from error
