"""Which worker of a server answers: read off the kernel's tables, for no answer says so."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from tests.rawclient import RawClient, Refused
from tests.server import Server


def client_of(server: Server, worker: int, within: float = 30.0) -> RawClient:
    """A client whose connection that process has accepted. The kernel deals connections out by their addresses."""
    deadline = time.monotonic() + within
    kept: list[RawClient] = []
    try:
        while time.monotonic() < deadline:
            client = RawClient(server.port)
            with suppress(Refused):
                client.connect()
                kept.append(client)
                if owner(server, client) == worker:
                    return kept.pop()
    finally:
        for client in kept:
            client.close()
    raise AssertionError(f"no connection to process {worker} in {within} s")


def owner(server: Server, client: RawClient) -> int | None:
    """The worker that has the other end of a client's connection; None when nobody accepts it within a second."""
    assert client._connection is not None
    port = client._connection.sock.getsockname()[1]
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        inode = _inode(server.port, port)
        for pid in server.workers if inode else ():
            if inode in _sockets(pid):
                return pid
        time.sleep(0.005)
    return None


def _inode(local: int, remote: int) -> str:
    """Of the server's end of a connection over 127.0.0.1."""
    wanted = (f"0100007F:{local:04X}", f"0100007F:{remote:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if (columns[1], columns[2]) == wanted:
            return columns[9]
    return ""


def _sockets(pid: int) -> set[str]:
    found: set[str] = set()
    with suppress(FileNotFoundError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                target = os.readlink(fd)
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found
