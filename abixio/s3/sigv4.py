"""Who sent this request: AWS Signature Version 4, in the Authorization header or in the query of a presigned URL.

`sigv4_claim` reads what the request says of its signature, `_sign` writes down what was signed, and this module puts
the two together. The caller it returns carries what `payload_chunked` needs to check the signatures inside a body.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from abixio._sign import canonical_path, canonical_query, canonical_request, uncovered
from abixio.message import Request
from abixio.s3.errors import S3Error
from abixio.s3.hosts import spellings
from abixio.s3.keys import Scope, scope, signer
from abixio.s3.names import Target
from abixio.s3.sigv4_claim import ALGORITHM, Claim, read_claim


@dataclass(slots=True)  # not frozen, which takes a microsecond for each
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
    """As signed: 20130524/us-east-1/s3/aws4_request; empty where the signature has none."""
    key: bytes = field(repr=False)
    """The derived signing key."""

    @property
    def region(self) -> str:
        """That the client signed for."""
        return self.scope.split("/")[1] if self.scope else "us-east-1"


def authenticate(
    request: Request, target: Target, credentials: Mapping[str, str], region: str | None, now: float
) -> Identity:
    """The caller, or S3Error: AccessDenied without a signature, SignatureDoesNotMatch, InvalidAccessKeyId,
    RequestTimeTooSkewed, AuthorizationHeaderMalformed, AuthorizationQueryParametersError and the like.

    `credentials` maps access keys to secrets; `region` is the only one that may be signed for, None for any; `now` is in
    seconds since 1970. Reads the head only.
    """
    claim = read_claim(request, target.params, region, now)
    if "x-amz-security-token" in request.headers or "X-Amz-Security-Token" in target.params:
        raise S3Error("InvalidToken")  # there are no temporary credentials here, so every token is a foreign one
    return _check(request, target, claim, credentials)


def _check(request: Request, target: Target, claim: Claim, credentials: Mapping[str, str]) -> Identity:
    secret = credentials.get(claim.access_key)
    if secret is None:
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=claim.access_key)
    headers, signed = request.headers, claim.signed
    if "host" not in headers:  # HTTP/1.0
        headers = headers | {"host": ""}
    _check_coverage(headers, signed)
    signing = scope(secret, claim.date, claim.region)
    signature = signing.signer.sign_request(
        f"{ALGORITHM}\n{claim.timestamp}\n{signing.text}\n", request.method, target.path, target.query, claim.skip,
        headers, signed, claim.canonical_payload,
    )
    if not same(signature, claim.signature):
        signature = _signature_of_another_spelling(request, target, claim, signing)
    return Identity(claim.access_key, claim.payload, signature, claim.timestamp, signing.text, signing.key)


def _signature_of_another_spelling(request: Request, target: Target, claim: Claim, signing: Scope) -> str:
    """That of the one which the client signed. SignatureDoesNotMatch, with what should have been signed."""
    found = []
    for canonical in _spelt(request, target, claim):
        string_to_sign = _string_to_sign(claim, signing.text, canonical)
        signature = signing.signer.sign(string_to_sign)
        if same(signature, claim.signature):
            return signature
        found.append((string_to_sign, canonical))
    raise S3Error(
        "SignatureDoesNotMatch", AWSAccessKeyId=claim.access_key, StringToSign=found[0][0],
        SignatureProvided=claim.signature, CanonicalRequest=found[0][1],
    )


def _string_to_sign(claim: Claim, scope: str, canonical: str) -> str:
    return f"{ALGORITHM}\n{claim.timestamp}\n{scope}\n{sha256(canonical.encode('latin-1')).hexdigest()}"


def _spelt(request: Request, target: Target, claim: Claim) -> Iterator[str]:
    """What the client may have signed, as it should be first.

    curl and bare botocore sign the path as they send it, and older versions of curl the query too. That is no weaker:
    two requests of which one as sent and the other in canonical form are the same text also mean the same.
    """
    path, query = canonical_path(target.path), canonical_query(target.query, claim.skip)
    sent, raw = target.path.decode("latin-1"), target.query.decode("latin-1")
    for host in spellings(request.headers.get("host", "")):
        headers = request.headers | {"host": host}
        for spelt in ((path, query), (sent, query), (sent, raw)):
            yield canonical_request(request.method, *spelt, headers, claim.signed, claim.canonical_payload)


def _check_coverage(headers: dict[str, str], signed: tuple[str, ...]) -> None:
    """AccessDenied when something that S3 would act on could have been added by a stranger. The payload hash is part of
    the canonical request in any case."""
    loose = uncovered(headers, signed)
    if loose:
        raise S3Error(
            "AccessDenied", "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(sorted(loose)),
        )


def sign(key: bytes, string_to_sign: str) -> str:
    """The signature, in hex."""
    return signer(key).sign(string_to_sign)


def same(expected: str, provided: str) -> bool:
    """Compares in constant time; whatever the client sent may not even be ASCII."""
    return provided.isascii() and hmac.compare_digest(expected, provided)
