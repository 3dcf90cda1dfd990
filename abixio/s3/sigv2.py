"""Signature Version 2 in the query: the URLs that `aws s3 presign`, `s3cmd signurl` and boto3 make unless they are told
otherwise. For single objects only: this version does not sign what a listing asks for, so that a URL could be turned into
another listing. The form of version 2 in the Authorization header, which no client uses by default, is not taken.

    text = METHOD LF Content-MD5 LF Content-Type LF Expires LF *( x-amz-name ":" value LF ) resource
    signature = base64(HMAC-SHA1(secret, text))
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from abixio._sign import canonical_path, is_sha256
from abixio.message import Request
from abixio.s3.errors import S3Error
from abixio.s3.names import Target, query_pairs
from abixio.s3.router import SUB_RESOURCES
from abixio.s3.sigv4 import Identity, same
from abixio.s3.sigv4_claim import PAYLOAD_HEADER, STREAMING_UNSIGNED_TRAILER, UNSIGNED, iso, refuse_mechanism

NAMES: Final = ("AWSAccessKeyId", "Signature", "Expires")
SECONDS: Final = re.compile(r"[0-9]{1,12}")
"""Since 1970; twelve digits reach the year 33658."""
CARRIED: Final = ("content-md5", "content-type")
"""Signed as headers, and perhaps moved into the query, as are all of x-amz-*."""
CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
LATEST: Final = 253402300799
"""The last second of the year 9999, which is as far as dates can be written."""


def is_version_2(params: Mapping[str, str]) -> bool:
    return "Signature" in params and "AWSAccessKeyId" in params


def authenticate_url(request: Request, target: Target, credentials: Mapping[str, str], now: float) -> Identity:
    """The caller who signed the URL, or S3Error: AccessDenied, InvalidAccessKeyId, SignatureDoesNotMatch, InvalidRequest."""
    access_key, signature, expires = (target.params.get(name, "") for name in NAMES)
    if not target.key:
        refuse_mechanism()
    _check_time(expires, now)
    if any(name.lower() == "x-amz-security-token" for name in (*target.params, *request.headers)):
        raise S3Error("InvalidToken")
    secret = credentials.get(access_key)
    if secret is None:
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=access_key)
    headers = _headers(request.headers, target.params)
    texts = [_text(request.method, expires, headers, resource) for resource in _resources(target)]
    found = [b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode() for text in texts]
    if not any(same(each, signature) for each in found):
        raise S3Error("SignatureDoesNotMatch", AWSAccessKeyId=access_key, StringToSign=texts[0], SignatureProvided=signature)
    return Identity(access_key, _payload(headers), signature, "", "", b"")


def _check_time(expires: str, now: float) -> None:
    if not SECONDS.fullmatch(expires):
        raise S3Error("AccessDenied", f"Invalid date (should be seconds since epoch): {expires}")
    if int(expires) < now:
        raise S3Error("AccessDenied", "Request has expired", Expires=iso(min(int(expires), LATEST)), ServerTime=iso(now))


def _headers(headers: Mapping[str, str], params: Mapping[str, str]) -> dict[str, str]:
    """What is signed of the headers, wherever it stands. Read as UTF-8 where it is that, as the signers write it."""
    moved = {name.lower(): value for name, value in params.items()}
    sent = {name: value.encode("latin-1").decode("utf-8", "replace") for name, value in headers.items()}
    found = {name: value for name, value in (moved | sent).items() if name.startswith("x-amz-") or name in CARRIED}
    for name, value in found.items():
        if CONTROL.search(value):  # a line end would make two headers of one
            raise S3Error("InvalidArgument", "This parameter cannot be a header.", ArgumentName=name, ArgumentValue=value)
    return found


def _text(method: str, expires: str, headers: Mapping[str, str], resource: str) -> str:
    lines = [method, *(headers.get(name, "") for name in CARRIED), expires]
    lines += [f"{name}:{value}" for name, value in sorted(headers.items()) if name not in CARRIED]
    return "\n".join([*lines, resource])


def _resources(target: Target) -> list[str]:
    """What the URL is of: the path as it was sent or as it is properly encoded, and every parameter that makes it another
    operation or another answer. The list of those has grown; one that the signer did not sign leads to a mismatch."""
    found = []
    for part in target.query.split(b"&"):
        for name, value in query_pairs(part):
            if not _decides(name):
                continue
            # Values are signed decoded: one of them could hold what reads like the parameters behind it.
            if any(_decides(each.partition("=")[0]) for each in value.split("&")[1:]):
                raise S3Error("InvalidArgument", ArgumentName=name, ArgumentValue=value)
            found.append(f"{name}={value}" if b"=" in part else name)
    query = "?" + "&".join(sorted(found, key=lambda each: each.partition("=")[0])) if found else ""
    host = f"/{target.hosted}" if target.hosted else ""
    spellings = dict.fromkeys((target.path.decode("utf-8", "replace"), canonical_path(target.path)))
    return [host + path + query for path in spellings]


def _decides(name: str) -> bool:
    return name in SUB_RESOURCES or name.startswith("response-")


def _payload(headers: Mapping[str, str]) -> str:
    """What the signed headers say of the body. There is no signing key for chunks."""
    payload = headers.get(PAYLOAD_HEADER, UNSIGNED)
    if payload not in (UNSIGNED, STREAMING_UNSIGNED_TRAILER) and not is_sha256(payload):
        refuse_mechanism()
    return payload
