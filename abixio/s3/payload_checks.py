"""What a request says its payload must hash to, in Content-MD5, x-amz-content-sha256 and x-amz-checksum-*; and the check."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from abixio._sign import is_sha256
from abixio.s3.errors import S3Error, digest_message
from abixio.s3.sigv4_claim import STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER

PREFIX: Final = "x-amz-checksum-"
SDK: Final = "x-amz-sdk-checksum-algorithm"
SIZES: Final[Mapping[str, int]] = {
    "crc32": 4, "crc32c": 4, "crc64nvme": 8, "sha1": 20, "sha256": 32, "sha512": 64, "md5": 16, "xxhash64": 8, "xxhash3": 8,
    "xxhash128": 16,
}
"""The checksum algorithms, and the bytes of each digest."""
DEFAULT: Final = "crc64nvme"
"""What an object gets when its client sends none, as in S3. It costs 40 us per MiB."""
NOT_DIGESTS: Final = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-checksum-mode"})
"""Headers that look like a checksum and say something about one."""
PLAIN: Final = frozenset({
    "host", "user-agent", "accept", "accept-encoding", "accept-language", "connection", "expect", "content-length",
    "content-type", "content-md5", "transfer-encoding", "date", "authorization", "x-amz-date", "x-amz-content-sha256",
    "x-amz-user-agent", "amz-sdk-invocation-id", "amz-sdk-request",
})
"""Headers of nearly every upload, none of which is about a checksum. One look tells that there are no others."""
BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)

UNSUPPORTED_TRAILER: Final = "The value specified in the x-amz-trailer header is not supported"
MORE_THAN_ONE: Final = "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."


class Checks:
    """The digests that were announced. A trailer announces one too, and brings its value when the body has been read."""

    __slots__ = ("added", "algorithm", "algorithms", "digest", "md5", "sha256", "trailer")

    def __init__(self, headers: Mapping[str, str], payload: str, checksums: bool = True) -> None:
        """InvalidDigest, InvalidRequest. `payload` is `Identity.payload`; without `checksums` the x-amz-checksum-*
        headers are about something else than this body."""
        self.sha256 = bytes.fromhex(payload) if is_sha256(payload) else None
        self.md5 = _content_md5(headers["content-md5"]) if "content-md5" in headers else None
        self.algorithm: str | None = None
        self.digest: bytes | None = None
        self.added: str | None = None
        """One more algorithm, of our choice: there is nothing to compare its checksum with."""
        self.trailer: str | None = None
        """The one trailer that must come, by its full name."""
        if not headers.keys() <= PLAIN:
            if checksums:
                self._read_checksum(headers)
            if "x-amz-trailer" in headers:
                self._read_trailer(headers["x-amz-trailer"], payload)
            if checksums and SDK in headers:
                _check_sdk_algorithm(headers[SDK], self.algorithm)
        self.algorithms = _together(self.sha256 is not None, self.md5 is not None, self.algorithm)

    def _read_checksum(self, headers: Mapping[str, str]) -> None:
        names = [name for name in headers if name.startswith(PREFIX) and name not in NOT_DIGESTS]
        if not names:
            return
        if len(names) > 1:
            raise S3Error("InvalidRequest", MORE_THAN_ONE)
        self.algorithm = names[0].removeprefix(PREFIX)
        if self.algorithm not in SIZES:
            raise S3Error("InvalidRequest", "The algorithm type you specified in x-amz-checksum- header is invalid.")
        self.digest = decode_digest(headers[names[0]], SIZES[self.algorithm])
        if self.digest is None:
            raise S3Error("InvalidRequest", f"Value for {names[0]} header is invalid.")

    def _read_trailer(self, declared: str, payload: str) -> None:
        """A promised checksum that nobody would look at is refused, not ignored."""
        self.trailer = declared.strip().lower()
        algorithm = self.trailer.removeprefix(PREFIX)
        trailing = payload in (STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER)
        if not trailing or not self.trailer.startswith(PREFIX) or algorithm not in SIZES:
            raise S3Error("InvalidRequest", UNSUPPORTED_TRAILER)
        if self.algorithm is not None:
            raise S3Error("InvalidRequest", MORE_THAN_ONE)
        self.algorithm = algorithm

    def add(self, algorithm: str) -> None:
        """Compute that checksum too, to be kept."""
        self.added = algorithm
        self.algorithms |= {algorithm}

    def take_trailers(self, found: Mapping[str, str]) -> None:
        """What came behind the body must be what was declared. MalformedTrailerError, InvalidRequest."""
        if set(found) != ({self.trailer} if self.trailer else set()):
            raise S3Error("MalformedTrailerError")
        if self.trailer and self.algorithm:
            self.digest = decode_digest(found[self.trailer], SIZES[self.algorithm])
            if self.digest is None:
                raise S3Error("InvalidRequest", f"Value for {self.trailer} trailing header is invalid.")

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        """BadDigest, XAmzContentSHA256Mismatch; or the checksums to keep, algorithm -> base64, the client's first."""
        if self.sha256 is not None and digests["sha256"] != self.sha256:
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                ClientComputedContentSHA256=self.sha256.hex(), S3ComputedContentSHA256=digests["sha256"].hex(),
            )
        if self.md5 is not None and digests["md5"] != self.md5:
            raise S3Error("BadDigest", ExpectedDigest=_base64(self.md5), CalculatedDigest=_base64(digests["md5"]))
        if self.algorithm is not None and digests[self.algorithm] != self.digest:
            raise S3Error("BadDigest", digest_message(self.algorithm))
        return {name: _base64(digests[name]) for name in (self.algorithm, self.added) if name is not None}


@lru_cache(maxsize=512)
def _together(sha256: bool, md5: bool, algorithm: str | None) -> frozenset[str]:
    """The names of all of them. There are few of these sets, and every upload wants one."""
    wanted = ((sha256, "sha256"), (md5, "md5"), (algorithm is not None, algorithm or ""))
    return frozenset(name for is_wanted, name in wanted if is_wanted)


def _content_md5(value: str) -> bytes:
    digest = decode_digest(value, 16)
    if digest is None:
        error = S3Error("InvalidDigest")
        error.fields["Content-MD5"] = value
        raise error
    return digest


def _check_sdk_algorithm(announced: str, algorithm: str | None) -> None:
    """SDK repeats which checksum is sent."""
    if announced.lower() not in SIZES or algorithm not in (None, announced.lower()):
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
    if algorithm is None:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
        )


def decode_digest(value: str, size: int) -> bytes | None:
    """A digest of `size` bytes from base64; None when it is not exactly that."""
    if not BASE64.fullmatch(value):
        return None
    try:
        digest = a2b_base64(value, strict_mode=True)
    except Base64Error:
        return None
    return digest if len(digest) == size else None


def _base64(digest: bytes) -> str:
    return b2a_base64(digest, newline=False).decode("ascii")
