"""One authenticated request on its way through the handlers: what was asked, by whom, and the store to ask."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

from abixio.config import Config
from abixio.message import Request, Response
from abixio.s3.documents import Documents
from abixio.s3.envelope import Keys, NoKeys
from abixio.s3.errors import S3Error
from abixio.s3.payload_checks import SIZES
from abixio.s3.sigv4 import Identity
from abixio.s3.xml import Fragment, Node, node, text
from abixio.store.api import StoreAPI
from abixio.store.record import Part, Record
from abixio.store.types import Bucket

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NO_KEYS: Final = NoKeys()
MAX_INT: Final = 2**31 - 1
"""S3 reads page sizes and markers as 32-bit integers."""
OWNER: Final = "x-amz-expected-bucket-owner"
CHECKSUMS: Final = tuple(SIZES)
"""The algorithms of x-amz-checksum-* that are computed and kept."""


class Owner(NamedTuple):
    """Who owns a bucket or object, as S3 shows it."""

    id: str
    name: str

    def element(self, name: str = "Owner") -> Fragment:
        return node(name, text("ID", self.id), text("DisplayName", self.name))


def root_owner(access_key: str) -> Owner:
    """The holder of the root credential. S3's canonical ids are 64 hex digits; this one stays the same as long as the
    access key does, and does not give the key away."""
    return Owner(sha256(b"abixio root " + access_key.encode()).hexdigest(), "root")


@dataclass(slots=True)
class Call:
    """What a handler gets."""

    request: Request
    bucket_name: str
    key: str
    query: Mapping[str, str]
    identity: Identity
    owner: Owner
    store: StoreAPI
    config: Config
    documents: Documents
    keys: Keys = _NO_KEYS

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers

    @property
    def place(self) -> str:
        """The address of the request, spelt as the client spelt it, in either style of addressing."""
        scheme, path = "https" if self.request.secure else "http", self.request.target.partition(b"?")[0]
        return f"{scheme}://{self.headers.get('host', '')}{path.decode('ascii', 'replace')}"

    async def bucket(self) -> Bucket:
        """The bucket of the path, which must belong to whom the client expects: NoSuchBucket, AccessDenied."""
        bucket = await self.store.bucket(self.bucket_name)
        check_owner(bucket, self.headers.get(OWNER))
        return bucket

    async def document(self, root: str, limit: int, checksums: bool = True) -> Node:
        """The body, as `Documents.read`."""
        return await self.documents.read(self.request, self.identity, root, limit, checksums)

    @property
    def version(self) -> str | None:
        """The version id that the query asks for."""
        return self.query.get("versionId")

    def page_size(self, name: str, default: int = 1000) -> int:
        """A page size of the query; above `default`, S3's own limit, it is cut, as S3 does."""
        return min(self.integer(name, default, 0, MAX_INT), default)

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """An integer of the query; `default` when it is not there or empty. InvalidArgument when it is none, or out of range."""
        return _integer(name, self.query.get(name), default, least, most)

    def header_integer(self, name: str, default: int, least: int, most: int) -> int:
        """The same of a header."""
        return _integer(name, self.headers.get(name), default, least, most)


def _integer(name: str, value: str | None, default: int, least: int, most: int) -> int:
    if not value:
        return default
    if not _INTEGER.fullmatch(value):
        raise S3Error("InvalidArgument", f"Provided {name} not an integer or within integer range",
                      ArgumentName=name, ArgumentValue=value)
    number = int(value)
    if not least <= number <= most:
        raise S3Error("InvalidArgument", f"Argument {name} must be an integer between {least} and {most}",
                      ArgumentName=name, ArgumentValue=value)
    return number


Handler = Callable[[Call], Awaitable[Response]]


def check_owner(bucket: Bucket, expected: str | None) -> None:
    """x-amz-expected-bucket-owner: AccessDenied when the bucket is somebody else's."""
    if expected is not None and expected != bucket.owner:
        raise S3Error("AccessDenied")


def demand_digest(call: Call) -> None:
    """S3 takes no list of deletions, and nothing about locks, that is not protected against a flipped bit; the payload source
    checks the digest. InvalidRequest."""
    trailers = call.headers.get("x-amz-trailer", "")
    if "content-md5" in call.headers or any(
        "x-amz-checksum-" + name in call.headers or "x-amz-checksum-" + name in trailers for name in CHECKSUMS
    ):
        return
    raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")


def xml_answer(body: bytes, headers: list[tuple[str, str]] | None = None) -> Response:
    """A 200 with a document."""
    return Response(200, [("Content-Type", "application/xml"), *(headers or [])], body)


def quoted(etag: str) -> str:
    """An ETag as it is sent."""
    return f'"{etag}"'


def http_date(ms: int) -> str:
    return _http_date(ms // 1000)


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    """Formatting costs as much as routing; objects that are read often are read again."""
    return formatdate(seconds, usegmt=True)


def iso_date(ms: int) -> str:
    """As S3 writes times in XML: whole seconds, so that they agree with Last-Modified."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(ms // 1000))


def checksum_headers(record: Record) -> list[tuple[str, str]]:
    """The checksums kept with an object, as headers."""
    if not record.checksums:
        return []
    found = [("x-amz-checksum-" + name, value) for name, value in record.checksums.items()]
    found.append(("x-amz-checksum-type", record.checksum_type or "FULL_OBJECT"))
    return found


def sums_of(record: Record, part: Part) -> dict[str, str]:
    """The checksums of a part of the kind that the object has. It may have been sent with another one."""
    return {name: value for name, value in part.checksums.items() if name in record.checksums}


def checksum_elements(checksums: Mapping[str, str], kind: str = "") -> list[Fragment]:
    """The same in XML: ChecksumCRC32 and its like."""
    found = [text("Checksum" + name.upper(), value) for name, value in checksums.items()]
    if found and kind:
        found.append(text("ChecksumType", kind))
    return found
