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
from abixio import keys as keyfile
from abixio.accesslog import AccessLog
from abixio.admin.front import Front
from abixio.admin.jobs import Jobs
from abixio.admin.router import Admin
from abixio.banner import Facts, banner
from abixio.config import Config
from abixio.credentials import Credentials
from abixio.errors import StartupError
from abixio.http.limits import Limits
from abixio.logged import Logged
from abixio.message import Application
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
LOG_SECONDS: Final = 1.0
"""For the last lines of the access log: its reader may have stopped reading."""
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
    keys: keyfile.KeyRing


def run(config: Config) -> int:
    """Serve until a signal; the status to end with. StartupError when that cannot begin."""
    logs.configure(config.log_level, config.log_json)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    access_log = None if config.access_log is None else AccessLog(config.access_log, config.log_json)
    try:
        return uvloop.run(_serve(_prepare(config), access_log))
    finally:
        if access_log is not None:
            access_log.close(LOG_SECONDS)


# ---- before the loop -------------------------------------------------------------------------------------------------
def _prepare(config: Config) -> _Ready:
    """Checks first, then writing: format and join volumes, make credentials, open the volumes."""
    files = Files()
    given = keys.from_environment(config.access_key, config.secret_key)
    tls = endpoint.tls_context(config.tls_cert, config.tls_key)
    endpoint.check_address(config.host, config.port)
    plan = survey(config.volumes, files=files)
    if config.ftt is not None and config.ftt >= plan.n:
        raise StartupError(f"--ftt {config.ftt}: of {plan.n} volume{'s' * (plan.n > 1)}, at most {plan.n - 1} can be lost")
    stored = None if given else keys.stored(files, (found.path for found in plan.present.values()))
    ring = keyfile.stored(files, [found.path for found in plan.present.values()], config.master_key_file)
    volumes = carry_out(plan, files)
    try:
        ring = _completed(files, volumes, config, ring)
        if given is not None:
            return _Ready(config, tls, volumes, given, None, ring)
        credentials, holder = _kept(files, volumes, stored)
    except BaseException:
        volumes.close()
        raise
    return _Ready(config, tls, volumes, credentials, os.path.abspath(names.credentials(holder)), ring)


def _completed(files: Files, volumes: PoolVolumes, config: Config, ring: keyfile.KeyRing) -> keyfile.KeyRing:
    """The keys, with all that the server needs; as they were where no volume takes new ones, as when all are read-only."""
    wanted = keyfile.complete(ring, config.kms_key_ids)
    if keyfile.keep(files, [volume.path for volume in volumes.by_slot.values()], config.master_key_file, wanted):
        return wanted
    _log.warning("no volume can keep the key file: what needs a new key is refused")
    return ring


def _kept(files: Files, volumes: PoolVolumes, stored: Credentials | None) -> tuple[Credentials, str]:
    """The credentials, on every volume that can take them, and a volume that did."""
    credentials = stored or keys.generate()
    holder = keys.keep(files, [volume.path for volume in volumes.by_slot.values()], credentials)
    if holder is None:
        raise StartupError("no volume can keep the credentials; set ABIXIO_ACCESS_KEY and ABIXIO_SECRET_KEY")
    return credentials, holder


# ---- in the loop -----------------------------------------------------------------------------------------------------
async def _serve(ready: _Ready, access_log: AccessLog | None) -> int:
    config, loop = ready.config, asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, stop, number)
    if access_log is not None:
        loop.add_signal_handler(signal.SIGHUP, access_log.renew)
    executor = ThreadPoolExecutor((os.cpu_count() or 1) + EXTRA_THREADS, thread_name_prefix="stripe")
    volumes = ready.volumes
    pool = Pool(volumes.by_slot, volumes.n, volumes.filling, config, executor, BufferPool(config.memory_budget), loop)
    store = await Store.start(pool)
    jobs = Jobs()
    try:
        server = Server(_application(ready, store, jobs, access_log), _limits(), ssl=ready.tls)
        addresses = await server.start(config.host, config.port)
        _announce(ready, addresses)
        await stop.wait()
        await asyncio.gather(jobs.aclose(DRAIN_SECONDS), server.drain(DRAIN_SECONDS))
    finally:
        await store.aclose()
        executor.shutdown(wait=False, cancel_futures=True)
    _log.info("stopped")
    return 0


def _application(ready: _Ready, store: Store, jobs: Jobs, access_log: AccessLog | None) -> Application:
    root = {ready.credentials.access_key: ready.credentials.secret_key}
    directories = {slot: os.path.abspath(volume.path) for slot, volume in ready.volumes.by_slot.items()}
    admin = Admin(store, jobs, root, directories)
    app = Front(S3Service(store, root, ready.config, ready.keys), admin, ready.config)
    return app if access_log is None else Logged(app, access_log)


def _limits() -> Limits:
    """At most a third of the descriptors are for connections, and an eighth for those accepted only to be turned away:
    without the others no shard could be opened or written."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    usual = Limits()
    return replace(usual, connections=min(usual.connections, descriptors // 3), backlog=min(usual.backlog, descriptors // 8))


def _stop(stop: asyncio.Event, number: int) -> None:
    """The first signal starts the end, and the clock for it. Another Ctrl-C means now; a supervisor that repeats itself
    changes nothing."""
    if stop.is_set():
        if number == signal.SIGINT:
            _log.warning("interrupted again: ending at once")
            _exit(128 + number)
        return
    _log.info("stopping: running requests have %.0f seconds; Ctrl-C ends them now", DRAIN_SECONDS)
    stop.set()
    watchdog = threading.Timer(END_SECONDS, _give_up)
    watchdog.daemon = True
    watchdog.start()


def _give_up() -> None:
    _log.error("not everything ended within %.1f seconds; ending without it", END_SECONDS)
    _exit(1)


def _exit(status: int) -> None:
    """Acknowledged writes are safe without any goodbye, so nothing is lost by this."""
    logging.shutdown()
    os._exit(status)


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
