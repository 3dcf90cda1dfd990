"""What a request says of its own signature: the Authorization header, or the query of a presigned URL, read into a `Claim`.

Each malformed piece fails with the code and message that Amazon gives for the same mistake, so that clients and people
see what they know. Nothing here needs a secret; `sigv4` checks the claim.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, NoReturn

from abixio._sign import is_sha256
from abixio.message import Request
from abixio.s3.errors import S3Error

ALGORITHM: Final = "AWS4-HMAC-SHA256"
MAX_SKEW: Final = 15 * 60
"""Seconds that a client's clock may be off, as S3."""
MAX_EXPIRES: Final = 7 * 24 * 3600
"""Seconds that a presigned URL can be valid, as S3."""

PAYLOAD_HEADER: Final = "x-amz-content-sha256"
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
STREAMING_UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING_SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING: Final = frozenset({STREAMING_UNSIGNED_TRAILER, STREAMING_SIGNED, STREAMING_SIGNED_TRAILER})
PAYLOADS: Final = STREAMING | {UNSIGNED}

TIMESTAMP: Final = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
DATE: Final = re.compile(r"\d{8}", re.ASCII)
REGION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What clients are told to sign for: a name of Amazon's, or any word."""
NUMBER: Final = re.compile(r"-?\d{1,18}", re.ASCII)
SIGNED_HEADERS: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(?:;[a-z0-9!#$%&'*+.^_`|~-]+)*")
"""Lower-case HTTP tokens between semicolons."""

QUERY_NAMES: Final = (
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"
)
HEADER_NAMES: Final = ("Credential", "SignedHeaders", "Signature")
QUERY_CODE: Final = "AuthorizationQueryParametersError"
_SIGNATURE: Final = "Signature="
_FRONT: Final = f"{ALGORITHM} "
HEADER_CODE: Final = "AuthorizationHeaderMalformed"
QUERY_CREDENTIAL: Final = "Error parsing the X-Amz-Credential parameter; "
HEADER_PREFIX: Final = "The authorization header is malformed; "


@dataclass(slots=True)
class Claim:
    """What a request says of its own signature, well-formed but not checked."""

    access_key: str
    date: str
    region: str
    timestamp: str
    signed: tuple[str, ...]
    signature: str
    canonical_payload: str
    payload: str
    skip: bytes | None = None


def read_claim(request: Request, params: Mapping[str, str], region: str | None, now: float) -> Claim:
    """The claim of a request, in whichever form it comes; AccessDenied when there is none. `region`: the only one that may be
    signed for; None: any."""
    header = request.headers.get("authorization") or None  # an empty one claims nothing
    in_query = "X-Amz-Algorithm" in params or "X-Amz-Signature" in params or "X-Amz-Credential" in params
    if header is not None and (in_query or "Signature" in params):
        raise S3Error(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter "
            "or the Authorization header should be specified",
            ArgumentName="Authorization", ArgumentValue=header,
        )
    if in_query:
        return _claim_of_query(request, params, region, now)
    if header is not None:
        return _claim_of_header(request, header, region, now)
    raise S3Error("AccessDenied")


def refuse_mechanism() -> NoReturn:
    raise S3Error(
        "InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
    )


def _claim_of_header(request: Request, header: str, region: str | None, now: float) -> Claim:
    access_key, date, place, signed, signature = _read(header, region)
    timestamp, seconds = _header_time(request.headers)
    if timestamp[:8] != date:
        raise S3Error(
            HEADER_CODE,
            f'{HEADER_PREFIX}Invalid credential date "{date}". This date is not the same as X-Amz-Date: "{timestamp[:8]}".',
        )
    if abs(now - seconds) > MAX_SKEW:
        raise S3Error(
            "RequestTimeTooSkewed", RequestTime=timestamp, ServerTime=iso(now), MaxAllowedSkewMilliseconds=MAX_SKEW * 1000
        )
    payload = request.headers.get(PAYLOAD_HEADER)
    if payload is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    _check_payload(payload)
    return Claim(access_key, date, place, timestamp, signed, signature, payload, payload)


def _read(header: str, region: str | None) -> tuple[str, str, str, tuple[str, ...], str]:
    """As `_read_header`, with what stands before the signature remembered where nothing comes behind it."""
    before, _, signature = header.rpartition(_SIGNATURE)
    if signature.isalnum() and before.startswith(_FRONT) and before.rstrip().endswith(","):
        return *_read_front(before, region), signature
    return _read_header(header, region)


@lru_cache(maxsize=256)
def _read_front(before: str, region: str | None) -> tuple[str, str, str, tuple[str, ...]]:
    """All but the signature: a client sends the same all day."""
    return _read_header(f"{before}{_SIGNATURE}0", region)[:4]


def _read_header(header: str, region: str | None) -> tuple[str, str, str, tuple[str, ...], str]:
    """Access key, date, region, signed headers and signature."""
    mechanism, _, rest = header.partition(" ")
    if mechanism != ALGORITHM:
        if mechanism == "AWS" and ":" not in rest:
            raise S3Error("InvalidArgument", "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
                          ArgumentName="Authorization", ArgumentValue=header)
        if mechanism == "AWS" or mechanism.startswith("AWS4-"):
            refuse_mechanism()
        raise S3Error("InvalidArgument", "Unsupported Authorization Type", ArgumentName="Authorization", ArgumentValue=header)
    pairs = [part.strip().partition("=")[::2] for part in rest.split(",") if part.strip()]
    parts = dict(pairs)
    for name in HEADER_NAMES:
        if not parts.get(name):
            raise S3Error(HEADER_CODE, f"{HEADER_PREFIX}missing {name}.")
    if len(pairs) > len(HEADER_NAMES):
        raise S3Error(HEADER_CODE, f"{HEADER_PREFIX}more than {', '.join(HEADER_NAMES)}.")
    access_key, date, place = read_credential(parts["Credential"], region, HEADER_CODE, HEADER_PREFIX)
    signed = _signed_headers(parts["SignedHeaders"])
    if not signed:
        raise S3Error(HEADER_CODE, f"{HEADER_PREFIX}the SignedHeaders are mal-formed.")
    return access_key, date, place, signed, parts["Signature"]


def _claim_of_query(request: Request, params: Mapping[str, str], region: str | None, now: float) -> Claim:
    algorithm, credential, signature, timestamp, expires, names = map(params.get, QUERY_NAMES)
    if not (algorithm and credential and signature and timestamp and expires and names):
        raise S3Error(
            QUERY_CODE,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        )
    if algorithm != ALGORITHM:
        raise S3Error(QUERY_CODE, f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    access_key, date, place, signed, start = _read_query(credential, names, timestamp, region)
    _check_validity(start, _duration(expires), now)
    if len(params) == len(QUERY_NAMES) and PAYLOAD_HEADER not in request.headers:  # most of them
        covered = payload = UNSIGNED
    else:
        covered, payload = _payload_of_query(request.headers, params, signed)
    return Claim(access_key, date, place, timestamp, signed, signature, covered, payload, b"X-Amz-Signature")


@lru_cache(maxsize=256)
def _read_query(
    credential: str, names: str, timestamp: str, region: str | None
) -> tuple[str, str, str, tuple[str, ...], float]:
    """Access key, date, region, signed headers, and when it was signed: the same for all that were signed within a second."""
    access_key, date, place = read_credential(credential, region, QUERY_CODE, QUERY_CREDENTIAL)
    signed = _signed_headers(names)
    if not signed:
        raise S3Error(QUERY_CODE, "Error parsing the X-Amz-SignedHeaders parameter")
    start = _seconds(timestamp)
    if start is None:
        raise S3Error(QUERY_CODE, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    if timestamp[:8] != date:
        raise S3Error(
            QUERY_CODE,
            f'{QUERY_CREDENTIAL}Invalid credential date "{date}". This date is not the same as X-Amz-Date: "{timestamp[:8]}".',
        )
    return access_key, date, place, signed, start


def _payload_of_query(
    headers: Mapping[str, str], params: Mapping[str, str], signed: tuple[str, ...]
) -> tuple[str, str]:
    """What was signed of the payload, and what it has to match. A hash that the sender of the body adds to somebody else's
    URL is not signed; the body has to match it all the same. But nobody can take back what the signer asked for."""
    header = headers.get(PAYLOAD_HEADER)
    given = next((value for name, value in params.items() if name.lower() == PAYLOAD_HEADER), None)
    covered = given or (header if PAYLOAD_HEADER in signed else None) or UNSIGNED
    _check_payload(covered)
    if header is None:
        return covered, covered
    _check_payload(header)
    if covered not in (UNSIGNED, header):
        raise S3Error(
            "InvalidArgument", "The x-amz-content-sha256 header is not what the URL was signed for.",
            ArgumentName=PAYLOAD_HEADER, ArgumentValue=header,
        )
    return covered, header


@lru_cache(maxsize=256)
def read_credential(credential: str, region: str | None, code: str, prefix: str) -> tuple[str, str, str]:
    """Access key, date and region of `<access key>/<date>/<region>/s3/aws4_request`."""
    parts = credential.rsplit("/", 4)
    if len(parts) != 5:
        raise S3Error(
            code, f'{prefix}the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
    access_key, date, place, service, terminal = parts
    if not access_key:
        raise S3Error(code, f"{prefix}a non-empty Access Key (AKID) must be provided in the credential.")
    if terminal != "aws4_request":
        raise S3Error(code, f'{prefix}incorrect terminal "{terminal}". This endpoint uses "aws4_request".')
    if service != "s3":
        raise S3Error(code, f'{prefix}incorrect service "{service}". This endpoint belongs to "s3".')
    if not DATE.fullmatch(date):
        raise S3Error(
            code, f'{prefix}incorrect date format "{date}". This date in the credential must be in the format "yyyyMMdd".'
        )
    if region is None and not REGION.fullmatch(place):
        raise S3Error(code, f"{prefix}the region '{place}' is no region")
    if region is not None and place != region:
        raise S3Error(code, f"{prefix}the region '{place}' is wrong; expecting '{region}'", Region=region)
    return access_key, date, place


@lru_cache(maxsize=256)
def _signed_headers(names: str) -> tuple[str, ...]:
    """The names of a list; empty when it is malformed. No name twice: a long header, repeated a thousand times, would make
    a canonical request a thousand times as long."""
    signed = tuple(names.split(";")) if SIGNED_HEADERS.fullmatch(names) else ()
    return signed if len(set(signed)) == len(signed) else ()


def _check_payload(payload: str) -> None:
    if not is_sha256(payload) and payload not in PAYLOADS:
        raise S3Error(
            "InvalidArgument",
            f"x-amz-content-sha256 must be {UNSIGNED}, {STREAMING_UNSIGNED_TRAILER}, {STREAMING_SIGNED}, "
            f"{STREAMING_SIGNED_TRAILER} or a valid sha256 value.",
            ArgumentName=PAYLOAD_HEADER, ArgumentValue=payload,
        )


# ---- time ------------------------------------------------------------------------------------------------------------
def _header_time(headers: Mapping[str, str]) -> tuple[str, float]:
    """The time of x-amz-date, or of Date, as it is signed and in seconds."""
    timestamp = headers.get("x-amz-date")
    if timestamp is None:
        try:
            timestamp = parsedate_to_datetime(headers.get("date", "")).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        except (ValueError, OverflowError):
            timestamp = ""
    seconds = _seconds(timestamp)
    if seconds is None:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    return timestamp, seconds


@lru_cache(maxsize=256)
def _seconds(timestamp: str) -> float | None:
    """Cached because one second serves many requests."""
    if not TIMESTAMP.fullmatch(timestamp):
        return None
    try:
        day, hour = timestamp[:8], timestamp[9:15]
        year, month, second = int(day[:4]), int(day[4:6]), int(hour[4:])
        return datetime(year, month, int(day[6:]), int(hour[:2]), int(hour[2:4]), second, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def valid_dates(params: Mapping[str, str]) -> tuple[float, float]:
    """From when to when, in seconds since 1970, a URL that was found good is: what `check_dates` says in between."""
    start = _seconds(params["X-Amz-Date"])
    assert start is not None
    return start - MAX_SKEW, start + _duration(params["X-Amz-Expires"])


def check_dates(params: Mapping[str, str], now: float) -> None:
    """Whether a URL that was found good still is."""
    start = _seconds(params["X-Amz-Date"])
    assert start is not None
    _check_validity(start, _duration(params["X-Amz-Expires"]), now)


@lru_cache(maxsize=256)
def _duration(expires: str) -> int:
    """Seconds that a URL is good for."""
    if not NUMBER.fullmatch(expires):
        raise S3Error(QUERY_CODE, "X-Amz-Expires should be a number")
    duration = int(expires)
    if duration < 0:
        raise S3Error(QUERY_CODE, "X-Amz-Expires must be non-negative")
    if duration > MAX_EXPIRES:
        raise S3Error(
            QUERY_CODE, "X-Amz-Expires must be less than a week (in seconds); "
            f"that is, the given X-Amz-Expires must be less than {MAX_EXPIRES} seconds",
        )
    return duration


def _check_validity(start: float, duration: int, now: float) -> None:
    if start > now + MAX_SKEW:
        raise S3Error("AccessDenied", "Request is not valid yet", ServerTime=iso(now))
    if now > start + duration:
        error = S3Error("AccessDenied", "Request has expired", Expires=iso(start + duration), ServerTime=iso(now))
        error.fields["X-Amz-Expires"] = duration
        raise error


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
