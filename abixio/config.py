"""Settings of one server, and the limits that are not settings. Every limit says where its number comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

MAX_VOLUMES: Final = 16
"""The codec could do 255; beyond 16 one key's metadata on every volume costs more than it buys."""
MAX_WORKERS: Final = 64
"""Processes: more than the kernel needs to be the bound on any machine with 16 disks."""
MAX_KEY_BYTES: Final = 1024
"""S3's own limit."""
MAX_OBJECT: Final = 5 * GIB
"""One PUT or one part, as S3."""
MIN_PART: Final = 5 * MIB
"""All parts but the last, as S3."""
MAX_PARTS: Final = 10_000
"""As S3."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the command line and the environment say."""

    volumes: tuple[str, ...] = ("./abixio-data",)
    host: str = "127.0.0.1"
    port: int = 9000
    durability: Literal["fsync", "page-cache"] = "fsync"
    etag: Literal["auto", "xxh64", "md5"] = "auto"
    region: str = "us-east-1"
    """Where buckets are, as answers name it."""
    strict_region: bool = False
    """Refuse requests that are signed for another region."""
    domains: tuple[str, ...] = ()
    """Below each of them, buckets are host names."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose word on X-Forwarded-* is taken."""
    ftt: int | None = None
    memory_budget: int = 512 * MIB
    scan_rate: int = 16 * MIB
    """Bytes per second and volume that the scanner reads; 0: it only scans when it is told to. A tenth of what a slow hard disk
    does: 10 TB take a week."""
    debug_day: int | None = None
    """Seconds of a day, as lifecycle rules count them; None: a real one."""
    master_key_file: str | None = None
    """Where the keys of encryption at rest are kept; None: on every volume."""
    kms_key_ids: tuple[str, ...] = ()
    """Keys of the local key store, made when they are not there; the first one is taken where a request names none."""
    sse_c_over_http: bool = False
    """Take keys of customers in the clear, also from other machines."""
    tls_cert: str | None = None
    tls_key: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    workers: int = 1
    """Processes that serve."""
    log_level: str = "info"
    log_json: bool = False
    access_log: str | None = None
    """A line for each request goes there; `-`: to standard output."""
