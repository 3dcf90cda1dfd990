"""The keys of encrypted objects, wrapped: by a master key (SSE-S3), by a key of the local key store (SSE-KMS), or by the key that
the client sends with each request (SSE-C). What is kept with an object is its own key in that form, and what leads to the key
that unwraps it; all of that is authenticated, and good in its bucket only.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Final, Protocol

from abixio.codec.aead import KEY, Forged, unwrap, wrap
from abixio.errors import DataLost, KeyUnknown
from abixio.store.record import Record
from abixio.store.types import Seal

MODE: Final = "mode"
S3: Final = "s3"
KMS: Final = "kms"
CUSTOMER: Final = "customer"
NAME: Final = "kms"
"""The key of the key store, as the client names it."""
CONTEXT: Final = "context"
"""The encryption context, as the client sent it."""
BUCKET_KEY: Final = "bucket_key"
_ID: Final = "id"
"""Of the key in the key file."""
_WRAPPED: Final = "wrapped"
_BOUND: Final = frozenset({MODE, NAME, CONTEXT, BUCKET_KEY, _ID, "cipher"})
_CIPHER: Final = {"cipher": "aes-256-gcm"}

Fields = dict[str, str]


class Keys(Protocol):
    """The key file."""

    def newest(self, name: str) -> tuple[str, bytes] | None:
        """The id and the secret of the key that wraps under that name; None when there is no such name."""
        ...

    def find(self, id: str) -> bytes | None:
        """The secret of a key."""
        ...


class NoKeys:
    """Of a server without a key file."""

    def newest(self, name: str) -> tuple[str, bytes] | None:
        """None."""
        return None

    def find(self, id: str) -> bytes | None:
        """None."""
        return None


def by_server(space: bytes, about: Mapping[str, str], id: str, secret: bytes) -> Seal:
    """A seal for a new object, under a key of the key file."""
    return _new(space, {**_CIPHER, **about, _ID: id}, secret, hides_etag=about[MODE] != S3)


def by_customer(space: bytes, secret: bytes) -> Seal:
    """A seal for a new object, under a key that the client sent."""
    return _new(space, {**_CIPHER, MODE: CUSTOMER}, secret, hides_etag=True)


def _new(space: bytes, fields: Fields, secret: bytes, hides_etag: bool) -> Seal:
    key = secrets.token_bytes(KEY)
    return Seal(key, _with_key(space, fields, secret, key), hides_etag)


def _with_key(space: bytes, fields: Fields, secret: bytes, key: bytes) -> Fields:
    return {**fields, _WRAPPED: b64encode(wrap(secret, key, _about(space, fields))).decode()}


def moved(space: bytes, fields: Mapping[str, str], key: bytes, about: Mapping[str, str], id: str, secret: bytes) -> Fields:
    """What is kept with an object whose key goes under another key of the key file. What was encrypted with its own stays."""
    others = {name: value for name, value in fields.items() if name not in _BOUND | {_WRAPPED}}
    return others | _with_key(space, {**_CIPHER, **about, _ID: id}, secret, key)


def again(record: Record, key: bytes) -> Seal:
    """The seal of an upload, for its parts."""
    return Seal(key, record.encryption, hides_etag=record.encryption[MODE] != S3)


def open_by_server(keys: Keys, space: bytes, fields: Mapping[str, str]) -> bytes:
    """The key of an object in that space. KeyUnknown; DataLost when what is kept is not what it was."""
    secret = keys.find(fields[_ID])
    if secret is None:
        raise KeyUnknown(fields.get(NAME, ""))
    try:
        return _open(space, fields, secret)
    except Forged as error:
        raise DataLost("the key of an object does not have its tag") from error


def open_by_customer(space: bytes, fields: Mapping[str, str], secret: bytes) -> bytes | None:
    """None when it is not the key that the object is encrypted with."""
    try:
        return _open(space, fields, secret)
    except Forged:
        return None


def _open(space: bytes, fields: Mapping[str, str], secret: bytes) -> bytes:
    return unwrap(secret, b64decode(fields[_WRAPPED]), _about(space, fields))


def _about(space: bytes, fields: Mapping[str, str]) -> bytes:
    return space + json.dumps({name: fields[name] for name in sorted(_BOUND & fields.keys())}).encode()
