"""`/_admin/v1/`: JSON over HTTP for the holder of the root credential, and nobody else.

Every request is authenticated before anything else is looked at, by Signature V4 as for S3, for any region; docs/operations.md
has the paths. What takes long is a job: the answer is its number.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from abixio import __version__
from abixio.admin import work
from abixio.admin.answers import NotHere, answer, refusal
from abixio.admin.asks import DiscardAsk, FttAsk, HealAsk, NoAsk, check_objects, check_signed_whole, document, parameters, wrong
from abixio.admin.jobs import Jobs
from abixio.errors import AbixioError
from abixio.message import Request, Response
from abixio.s3.errors import S3Error
from abixio.s3.names import Target, check_asked_name, check_key, parse_target
from abixio.s3.sigv4 import Identity, authenticate

_log = logging.getLogger(__name__)

VERSION: Final = "v1/"

Handler = Callable[[Request, Target, Identity], Awaitable[Any]]


class Admin:
    """Application over a store and its jobs."""

    def __init__(
        self, store: work.Repairable, jobs: Jobs, root: Mapping[str, str], directories: Mapping[int, str]
    ) -> None:
        """`root`: access key -> secret of the root credential; `directories`: where the volumes are, by slot."""
        self._store = store
        self._jobs = jobs
        self._root = root
        self._directories = directories
        self._started = time.time()
        self._routes: Mapping[str, Mapping[str, Handler]] = {
            "status": {"GET": self._status},
            "inspect": {"GET": self._inspect},
            "heal": {"POST": self._heal},
            "ftt": {"POST": self._ftt},
            "discard": {"POST": self._discard},
            "scan": {"POST": self._scan},
            "jobs": {"GET": self._list_jobs},
            "jobs/": {"GET": self._job, "DELETE": self._cancel},
        }

    async def __call__(self, request: Request) -> Response:
        try:
            target = parse_target(request.target)
            identity = authenticate(request, target, self._root, None, time.time())
            content = await self._handler(request, target, identity)(request, target, identity)
            return answer(content, request.id)
        except AbixioError as error:
            return refusal(error, request.id)
        except Exception as error:
            # Left to the transport, it would be answered as S3 does, in XML.
            _log.exception("request %s: %s %r failed", request.id, request.method, request.target.partition(b"?")[0])
            return refusal(error, request.id)

    def refuse(self, error: Exception, request_id: str) -> Response:
        """What the transport answers when a handler failed."""
        return refusal(error, request_id)

    def _handler(self, request: Request, target: Target, identity: Identity) -> Handler:
        """NotHere; MethodNotAllowed; AccessDenied for a change that is not signed whole; UnexpectedContent."""
        name = target.key.removeprefix(VERSION) if target.key.startswith(VERSION) else ""
        methods = self._routes.get("jobs/" if name.startswith("jobs/") else name)
        if methods is None:
            raise NotHere("NoSuchPath", "There is nothing here; the paths are " + ", ".join(
                f"/_admin/{VERSION}{path}" for path in self._routes
            ))  # fmt: skip
        handler = methods.get(request.method)
        if handler is None:
            raise S3Error("MethodNotAllowed", headers=[("Allow", ", ".join(methods))])
        if request.method != "GET":
            check_signed_whole(request, identity)
        if request.method != "POST" and request.body.length != 0:
            raise S3Error("UnexpectedContent")
        return handler

    # ---- what is there -----------------------------------------------------------------------------------------------
    async def _status(self, request: Request, target: Target, identity: Identity) -> Any:
        parameters(target.params)
        return {
            "version": __version__,
            "up_seconds": int(time.time() - self._started),
            "directories": self._directories,
            "repair": await self._store.repair_status(),
            "jobs": [job.view() for job in self._jobs.all() if job.ended is None],
        }

    async def _inspect(self, request: Request, target: Target, identity: Identity) -> Any:
        name, key, quick = parameters(target.params, "bucket", "key", quick="false")
        check_asked_name(name)
        check_key(key)
        if quick not in ("true", "false"):
            raise wrong("the parameter 'quick' is true or false")
        versions = await self._store.inspect(await self._store.bucket(name), key, deep=quick == "false")
        return {"bucket": name, "key": key, "directories": self._directories, "versions": versions}

    async def _discard(self, request: Request, target: Target, identity: Identity) -> Any:
        ask = await document(request, identity, DiscardAsk)
        check_objects(ask.bucket, ask.key, None)
        discarded = await self._store.discard(await self._store.bucket(ask.bucket), ask.key)
        return {"bucket": ask.bucket, "key": ask.key, "discarded": discarded}

    # ---- jobs --------------------------------------------------------------------------------------------------------
    async def _heal(self, request: Request, target: Target, identity: Identity) -> Any:
        ask = await document(request, identity, HealAsk)
        ask.check()
        bucket = None if ask.all else await self._store.bucket(ask.bucket)
        described = {"all": True} if ask.all else _described(ask)
        return {"job": self._jobs.add("heal", described, work.heal(self._store, ask, bucket)).id}

    async def _ftt(self, request: Request, target: Target, identity: Identity) -> Any:
        ask = await document(request, identity, FttAsk)
        check_objects(ask.bucket, ask.key, ask.prefix)
        if str(ask.ftt) not in map(str, range(self._store.n)):
            raise wrong(f'"ftt" is an integer from 0 to {self._store.n - 1}: there are {self._store.n} volumes')
        bucket = await self._store.bucket(ask.bucket)
        described = _described(ask) | {"ftt": int(ask.ftt)}
        return {"job": self._jobs.add("ftt", described, work.reencode(self._store, ask, bucket)).id}

    async def _scan(self, request: Request, target: Target, identity: Identity) -> Any:
        await document(request, identity, NoAsk)
        return {"job": self._jobs.add("scan", {"all": True}, work.scan(self._store)).id}

    async def _list_jobs(self, request: Request, target: Target, identity: Identity) -> Any:
        parameters(target.params)
        return {"jobs": [job.view() for job in self._jobs.all()]}

    async def _job(self, request: Request, target: Target, identity: Identity) -> Any:
        parameters(target.params)
        return self._jobs.get(target.key.removeprefix(VERSION + "jobs/")).view()

    async def _cancel(self, request: Request, target: Target, identity: Identity) -> Any:
        parameters(target.params)
        job = self._jobs.get(target.key.removeprefix(VERSION + "jobs/"))
        self._jobs.cancel(job)
        return job.view()


def _described(ask: HealAsk | FttAsk) -> dict[str, Any]:
    """What the job is about, as it was named."""
    return {"bucket": ask.bucket} | ({"key": ask.key} if ask.key is not None else {"prefix": ask.prefix})
