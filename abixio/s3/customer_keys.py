"""SSE-C: the keys that clients send with their requests. They are used, and forgotten with the request."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Address, ip_address
from typing import Final

from abixio.codec.aead import KEY
from abixio.message import Request
from abixio.s3.errors import S3Error

OWN: Final = "x-amz-server-side-encryption-customer-"
OF_SOURCE: Final = "x-amz-copy-source-server-side-encryption-customer-"
HEADERS: Final = frozenset({OWN + "algorithm", OWN + "key", OWN + "key-md5"})
SOURCE_HEADERS: Final = frozenset({OF_SOURCE + "algorithm", OF_SOURCE + "key", OF_SOURCE + "key-md5"})
_NEAR: Final = IPv4Network("127.0.0.0/8")
_SSE: Final = "x-amz-server-side-encryption"
_WHO: Final = "Requests specifying Server Side Encryption with Customer provided keys must "


def read(request: Request, insecure: bool, prefix: str = OWN, reading: bool = False) -> bytes | None:
    """The key that the request brings; None when it names none. `insecure`: it may come in the clear from anywhere. `reading`: a
    key that can be none is just not the right one, and nobody needs its MD5, since the object will show whether it is."""
    algorithm, text, digest = (request.headers.get(prefix + name) for name in ("algorithm", "key", "key-md5"))
    if algorithm is None and text is None and digest is None:
        return None
    if not (insecure or request.secure or _is_near(request.peer)):
        raise S3Error("InvalidRequest", _WHO + "be made over a secure connection.")
    if algorithm is None:
        raise _wrong(_WHO + "provide a valid encryption algorithm.")
    if text is None:
        raise _wrong(_WHO + "provide an appropriate secret key.")
    if algorithm != "AES256":
        raise S3Error("InvalidEncryptionAlgorithmError", ArgumentName=_SSE, ArgumentValue=algorithm)
    try:
        key = b64decode(text, validate=True)
    except (NoBase64, ValueError):
        key = b""
    _check_digest(key, digest, reading)
    if len(key) != KEY and not reading:
        raise _wrong("The secret key was invalid for the specified algorithm.")
    return key


def _check_digest(key: bytes, digest: str | None, reading: bool) -> None:
    if digest is None:
        if not reading:
            raise _wrong(_WHO + "provide the client calculated MD5 of the secret key.")
    elif not hmac.compare_digest(fingerprint(key).encode(), digest.encode()):
        raise _wrong("The calculated MD5 hash of the key did not match the hash that was provided.")


def fingerprint(key: bytes) -> str:
    """Its MD5, as clients compare it."""
    return b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()


def shown(key: bytes) -> list[tuple[str, str]]:
    """What answers say of it."""
    return [(OWN + "algorithm", "AES256"), (OWN + "key-MD5", fingerprint(key))]


def refuse_with(headers: Mapping[str, str]) -> None:
    """InvalidArgument when another way to encrypt is asked for too."""
    if _SSE in headers:
        raise S3Error("InvalidArgument", "Server Side Encryption with Customer provided key is incompatible with the encryption "
                      "method specified", ArgumentName=_SSE, ArgumentValue=headers[_SSE])


def _is_near(peer: str) -> bool:
    """Whether what it sends never leaves this machine."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address.is_loopback or (mapped is not None and mapped in _NEAR)


def _wrong(message: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=_SSE, ArgumentValue="null")
