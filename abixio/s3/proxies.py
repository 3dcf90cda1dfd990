"""What a trusted proxy in front of us tells of the request it passes on: who sent it, to which host, and by which scheme.

Clients sign the host that they know, so behind a proxy that sends another one no signature would hold; and an answer that
names a place must name it as the client can reach it. From anybody but a trusted proxy these headers are just text.

Each proxy adds its line at the end of a list. So lists are read from there: as long as an entry is the address of another
trusted proxy, the one before it counts, and what stands at that place in the other lists was added by the same proxy. What a
client itself has written into such a header stands further to the left and is never looked at, unless the proxy lets it pass
in place of its own: a proxy has to set, or remove, each of them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from abixio.message import Request

FORWARDED: Final = "forwarded"
PREFIX: Final = "x-forwarded-"
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_NODE: Final = re.compile(r"\[([^\]]+)\](?::[0-9]+)?|([0-9.]+)(?::[0-9]+)?|([0-9A-Fa-f:.]+)")
"""An address as proxies write it: in brackets and with a port, or bare."""
_PAIR: Final = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;,\s"]*))\s*')
MAX_HOPS: Final = 16
"""Proxies in a row. Nobody has as many; a client may write thousands."""
_PORTS: Final = {"https": "443", "http": "80"}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Hop(NamedTuple):
    """What one proxy said; empty strings for what it did not."""

    client: str = ""
    host: str = ""
    proto: str = ""
    port: str = ""


class Proxies:
    """The proxies that one server trusts."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def apply(self, request: Request) -> None:
        """Make of a request what it was when the client sent it; nothing, unless a trusted proxy sent it on."""
        peer = _address(request.peer)
        if peer is None or not self._trusts(peer):
            return
        request.peer = str(peer)
        for hop in _hops(request.headers):
            client = _address(hop.client)
            _take(request, hop, client)
            if client is None or not self._trusts(client):
                return

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _take(request: Request, hop: Hop, client: Address | None) -> None:
    """What the hop says takes the place of what the proxies behind it said."""
    if client is not None:
        request.peer = str(client)
    proto = hop.proto.lower()
    if proto in _PORTS:
        request.secure = proto == "https"
    host = hop.host
    if not _HOST.fullmatch(host):
        return
    bare = not re.search(r":[0-9]+$", host)
    if bare and hop.port.isascii() and hop.port.isdigit() and hop.port not in _PORTS.values():
        host = f"{host}:{hop.port}"
    request.headers["host"] = host


def _hops(headers: Mapping[str, str]) -> list[Hop]:
    """The nearest proxy first."""
    lists = [_values(headers.get(PREFIX + name, "")) for name in ("for", "host", "proto", "port")]
    if not any(lists):
        return [_hop(element) for element in _elements(headers.get(FORWARDED, ""))[: -MAX_HOPS - 1 : -1]]
    count = min(max(1, len(lists[0])), MAX_HOPS)
    return [Hop(*(_from_end(values, number) for values in lists)) for number in range(1, count + 1)]


def _values(header: str) -> list[str]:
    return [value.strip() for value in header.split(",")] if header else []


def _from_end(values: list[str], number: int) -> str:
    """The value of the hop of that number. A list that is shorter was not added to by each proxy: its first one still holds."""
    return values[max(0, len(values) - number)] if values else ""


def _elements(header: str) -> list[dict[str, str]]:
    """The elements of a Forwarded header (RFC 7239); none when it cannot be read, as nobody knows then who said what."""
    found: list[dict[str, str]] = []
    pairs: dict[str, str] = {}
    at = 0
    while at < len(header):
        match = _PAIR.match(header, at)
        if match is None:
            return []
        name, quoted, token = match.groups()
        pairs[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
        at = match.end()
        if at == len(header) or header[at] == ",":
            found.append(pairs)
            pairs = {}
        elif header[at] != ";":
            return []
        at += 1
    return found


def _hop(element: Mapping[str, str]) -> Hop:
    return Hop(element.get("for", ""), element.get("host", ""), element.get("proto", ""))


def _address(text: str) -> Address | None:
    """An address of a peer or in a header, without brackets, port and zone; None for a name, `unknown` and the like."""
    match = _NODE.fullmatch(text.partition("%")[0])
    if match is None:
        return None
    try:
        address = ipaddress.ip_address(next(group for group in match.groups() if group))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
