"""One worker: `python -m abixio.workers.worker FD`, started by the supervisor, which is at the other end of that descriptor."""

from __future__ import annotations

import logging
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Final

from abixio import app, endpoint
from abixio import keys as keyfile
from abixio.credentials import Credentials
from abixio.errors import AbixioError
from abixio.store.assembly import rejoin
from abixio.store.crew import Crew
from abixio.volume.files import Files
from abixio.workers.channel import Brief, Channel, Failed
from abixio.workers.seat import Post, Seat

_log = logging.getLogger(__name__)

FAILED: Final = 3
"""Exit status of a worker that could not start, and has said why."""


def main(descriptor: int) -> int:
    """Wait to be told who this is, then serve; the status to end with."""
    channel = Channel(socket.socket(fileno=descriptor))
    heard = channel.receive()
    if heard is None or not isinstance(heard[0], Brief):
        return 0  # the supervisor ended before
    brief, descriptors = heard[0], heard[1]
    try:
        return app.work(brief.config, partial(_take_seat, brief, descriptors, channel))
    except AbixioError as error:
        _log.error("worker %d cannot start: %s", brief.number, error)
        with suppress(OSError):
            channel.send(Failed(str(error)))
        return FAILED


def _take_seat(brief: Brief, descriptors: list[int], channel: Channel) -> tuple[app.Ready, Seat]:
    memory, relay, *locks = descriptors
    files = Files()
    crew = Crew(memory, brief.number, brief.count, brief.born)
    files.close(memory)
    seat = Seat(crew, channel, brief.pool is None, _post(brief, relay))
    if brief.pool is None:
        return app.prepare(brief.config, crew), seat
    facts = brief.pool
    tls = endpoint.tls_context(brief.config.tls_cert, brief.config.tls_key)
    companies = {slot: crew.company(slot, True, lock) for slot, lock in zip(facts.places, locks, strict=True)}
    volumes = rejoin(facts.n, facts.places, companies, files)
    credentials = Credentials(facts.access_key, facts.secret_key)
    ring = keyfile.KeyRing(keyfile.Key(*key) for key in facts.keys)
    return app.Ready(brief.config, tls, volumes, credentials, facts.credentials_file, ring), seat


def _post(brief: Brief, descriptor: int) -> Post:
    listener = socket.socket(fileno=descriptor)
    if brief.number == 0:
        return Post(brief.relay, brief.token, listener)
    listener.close()
    return Post(brief.relay, brief.token, None)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
