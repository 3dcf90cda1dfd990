"""Values of flags that click has no type for: lists of directories with ranges, domains, networks, and sizes."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Final

from abixio.config import GIB, KIB, MAX_VOLUMES, MIB

_RANGE: Final = re.compile(r"\{(\d+)\.\.\.(\d+)\}")
_DOMAIN: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""Labels of RFC 1123. The last one begins with a letter, so that no address is taken for a name."""
MAX_DOMAIN: Final = 253 - 64
"""A DNS name, less a bucket of 63 characters and the dot behind it."""
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9/_-]{1,256}")
"""As AWS KMS names keys and aliases, without the forms that clients may give them."""
_SIZE: Final = re.compile(r"(\d+)\s*([A-Za-z]*)")
_UNITS: Final = {
    "": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "k": KIB, "m": MIB, "g": GIB, "kb": 10**3, "mb": 10**6, "gb": 10**9,
}


def parse_volumes(values: Iterable[str]) -> tuple[str, ...]:
    """`/a,/b` and `/mnt/disk{1...4}`, in any mixture, as single paths. ValueError says what is wrong."""
    paths: list[str] = []
    for pattern in itertools.chain.from_iterable(value.split(",") for value in values):
        if not pattern.strip():
            raise ValueError("an entry of the list is empty")
        paths += itertools.islice(_expand(pattern.strip()), MAX_VOLUMES + 1)
        if len(paths) > MAX_VOLUMES:
            raise ValueError(f"more than {MAX_VOLUMES} directories")
    return tuple(paths)


def _expand(pattern: str) -> Iterator[str]:
    """Every path that a pattern stands for; the first range turns slowest."""
    found = _RANGE.search(pattern)
    if found is None:
        if "{" in pattern or "}" in pattern:
            raise ValueError(f"{pattern!r}: a range looks like {{1...4}}")
        yield pattern
        return
    first, last = found.groups()
    if int(first) > int(last):
        raise ValueError(f"{pattern!r}: the range {found[0]} is empty")
    # {01...12} keeps its zeros, as a shell's {01..12} does.
    width = len(first) if first.startswith("0") else 0
    tails = list(itertools.islice(_expand(pattern[found.end() :]), MAX_VOLUMES + 1))
    for number in range(int(first), int(last) + 1):
        for tail in tails:
            yield f"{pattern[: found.start()]}{number:0{width}d}{tail}"


def parse_domains(values: Iterable[str]) -> tuple[str, ...]:
    """`s3.example.com,s3.local`, in lower case and each once. ValueError says what is wrong."""
    domains: list[str] = []
    for value in itertools.chain.from_iterable(value.split(",") for value in values):
        domain = value.strip().rstrip(".").lower()
        if len(domain) > MAX_DOMAIN or not _DOMAIN.fullmatch(domain):
            raise ValueError(f"{value.strip()!r} is not a domain such as s3.example.com")
        if domain not in domains:
            domains.append(domain)
    return tuple(domains)


def parse_networks(values: Iterable[str]) -> tuple[str, ...]:
    """`10.0.0.0/8,::1`, each once. ValueError says what is wrong."""
    networks: list[str] = []
    for value in itertools.chain.from_iterable(value.split(",") for value in values):
        try:
            network = str(ipaddress.ip_network(value.strip()))
        except ValueError as error:
            raise ValueError(f"{value.strip()!r} is not an address or network such as 10.0.0.0/8") from error
        if network not in networks:
            networks.append(network)
    return tuple(networks)


def parse_key_names(values: Iterable[str]) -> tuple[str, ...]:
    """`one,two`, each once. ValueError says what is wrong."""
    found: list[str] = []
    for value in itertools.chain.from_iterable(value.split(",") for value in values):
        name = value.strip()
        if not _KEY_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name for a key: 1 to 256 of letters, digits, / _ and -")
        if name not in found:
            found.append(name)
    return tuple(found)


def parse_size(text: str) -> int:
    """`512MiB`, `1GiB`, `500MB` or plain bytes. ValueError says what is wrong."""
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise ValueError(f"{text!r} is not a size such as 512MiB")
    return int(found[1]) * unit
