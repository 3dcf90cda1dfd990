"""The root credentials: from the environment, or random ones, made once and kept on every volume in a file of mode 0600.

A secret stays in this module, the signature check and that file: it is in no log line, no error and no representation.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from abixio.errors import StartupError, VolumeError
from abixio.volume.files import Files
from abixio.volume.identity import read_credentials, write_credentials

_log = logging.getLogger(__name__)

MIN_ACCESS: Final = 3
MIN_SECRET: Final = 8
"""What other S3 servers demand at least, so that configurations can move here."""
MAX_LENGTH: Final = 128
"""AWS allows 128 for access keys; the same for secrets keeps both far under the limit of a request's head."""
_FILE: Final = ".abixio/credentials.json"
_ACCESS: Final = re.compile(r"[!-~]+")
_NOT_IN_ACCESS: Final = frozenset("/,=&?%+\"'\\")
"""Would need quoting in the Authorization header, in the query of a presigned URL or in a shell."""


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key: str
    secret_key: str = field(repr=False)


def from_environment(access_key: str | None, secret_key: str | None) -> Credentials | None:
    """None when neither is set. StartupError for one without the other, and for unusable values."""
    if access_key is None and secret_key is None:
        return None
    if access_key is None or secret_key is None:
        raise StartupError("ABIXIO_ACCESS_KEY and ABIXIO_SECRET_KEY go together: set both or none")
    return _checked(access_key, secret_key, "ABIXIO_ACCESS_KEY", "ABIXIO_SECRET_KEY")


def generate() -> Credentials:
    """160 bits of secret; letters and digits only, so nobody has to quote them."""
    return Credentials("abixio" + secrets.token_hex(7), secrets.token_hex(20))


def stored(files: Files, volumes: Iterable[str]) -> Credentials | None:
    """What the volumes hold. StartupError when two of them differ, or when there is nothing but damaged files."""
    found: dict[Credentials, str] = {}
    damaged: list[str] = []
    for volume in volumes:
        try:
            data = read_credentials(files, volume)
        except VolumeError as error:
            _log.warning("%s", error)
            continue
        credentials = None if data is None else _unpack(data)
        if credentials is not None:
            found.setdefault(credentials, volume)
        elif data is not None:
            damaged.append(volume)
    if len(found) > 1:
        one, other, *_ = found.values()
        raise StartupError(f"{other}: holds other credentials than {one}; copy {_FILE} of the right one to the other")
    for volume in damaged:
        if not found:
            raise StartupError(f"{volume}: {_FILE} is damaged; restore it, or remove it to have new credentials made")
        _log.warning("%s: %s is damaged and is written again", volume, _FILE)
    return next(iter(found), None)


def keep(files: Files, volumes: Iterable[str], credentials: Credentials) -> str | None:
    """Write them wherever they are not yet; returns a volume that holds them."""
    data = _pack(credentials)
    holder = None
    for volume in volumes:
        try:
            if read_credentials(files, volume) != data:
                write_credentials(files, volume, data)
            holder = holder or volume
        except VolumeError as error:
            _log.warning("%s", error)
    return holder


def _pack(credentials: Credentials) -> bytes:
    """A line for each field: the banner takes the secret out with sed."""
    content = {"access_key": credentials.access_key, "secret_key": credentials.secret_key}
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _unpack(data: bytes) -> Credentials | None:
    """None for anything that is no such file. Nothing of its content may show in a message."""
    try:
        content = msgspec.json.decode(data, type=dict[str, str])
        return _checked(content["access_key"], content["secret_key"], "access_key", "secret_key")
    except (msgspec.MsgspecError, KeyError, StartupError):
        return None


def _checked(access_key: str, secret_key: str, access_name: str, secret_name: str) -> Credentials:
    if not MIN_ACCESS <= len(access_key) <= MAX_LENGTH:
        raise StartupError(f"{access_name}: needs {MIN_ACCESS} to {MAX_LENGTH} characters")
    if not _ACCESS.fullmatch(access_key) or _NOT_IN_ACCESS & set(access_key):
        raise StartupError(f"{access_name}: may hold visible ASCII characters other than {''.join(sorted(_NOT_IN_ACCESS))}")
    if not MIN_SECRET <= len(secret_key) <= MAX_LENGTH:
        raise StartupError(f"{secret_name}: needs {MIN_SECRET} to {MAX_LENGTH} characters")
    if not secret_key.isprintable():
        raise StartupError(f"{secret_name}: holds a control character")
    return Credentials(access_key, secret_key)
