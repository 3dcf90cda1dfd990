"""The client's half of Signature V4, over the same canonical form as the server's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from abixio._sign import canonical_path, canonical_query, canonical_request
from abixio.credentials import Credentials
from abixio.s3.keys import signing_key
from abixio.s3.sigv4 import sign
from abixio.s3.sigv4_claim import ALGORITHM, PAYLOAD_HEADER

REGION: Final = "us-east-1"
"""The admin router takes any."""


def signed_headers(
    method: str, target: str, host: str, body: bytes, credentials: Credentials, now: float
) -> Mapping[str, str]:
    """All headers that the request needs. `target` is a path with an encoded query; `host` is the Host header."""
    path, _, query = target.encode("ascii").partition(b"?")
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    date = timestamp[:8]
    headers = {"host": host, PAYLOAD_HEADER: sha256(body).hexdigest(), "x-amz-date": timestamp}
    names = tuple(sorted(headers))
    canonical = canonical_request(method, canonical_path(path), canonical_query(query), headers, names, headers[PAYLOAD_HEADER])
    scope = f"{date}/{REGION}/s3/aws4_request"
    hashed = sha256(canonical.encode("latin-1")).hexdigest()
    signature = sign(signing_key(credentials.secret_key, date, REGION), f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashed}")
    headers["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return headers
