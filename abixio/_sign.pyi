"""What a request's signature is made of, by AWS Signature Version 4 as S3 wants it: targets taken apart, the canonical request,
the keyed hash. One pass over the bytes each; the rules of the coding stand in `_sign.h`. No part of it decides who may do what.

Clients disagree about what to percent-encode on the wire, but not about what they sign. So path and query are decoded and encoded
anew, each part once: RFC 3986 unreserved characters stand for themselves, all else is `%XX` in upper case. The path is not
normalised.

No part can smuggle a line feed into another: path and query are encoded, header values come from a parser of lines, and the names
of signed headers must be HTTP tokens (`s3.sigv4_claim` checks that).
"""

# ---- targets ---------------------------------------------------------------------------------------------------------
def decoded(raw: bytes) -> str:
    """Percent-encoded UTF-8 as text. ValueError, with the raw bytes, for a broken escape and for what is no UTF-8."""

def query_pairs(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a raw query, decoded, in order; a plus sign is a blank. ValueError as for `decoded`, of the part."""

# ---- canonical requests ----------------------------------------------------------------------------------------------
def canonical_path(path: bytes) -> str:
    """A slash is a slash, also one that came as `%2F`: in S3 it is part of the key all the same. Any bytes have a form: a percent
    sign that begins no escape stands for itself."""

def canonical_query(query: bytes, skip: bytes | None = None) -> str:
    """Sorted by encoded name, then by encoded value. (Not as joined strings: `a-b=` would come before `a=`.) `skip` is the
    parameter that is not signed, the signature itself."""

def canonical_request(
    method: str, path: str, query: str, headers: dict[str, str], signed: tuple[str, ...], payload: str
) -> str:
    """The text whose hash is signed. `path` and `query` are canonical, `signed` names the headers as the client lists them.
    Latin-1 text: one character for each byte of the headers.

    Headers have one line each, runs of blanks folded. One that is listed but was not sent has no line: some clients list every
    header they might send."""

def uncovered(headers: dict[str, str], signed: tuple[str, ...]) -> list[str]:
    """What S3 would act on and a stranger could have added: `host` and the x-amz-* headers that are not signed. The payload hash
    is part of the canonical request in any case."""

# ---- hashes ----------------------------------------------------------------------------------------------------------
def is_sha256(text: str) -> bool:
    """Whether it is one in hex, of either case."""

class Signer:
    """HMAC-SHA256 (RFC 2104) under one key, out of two hashes that have taken in the key already. `hmac` looks its algorithm up
    anew for each key, in tens of microseconds, and takes half as long again for each text."""

    def __init__(self, key: bytes) -> None: ...
    def sign(self, text: str) -> str:
        """In hex."""

    def sign_request(
        self, before: str, method: str, path: bytes, query: bytes, skip: bytes | None, headers: dict[str, str],
        signed: tuple[str, ...], payload: str,
    ) -> str:
        """Of `before` and the hash of the canonical request, whose path and query are taken as received."""
