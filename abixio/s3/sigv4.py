"""Who sent this request: AWS Signature Version 4, in the Authorization header or in the query of a presigned URL.

`sigv4_claim` reads what the request says of its signature, `canonical` writes down what was signed, and this module puts
the two together. The caller it returns carries what `payload_chunked` needs to check the signatures inside a body.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from abixio.message import Request
from abixio.s3.canonical import canonical_path, canonical_query, canonical_request
from abixio.s3.errors import S3Error
from abixio.s3.keys import keyed_hash, signing_key
from abixio.s3.names import Target
from abixio.s3.sigv4_claim import ALGORITHM, Claim, read_claim


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose signature is right, and what is needed to check the signatures inside the body."""

    access_key: str
    payload: str
    """What the head says of the body: a hex SHA-256, UNSIGNED-PAYLOAD or one of the STREAMING-* names."""
    signature: str
    """Of the head; the chain of chunk signatures starts from it."""
    timestamp: str
    """As signed: 20130524T000000Z."""
    scope: str
    """As signed: 20130524/us-east-1/s3/aws4_request."""
    key: bytes = field(repr=False)
    """The derived signing key."""


def authenticate(request: Request, target: Target, credentials: Mapping[str, str], region: str, now: float) -> Identity:
    """The caller, or S3Error: AccessDenied without a signature, SignatureDoesNotMatch, InvalidAccessKeyId,
    RequestTimeTooSkewed, AuthorizationHeaderMalformed, AuthorizationQueryParametersError and the like.

    `credentials` maps access keys to secrets; `region` is the configured one, beside which us-east-1, the default of
    every client, is accepted; `now` is in seconds since 1970. Reads the head only.
    """
    claim = read_claim(request, target.params, region, now)
    if "x-amz-security-token" in request.headers or "X-Amz-Security-Token" in target.params:
        raise S3Error("InvalidToken")  # there are no temporary credentials here, so every token is a foreign one
    return _check(request, target, claim, credentials)


def _check(request: Request, target: Target, claim: Claim, credentials: Mapping[str, str]) -> Identity:
    secret = credentials.get(claim.access_key)
    if secret is None:
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=claim.access_key)
    _check_coverage(request.headers, claim.signed)
    scope = f"{claim.date}/{claim.region}/s3/aws4_request"
    key = signing_key(secret, claim.date, claim.region)

    def signature_of(canonical: str) -> tuple[str, str]:
        hashed = sha256(canonical.encode("latin-1")).hexdigest()
        string_to_sign = f"{ALGORITHM}\n{claim.timestamp}\n{scope}\n{hashed}"
        return sign(key, string_to_sign), string_to_sign

    path, query = canonical_path(target.path), canonical_query(target.query, claim.skip)
    rest = request.headers, claim.signed, claim.canonical_payload
    canonical = canonical_request(request.method, path, query, *rest)
    signature, string_to_sign = signature_of(canonical)
    if not same(signature, claim.signature):
        # curl and bare botocore sign the path as they send it, and older versions of curl the query too. That is no weaker:
        # two requests of which one as sent and the other in canonical form are the same text also mean the same.
        sent = target.path.decode("latin-1")
        for spelling in (query, target.query.decode("latin-1")):
            signature, _ = signature_of(canonical_request(request.method, sent, spelling, *rest))
            if same(signature, claim.signature):
                break
    if not same(signature, claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch", AWSAccessKeyId=claim.access_key, StringToSign=string_to_sign,
            SignatureProvided=claim.signature, CanonicalRequest=canonical,
        )
    return Identity(claim.access_key, claim.payload, signature, claim.timestamp, scope, key)


def _check_coverage(headers: Mapping[str, str], signed: list[str]) -> None:
    """AccessDenied when something that S3 would act on could have been added by a stranger. The payload hash is part of
    the canonical request in any case."""
    covered = {"x-amz-content-sha256", *signed}
    loose = [name for name in headers if name.startswith("x-amz-") and name not in covered]
    if "host" not in covered:
        loose.append("host")
    if loose:
        raise S3Error(
            "AccessDenied", "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(sorted(loose)),
        )


def sign(key: bytes, string_to_sign: str) -> str:
    """The signature, in hex."""
    keyed = keyed_hash(key).copy()
    keyed.update(string_to_sign.encode())
    return keyed.hexdigest()


def same(expected: str, provided: str) -> bool:
    """Compares in constant time; whatever the client sent may not even be ASCII."""
    return hmac.compare_digest(expected.encode(), provided.encode("utf-8", "replace"))
