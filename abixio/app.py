"""Puts it all together: checks everything, opens the pool, serves until told to stop, ends in steps.

Nothing is written before every value, file, address and volume was found good. A signal ends the server within
END_SECONDS, also when a disk hangs: its thread cannot be taken back, so the process ends without it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import uvloop

from abixio import credentials as keys
from abixio import endpoint, logs
from abixio import keys as keyfile
from abixio.accesslog import AccessLog
from abixio.admin.front import Front
from abixio.admin.jobs import Jobs
from abixio.admin.router import Admin
from abixio.banner import Facts, announce, banner
from abixio.config import Config
from abixio.credentials import Credentials
from abixio.errors import StartupError
from abixio.http.limits import Limits
from abixio.logged import Logged
from abixio.message import Application
from abixio.s3.service import S3Service
from abixio.store.assembly import PoolVolumes, carry_out, survey
from abixio.store.buffers import BufferPool
from abixio.store.crew import Crew
from abixio.store.pool import Pool
from abixio.store.store import Store
from abixio.transport.server import Server
from abixio.volume import names
from abixio.volume.files import Files
from abixio.workers.channel import Pool as PoolFacts
from abixio.workers.relay import Relay, RelayServer

if TYPE_CHECKING:
    from abixio.workers.seat import Seat

_log = logging.getLogger(__name__)

END_SECONDS: Final = 9.5
"""From the signal to the end, whatever hangs; supervisors usually kill after 10."""
DRAIN_SECONDS: Final = 5.0
"""For running requests; the transport may take two more to cut the rest, and the volumes have to be closed after that."""
SPARE_SECONDS: Final = 1.5
"""Of END_SECONDS, for the runner alone: it ends after the other workers."""
YOUNG: Final = 20_000
"""Objects between two looks of the garbage collector at the newest ones: requests leave no cycles as a rule, and those under
way at the same time, which it would look through in vain, are a thousand objects."""
LOG_SECONDS: Final = 1.0
"""For the last lines of the access log: its reader may have stopped reading."""
EXTRA_THREADS: Final = 16
"""Besides one for each core: they may all wait for pages of a slow disk while the arithmetic of uploads goes on. As many
as a pool may have volumes."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class Ready:
    """What start-up has found and opened."""

    config: Config
    tls: ssl.SSLContext | None
    volumes: PoolVolumes
    credentials: Credentials
    credentials_file: str | None
    keys: keyfile.KeyRing


def run(config: Config) -> int:
    """Serve until a signal; the status to end with. StartupError when that cannot begin."""
    return work(config, lambda: (prepare(config), None))


def work(config: Config, begin: Callable[[], tuple[Ready, Seat | None]]) -> int:
    """One process: alone, or a worker with a seat among others."""
    logs.configure(config.log_level, config.log_json)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.freeze()  # modules stay
    gc.set_threshold(YOUNG)
    access_log = None if config.access_log is None else AccessLog(config.access_log, config.log_json)
    try:
        return uvloop.run(_serve(*begin(), access_log))
    finally:
        if access_log is not None:
            access_log.close(LOG_SECONDS)


# ---- before the loop -------------------------------------------------------------------------------------------------
def prepare(config: Config, crew: Crew | None = None) -> Ready:
    """Checks first, then writing: format and join volumes, make credentials, open the volumes. With a crew, for all of it."""
    files = Files()
    given = keys.from_environment(config.access_key, config.secret_key)
    tls = endpoint.tls_context(config.tls_cert, config.tls_key)
    if crew is None:
        endpoint.check_address(config.host, config.port)  # which the supervisor of a crew has taken
    plan = survey(config.volumes, files=files)
    if config.ftt is not None and config.ftt >= plan.n:
        raise StartupError(f"--ftt {config.ftt}: of {plan.n} volume{'s' * (plan.n > 1)}, at most {plan.n - 1} can be lost")
    stored = None if given else keys.stored(files, (found.path for found in plan.present.values()))
    ring = keyfile.stored(files, [found.path for found in plan.present.values()], config.master_key_file)
    volumes = carry_out(plan, files, None if crew is None else lambda slot: crew.company(slot, False))
    try:
        ring = _completed(files, volumes, config, ring)
        if given is not None:
            return Ready(config, tls, volumes, given, None, ring)
        credentials, holder = _kept(files, volumes, stored)
    except BaseException:
        volumes.close()
        raise
    return Ready(config, tls, volumes, credentials, os.path.abspath(names.credentials(holder)), ring)


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
async def _serve(ready: Ready, seat: Seat | None, access_log: AccessLog | None) -> int:
    config, loop = ready.config, asyncio.get_running_loop()
    stop = asyncio.Event()
    late = END_SECONDS if seat is None or seat.crew.runner else END_SECONDS - SPARE_SECONDS
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, stop, number, late)
    if seat is not None:
        seat.listen(lambda: _stop(stop, signal.SIGTERM, late))
    if access_log is not None:
        loop.add_signal_handler(signal.SIGHUP, access_log.renew)
    executor = ThreadPoolExecutor((os.cpu_count() or 1) + EXTRA_THREADS, thread_name_prefix="stripe")
    volumes, crew = ready.volumes, None if seat is None else seat.crew
    pool = Pool(volumes.by_slot, volumes.n, volumes.filling, config, executor, BufferPool(config.memory_budget), loop, crew)
    pool.joins = seat is not None and not seat.first
    store = await Store.start(pool)
    jobs = Jobs()
    try:
        if seat is not None:
            _meet_others(seat, ready, store)
        admin = await _admin(ready, store, jobs, seat)
        server = Server(_application(ready, store, admin, access_log), _limits(), ssl=ready.tls)
        addresses = await server.start(config.host, config.port, shared=seat is not None)
        if seat is None:
            announce(_banner(ready, addresses[0][1]), addresses)
        else:
            seat.serving(addresses)
        await stop.wait()
        await asyncio.gather(jobs.aclose(DRAIN_SECONDS), server.drain(DRAIN_SECONDS))
        if seat is not None:
            await _let_others_end(seat, volumes)
        if isinstance(admin, RelayServer):
            admin.close()
    finally:
        await store.aclose()
        executor.shutdown(wait=False, cancel_futures=True)
    _log.info("stopped")
    return 0


def _meet_others(seat: Seat, ready: Ready, store: Store) -> None:
    if seat.crew.runner:
        seat.on_notice = store.notice
    else:
        store.notice = seat.notice
    if seat.first:
        seat.prepared(_facts(ready, store.pool), ready.volumes, _banner(ready, ready.config.port))


def _facts(ready: Ready, pool: Pool) -> PoolFacts:
    """What those need to know who join; volumes that failed when they were checked are left out by them too."""
    volumes, credentials = ready.volumes.by_slot, ready.credentials
    well = [lane.slot for lane in pool.lanes if lane is not None and lane.failed is None]
    places = {slot: os.path.abspath(volumes[slot].path) for slot in well}
    keys = [(key.id, key.name, key.created, key.secret) for key in ready.keys.keys]
    return PoolFacts(pool.n, places, credentials.access_key, credentials.secret_key, ready.credentials_file, keys)


async def _let_others_end(seat: Seat, volumes: PoolVolumes) -> None:
    """The runner ends last, and says in the catalogs that all is well if all have ended well."""
    last = await seat.dismissed()
    for volume in volumes.by_slot.values():
        if volume.company is not None:
            volume.company.last = last


async def _admin(ready: Ready, store: Store, jobs: Jobs, seat: Seat | None) -> Application:
    """The admin surface: here, or in the runner."""
    if seat is not None and seat.post.listener is None:
        return Relay(seat.post.name, seat.post.token)
    admin = Admin(store, jobs, {ready.credentials.access_key: ready.credentials.secret_key}, _directories(ready))
    if seat is None or seat.post.listener is None:
        return admin
    server = RelayServer(admin, seat.post.token)
    await server.start(seat.post.listener)
    return server


def _directories(ready: Ready) -> dict[int, str]:
    return {slot: os.path.abspath(volume.path) for slot, volume in ready.volumes.by_slot.items()}


def _application(ready: Ready, store: Store, admin: Application, access_log: AccessLog | None) -> Application:
    root = {ready.credentials.access_key: ready.credentials.secret_key}
    app = Front(S3Service(store, root, ready.config, ready.keys), admin, ready.config)
    return app if access_log is None else Logged(app, access_log)


def _limits() -> Limits:
    """At most a third of the descriptors are for connections, and an eighth for those accepted only to be turned away:
    without the others no shard could be opened or written."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    usual = Limits()
    return replace(usual, connections=min(usual.connections, descriptors // 3), backlog=min(usual.backlog, descriptors // 8))


def _stop(stop: asyncio.Event, number: int, seconds: float | None = None) -> None:
    """The first signal starts the end, and the clock for it. Another Ctrl-C means now; a supervisor that repeats itself
    changes nothing."""
    if stop.is_set():
        if number == signal.SIGINT:
            _log.warning("interrupted again: ending at once")
            _exit(128 + number)
        return
    _log.info("stopping: running requests have %.0f seconds; Ctrl-C ends them now", DRAIN_SECONDS)
    stop.set()
    seconds = END_SECONDS if seconds is None else seconds
    watchdog = threading.Timer(seconds, _give_up, (seconds,))
    watchdog.daemon = True
    watchdog.start()


def _give_up(seconds: float) -> None:
    _log.error("not everything ended within %.1f seconds; ending without it", seconds)
    _exit(1)


def _exit(status: int) -> None:
    """Acknowledged writes are safe without any goodbye, so nothing is lost by this."""
    logging.shutdown()
    os._exit(status)


def _banner(ready: Ready, port: int) -> str:
    config, volumes = ready.config, ready.volumes
    url = endpoint.url(config.host, port, ready.tls is not None)
    ftt = min(1, volumes.n - 1) if config.ftt is None else config.ftt
    cert = None if config.tls_cert is None else os.path.abspath(config.tls_cert)
    missing = volumes.n - len(volumes.by_slot)
    access_key = ready.credentials.access_key
    facts = Facts(url, config.region, volumes.n, missing, len(volumes.filling), ftt, access_key, ready.credentials_file, cert)
    return banner(facts)
