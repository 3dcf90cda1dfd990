"""What the supervisor and a worker tell each other, over a pair of sockets that nobody else has.

Each message is one packet of JSON, with file descriptors where it says so. When the other side dies, the socket ends.
"""

from __future__ import annotations

import socket
from typing import Final

import msgspec

from abixio.config import Config

_MOST: Final = 1 << 18
"""Bytes of a message: sixteen paths of 4 KiB, and some hundred keys."""
_DESCRIPTORS: Final = 32
"""More than one for each volume, and two."""


class Pool(msgspec.Struct, tag=True):
    """To a worker: what the first runner found, for those who join. With it come descriptors of the volumes' locks, in the same
    order."""

    n: int
    places: dict[int, str]
    """Directories of the volumes that serve, by slot."""
    access_key: str
    secret_key: str
    credentials_file: str | None
    keys: list[tuple[str, str, int, bytes]]
    """Id, name, time and secret of each key."""


class Brief(msgspec.Struct, tag=True):
    """To a worker, first of all: who it is. With it comes the descriptor of the shared memory, then that of the socket for
    requests that only the runner can answer, then those of `pool`."""

    config: Config
    number: int
    count: int
    born: float
    relay: str
    """The name of that socket."""
    token: bytes
    """What those say who talk there."""
    pool: Pool | None
    """None: this is the first one, which finds out."""


class Prepared(msgspec.Struct, tag=True):
    """From the first runner: the volumes are open and checked, so others may open them. With the descriptors of their locks."""

    pool: Pool
    banner: str


class Serving(msgspec.Struct, tag=True):
    """From a worker: it takes requests."""

    addresses: list[tuple[str, int]]


class Failed(msgspec.Struct, tag=True):
    """From a worker that cannot start: why."""

    why: str


class Noticed(msgspec.Struct, tag=True):
    """From a worker, for the runner: keys of which a client deleted one version, which lifecycle rules may want to know."""

    keys: list[tuple[bytes, bytes]]
    """Space and key. An announcement that may be lost: a whole sweep finds them too."""


class Dismissed(msgspec.Struct, tag=True):
    """To the runner that is ending: all others have ended."""

    orderly: bool
    """All of them in good order, since the start."""


Message = Brief | Prepared | Serving | Failed | Noticed | Dismissed
_decode: Final = msgspec.json.Decoder(Message).decode


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, descriptors: list[int] | None = None) -> None:
        """OSError when the other side is gone, or for an announcement when it has not heard the ones before."""
        data = msgspec.json.encode(message)
        if isinstance(message, Noticed):
            self._socket.send(data, socket.MSG_DONTWAIT)
            return
        if descriptors:
            socket.send_fds(self._socket, [data], descriptors)
        else:
            self._socket.send(data)

    def receive(self) -> tuple[Message, list[int]] | None:
        """Wait for the next message; None when the other side is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _MOST, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return None
        return (_decode(data), list(descriptors)) if data else None

    def close(self) -> None:
        self._socket.close()
