"""What a client may send, and how long it may take: the limits of one HTTP connection and of the server as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from abixio.config import KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """All sizes in bytes, all times in seconds. Tests shorten them; nothing else does."""

    # ---- the request head --------------------------------------------------------------------------------------------
    head_bytes: int = 32 * KIB
    """Request line and headers. The most S3 can need: 3 KiB of percent-encoded key, a session token of up to 8 KiB, 11 KiB
    of percent-encoded tags, 2 KiB of user metadata, about 2 KiB of all else."""
    header_lines: int = 256
    """2 KiB of user metadata in lines of a few bytes, and some 40 headers that S3 knows."""
    target_bytes: int = 16 * KIB
    """3 KiB of percent-encoded key and a presigned query with a session token of up to 8 KiB."""

    # ---- memory of one connection ------------------------------------------------------------------------------------
    ahead_bytes: int = 64 * KIB
    """Received before anybody asked for it (pipelined requests); beyond it the socket is not read. One full receive buffer."""
    rest_bytes: int = 256 * KIB
    """Of an unread body, still to come: up to this it is read and thrown away so that the connection can live on, which is
    cheaper than a new connection (and TLS handshake) when it takes less than about a millisecond; beyond it we close."""
    gather_bytes: int = 16 * KIB
    """Bodies up to here are waited for with their head, for `gather_seconds`: many clients send the two one after the other, and
    a request that is there as a whole is answered with less work. As long as what the catalog keeps of one shard."""
    slice_bytes: int = 512 * KIB
    """Of a stream, handed to the kernel at a time: as much as the second-level cache of the processor holds, where it was just
    verified. Slices of 4 MiB have 0.8 of the rate, of 256 KiB 0.7 (docs/performance.md)."""
    write_high: int = 1024 * KIB
    """Unsent bytes at which the producer of a body has to wait; it goes on at a quarter. The kernel's send buffer (4 MiB by
    default) keeps the line busy."""
    tls_slice: int = 256 * KIB
    """Encrypted at a time; also `write_high` under TLS. All of a write is encrypted at once, into memory, and what of it the
    transport below still holds is counted nowhere: small slices bound both, and let a slow reader's progress be seen."""

    # ---- deadlines ---------------------------------------------------------------------------------------------------
    head_seconds: float = 30.0
    """From the first byte of a head to its last. Half of what common servers allow; a head is one packet or a few."""
    gather_seconds: float = 0.2
    """For the rest of a small body to come right behind its head; a slow client is served as it sends."""
    idle_seconds: float = 75.0
    """Between two requests, and from the connection to the first one. More than the 60 s of common load balancers, so
    that it is they who close a connection, never we while a request is on its way."""
    body_seconds: float = 30.0
    """A wait for body bytes in which fewer than `progress_bytes` came. S3 itself gives up after 20 to 30 s."""
    write_seconds: float = 60.0
    """A wait for the client to read in which it took fewer than `progress_bytes`. Longer: it may be busy with its disk."""
    progress_bytes: int = 4 * KIB
    """Separates a slow line (a modem brings this in a second) from a client that holds the connection with single bytes."""
    linger_seconds: float = 10.0
    """After an answer that did not read the body: how long we go on throwing bytes away so that the client, which may be
    writing still, finds the answer and not a reset. Enough for 1 GiB on a 1 Gbit/s line."""
    handshake_seconds: float = 20.0
    """TLS handshake: two round trips and one signature."""
    goodbye_seconds: float = 2.0
    """TLS: from our close_notify to the client's."""

    # ---- the server --------------------------------------------------------------------------------------------------
    connections: int = 16_384
    """Open at the same time; further ones are told to slow down. The design asks for 10,000 idle ones; an idle connection
    costs about 3 KiB, measured."""
    backlog: int = 1024
    """Connections the kernel accepts before we do; a burst of as many clients is served, not refused."""
