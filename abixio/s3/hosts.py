"""Virtual-host style: `bucket.s3.example.com/key` instead of `s3.example.com/bucket/key`, for the domains that the server is
told are its own. A host that is none of them, an address or the domain itself means path style.

Below a domain, clients that make their host names as Amazon's are made write `s3`, `s3.dualstack` and a region in front of it:
`bucket.s3.dualstack.eu-west-1.example.com`. Those labels are part of the address, not of the bucket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

PORT: Final = re.compile(r":[0-9]*$")
REGION: Final = re.compile(r"(?:af|ap|ca|cn|eu|il|me|mx|sa|us)(?:-[a-z]+){1,3}-[1-9]")
"""The names of Amazon's regions, by their form: new ones come every year."""
_DEFAULT: Final = re.compile(r"(.*[^:]):(?:80|443)")


class Hosts:
    """The domains of one server."""

    def __init__(self, domains: Iterable[str], region: str = "us-east-1") -> None:
        # The longest first: with `example.com` and `s3.example.com`, the host `s3.example.com` names no bucket.
        self._suffixes = sorted((f".{domain}" for domain in domains), key=len, reverse=True)
        regions = f"(?:{re.escape(region)}|{REGION.pattern})"
        # `s3` alone is too short to be a bucket. `x.s3` is not: a dotted bucket.
        self._endpoint = re.compile(rf"(?:(?:(.+)\.)?s3(?:\.dualstack)?\.{regions}|s3)")

    def bucket(self, host: str) -> str:
        """The bucket that a Host header names, empty for path style. Host names know no case, and may end with a dot."""
        if not self._suffixes:
            return ""
        name = "." + PORT.sub("", host).rstrip(".").lower()
        for suffix in self._suffixes:
            if name.endswith(suffix):
                labels = name[1 : -len(suffix)]
                endpoint = self._endpoint.fullmatch(labels)
                return labels if endpoint is None else endpoint[1] or ""
        return ""


def spellings(host: str) -> list[str]:
    """The names under which a client may have signed this host: some write the default port, some leave it out, and a proxy
    between them and us may do the other."""
    with_default = _DEFAULT.fullmatch(host)
    if with_default is not None:
        return [host, with_default[1]]
    return [host] if PORT.search(host) else [host, f"{host}:443", f"{host}:80"]
