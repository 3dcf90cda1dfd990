"""Derived signing keys, kept: deriving one costs four HMACs, and a client uses the same one all day."""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import Final, NamedTuple

from abixio._sign import Signer

KEPT: Final = 1024
"""Two regions for each of the nine days that can be valid at once, for some 50 active callers; 200 KiB at most. Whoever knows
an access key can fill it with keys of regions that nobody uses: then the others are derived anew, for 10 us each."""


@lru_cache(maxsize=KEPT)
def signing_key(secret: str, date: str, region: str) -> bytes:
    """The key that signs for S3 on that date (YYYYMMDD) in that region."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=KEPT)
def signer(key: bytes) -> Signer:
    """What signs with that key: it has taken it in already."""
    return Signer(key)


class Scope(NamedTuple):
    """What a client signs with all day."""

    text: str
    """As signed: 20130524/us-east-1/s3/aws4_request."""
    key: bytes
    signer: Signer


@lru_cache(maxsize=KEPT)
def scope(secret: str, date: str, region: str) -> Scope:
    """That of a date (YYYYMMDD) and a region."""
    key = signing_key(secret, date, region)
    return Scope(f"{date}/{region}/s3/aws4_request", key, signer(key))
