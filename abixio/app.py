"""Puts it all together: checks everything, opens the pool, serves until told to stop, ends in steps.

Nothing is written before every value, file, address and volume was found good. A signal ends the server within
END_SECONDS, also when a disk hangs: its thread cannot be taken back, so the process ends without it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import uvloop

from abixio import credentials as keys
from abixio import endpoint, logs
from abixio.banner import Facts, banner
from abixio.config import Config
from abixio.credentials import Credentials
from abixio.errors import StartupError
from abixio.http.limits import Limits
from abixio.s3.service import S3Service
from abixio.store.assembly import PoolVolumes, carry_out, survey
from abixio.store.buffers import BufferPool
from abixio.store.pool import Pool
from abixio.store.store import Store
from abixio.transport.server import Server
from abixio.volume import names
from abixio.volume.files import Files

_log = logging.getLogger(__name__)

END_SECONDS: Final = 9.5
"""From the signal to the end, whatever hangs; supervisors usually kill after 10."""
DRAIN_SECONDS: Final = 5.0
"""For running requests; the transport may take two more to cut the rest, and the volumes have to be closed after that."""
EXTRA_THREADS: Final = 16
"""Besides one for each core: they may all wait for pages of a slow disk while the arithmetic of uploads goes on. As many
as a pool may have volumes."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class _Ready:
    """What start-up has found and opened."""

    config: Config
    tls: ssl.SSLContext | None
    volumes: PoolVolumes
    credentials: Credentials
    credentials_file: str | None


def run(config: Config) -> int:
    """Serve until a signal; the status to end with. StartupError when that cannot begin."""
    logs.configure(config.log_level, config.log_json)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return uvloop.run(_serve(_prepare(config)))


# ---- before the loop -------------------------------------------------------------------------------------------------
def _prepare(config: Config) -> _Ready:
    """Checks first, then writing: format and join volumes, make credentials, open the volumes."""
    files = Files()
    given = keys.from_environment(config.access_key, config.secret_key)
    tls = endpoint.tls_context(config.tls_cert, config.tls_key)
    endpoint.check_address(config.host, config.port)
    plan = survey(config.volumes, files=files)
    if config.ftt is not None and config.ftt >= plan.n:
        raise StartupError(f"--ftt {config.ftt}: {plan.n} volumes can lose at most {plan.n - 1}")
    stored = None if given else keys.stored(files, (found.path for found in plan.present.values()))
    volumes = carry_out(plan, files)
    if given is not None:
        return _Ready(config, tls, volumes, given, None)
    try:
        credentials, holder = _kept(files, volumes, stored)
    except BaseException:
        volumes.close()
        raise
    return _Ready(config, tls, volumes, credentials, os.path.abspath(names.credentials(holder)))


def _kept(files: Files, volumes: PoolVolumes, stored: Credentials | None) -> tuple[Credentials, str]:
    """The credentials, on every volume that can take them, and a volume that did."""
    credentials = stored or keys.generate()
    holder = keys.keep(files, [volume.path for volume in volumes.by_slot.values()], credentials)
    if holder is None:
        raise StartupError("no volume can keep the credentials; set ABIXIO_ACCESS_KEY and ABIXIO_SECRET_KEY")
    return credentials, holder


# ---- in the loop -----------------------------------------------------------------------------------------------------
async def _serve(ready: _Ready) -> int:
    config, loop = ready.config, asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, stop)
    executor = ThreadPoolExecutor((os.cpu_count() or 1) + EXTRA_THREADS, thread_name_prefix="stripe")
    volumes = ready.volumes
    pool = Pool(volumes.by_slot, volumes.n, volumes.filling, config, executor, BufferPool(config.memory_budget), loop)
    store = await Store.start(pool)
    try:
        accounts = {ready.credentials.access_key: ready.credentials.secret_key}
        server = Server(S3Service(store, accounts, config), _limits(), ssl=ready.tls)
        addresses = await server.start(config.host, config.port)
        _announce(ready, addresses)
        await stop.wait()
        await server.drain(DRAIN_SECONDS)
    finally:
        await store.aclose()
        executor.shutdown(wait=False, cancel_futures=True)
    _log.info("stopped")
    return 0


def _limits() -> Limits:
    """At most half of the descriptors are for connections: without the others no shard could be opened or written."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    usual = Limits()
    return replace(usual, connections=min(usual.connections, descriptors // 2))


def _stop(stop: asyncio.Event) -> None:
    """The first signal starts the end, and the clock for it. Further ones change nothing."""
    if stop.is_set():
        return
    _log.info("stopping: running requests have %.0f seconds", DRAIN_SECONDS)
    stop.set()
    watchdog = threading.Timer(END_SECONDS, _give_up)
    watchdog.daemon = True
    watchdog.start()


def _give_up() -> None:
    """Acknowledged writes are safe without any goodbye, so nothing is lost by this."""
    _log.error("not everything ended within %.1f seconds; ending without it", END_SECONDS)
    logging.shutdown()
    os._exit(1)


def _announce(ready: _Ready, addresses: list[tuple[str, int]]) -> None:
    config, volumes = ready.config, ready.volumes
    url = endpoint.url(config.host, addresses[0][1], ready.tls is not None)
    ftt = min(1, volumes.n - 1) if config.ftt is None else config.ftt
    cert = None if config.tls_cert is None else os.path.abspath(config.tls_cert)
    missing = volumes.n - len(volumes.by_slot)
    access_key = ready.credentials.access_key
    facts = Facts(url, config.region, volumes.n, missing, len(volumes.filling), ftt, access_key, ready.credentials_file, cert)
    try:
        print(banner(facts), flush=True)
    except OSError as error:
        _log.warning("standard output is closed: %s", error.strerror)
        # Or the interpreter flushes it once more at its end, and turns that into a failure.
        sys.stdout = None
    _log.info("listening on %s", ", ".join(f"{host} port {port}" for host, port in addresses))
