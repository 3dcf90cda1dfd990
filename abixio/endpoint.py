"""Where the server listens: the checks of address, certificate and key that come before anything is written, and the
address as a client writes it."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from typing import Final

from abixio.errors import StartupError
from abixio.volume.files import Files

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def tls_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """The server's TLS settings, None for plain HTTP."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise StartupError("--tls-cert and --tls-key go together: give both or none")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in (cert, key):
        try:
            Files().read(path)
        except OSError as error:
            raise StartupError(f"cannot read {path}: {error.strerror}") from error
    try:
        # A passphrase would be asked for on the terminal, where a service has none.
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        raise StartupError(f"{cert} and {key} are not a PEM certificate chain and its unencrypted private key") from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the key is encrypted")


def check_address(host: str, port: int) -> None:
    """StartupError when the server could not listen there."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartupError(f"--host {host!r}: no such address") from error
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # As asyncio does, or [::] would collide with 0.0.0.0 of the same port.
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise StartupError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def reserve(host: str, port: int) -> tuple[int, list[socket.socket]]:
    """Take the port for several processes that will listen there: the port, which is chosen when it was 0, and sockets that
    keep it without listening. StartupError."""
    check_address(host, port)
    held: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            one = socket.socket(family, kind, protocol)
            held.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], port, *address[2:]))
            port = one.getsockname()[1]
    except OSError as error:
        for one in held:
            one.close()
        raise StartupError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return port, held


def url(host: str, port: int, secure: bool) -> str:
    """The endpoint for a client on this machine; a wildcard address becomes loopback."""
    host = _ANY.get(host, host)
    try:
        literal = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        literal = host
    return f"{'https' if secure else 'http'}://{literal}:{port}"
