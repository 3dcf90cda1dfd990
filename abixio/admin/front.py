"""The application that the server serves: what begins with `/_admin/` is for the admin router, all else is S3.

`_admin` can be no bucket. Where the Host header names the bucket the whole path is a key, so there nothing is taken away.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

from abixio.config import Config
from abixio.message import Answer, Application, Promise, Request, Response
from abixio.s3.hosts import Hosts
from abixio.s3.proxies import Proxies

PREFIX: Final = b"/_admin/"


class Front:
    """Application over two others."""

    def __init__(self, s3: Application, admin: Application, config: Config) -> None:
        self._s3 = s3
        self._admin = admin
        self._hosts = Hosts(config.domains, config.region)
        self._proxies = Proxies(config.trusted_proxies)

    def __call__(self, request: Request) -> Answer | Promise | Coroutine[Any, Any, Response]:
        """Not a coroutine itself: for the other surface, an S3 request pays one comparison of bytes."""
        if request.target.startswith(PREFIX) and self._ours(request):
            return self._admin(request)
        return self._s3(request)

    def refuse(self, error: Exception, request_id: str) -> Response:
        """A request that could not be read has no path, so nobody knows whose it was."""
        return self._s3.refuse(error, request_id)

    def _ours(self, request: Request) -> bool:
        self._proxies.apply(request)
        return not self._hosts.bucket(request.headers.get("host", ""))
