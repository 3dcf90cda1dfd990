"""Virtual-host style: `bucket.s3.example.com/key` instead of `s3.example.com/bucket/key`, for the domains that the server is
told are its own. A host that is none of them, an address or the domain itself means path style."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

PORT: Final = re.compile(r":[0-9]*$")


class Hosts:
    """The domains of one server."""

    def __init__(self, domains: Iterable[str]) -> None:
        # The longest first: with `example.com` and `s3.example.com`, the host `s3.example.com` names no bucket.
        self._suffixes = sorted((f".{domain}" for domain in domains), key=len, reverse=True)

    def bucket(self, host: str) -> str:
        """The bucket that a Host header names, empty for path style. Host names know no case, and may end with a dot."""
        if not self._suffixes:
            return ""
        name = "." + PORT.sub("", host).rstrip(".").lower()
        for suffix in self._suffixes:
            if name.endswith(suffix):
                return name[1 : -len(suffix)]
        return ""
