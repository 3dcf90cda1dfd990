"""Thousands of random requests, signed by botocore and with bodies in every coding: each passes, and each with one random
mutation of its head, path, query, body, chunk or trailer fails, with the code that this mutation has to get."""

from __future__ import annotations

import datetime
import random
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from urllib.parse import quote, urlsplit

import pytest
from awscrt.checksums import crc32
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.s3_harness import ENDPOINT, Harness
from tests.s3_wire import ACCESS, SECRET, ChunkWriter, unsigned_chunks

REQUESTS = 3000
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
CODINGS = ("none", "unsigned", "signed", STREAMING, STREAMING + "-TRAILER", UNSIGNED_TRAILER)
LETTERS = "abcXYZ019-._~ +%&=/?#ü\u20ac\U0001f600"
CHUNK = 8192


@dataclass(frozen=True)
class Sent:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    coding: str
    url: bool
    """Signed in the URL."""

    def give(self, s3: Harness) -> tuple[int, str]:
        answer = s3.send(self.method, self.target, self.headers, self.body)
        return answer.status, answer.code


# ---- requests --------------------------------------------------------------------------------------------------------
def word(chance: random.Random, longest: int = 8, letters: str = LETTERS) -> str:
    return "".join(chance.choice(letters) for _ in range(chance.randint(1, longest)))


def make(chance: random.Random) -> Sent:
    """A PUT, GET, HEAD, DELETE or listing; of the key `k` and others."""
    method = chance.choice(["PUT"] * 4 + ["GET", "HEAD", "DELETE", "LIST"])
    path = "/b01" + ("" if method == "LIST" else "/" + quote(word(chance), safe="/~"))
    query = {}
    if method == "LIST":
        query = {name: word(chance) for name in chance.sample(["prefix", "delimiter", "marker", "foo bar"], chance.randint(0, 4))}
        query |= {"max-keys": str(chance.randint(0, 9))} if chance.random() < 0.5 else {}
    elif method == "GET" and chance.random() < 0.5:
        query = {"response-content-type": "a/" + word(chance, letters="abc+ ")}
    target = path + ("?" + "&".join(f"{quote(a, safe='')}={quote(b, safe='')}" for a, b in query.items()) if query else "")
    headers = {f"x-amz-meta-{word(chance, letters='abc-')}": word(chance, letters="abc  ,;=").strip() or "x"
               for _ in range(chance.randint(0, 3))} if method == "PUT" else {}
    method = "GET" if method == "LIST" else method
    if chance.random() < 0.25:
        return presigned(method, target, chance.randbytes(chance.randint(0, 100)) if method == "PUT" else b"")
    coding = chance.choice(CODINGS[1:]) if method == "PUT" else "none"
    return signed(method, target, headers, coding, chance.randbytes(chance.choice([0, 1, 100, CHUNK, 3 * CHUNK + 7])))


class Auth(S3SigV4Auth):
    """Signs any word for the payload, where it is not hashed."""

    def __init__(self, coding: str) -> None:
        super().__init__(Credentials(ACCESS, SECRET), "s3", "us-east-1")
        self.coding = coding

    def payload(self, request: AWSRequest) -> str:
        word = {"none": "", "signed": "", "unsigned": "UNSIGNED-PAYLOAD"}.get(self.coding, self.coding)
        return word or str(super().payload(request))


def presigned(method: str, target: str, body: bytes) -> Sent:
    request = AWSRequest(method, ENDPOINT + target)
    S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", "us-east-1", expires=600).add_auth(request)
    split = urlsplit(request.url)
    headers = {"content-length": str(len(body))} if method == "PUT" else {}
    return Sent(method, f"{split.path}?{split.query}", headers, body, "none", True)


def signed(method: str, target: str, headers: dict[str, str], coding: str, body: bytes) -> Sent:
    if coding == "none":
        body = b""
    if coding.startswith("STREAMING"):
        headers |= {"Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(body))}
    if coding.endswith("TRAILER"):
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    request = AWSRequest(method, ENDPOINT + target, headers=headers, data=body)
    Auth(coding).add_auth(request)
    sent = {name.lower(): str(value) for name, value in request.headers.items()}
    if coding.startswith("STREAMING"):
        body = encoded(body, coding, sent)
    if method == "PUT":
        sent["content-length"] = str(len(body))
    return Sent(method, target, sent, body, coding, False)


def encoded(body: bytes, coding: str, head: dict[str, str]) -> bytes:
    pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    sum32 = b64encode(crc32(body).to_bytes(4, "big")).decode()
    if coding == UNSIGNED_TRAILER:
        return unsigned_chunks(pieces, f"x-amz-checksum-crc32:{sum32}\r\n".encode())
    found = re.search(r"Credential=[^/]+/([^,]+),.*Signature=(\w+)", head["authorization"])
    assert found is not None
    writer = ChunkWriter(found[2], head["x-amz-date"], found[1])
    chunks = b"".join(map(writer.chunk, [*pieces, b""]))
    return chunks + (writer.trailer("x-amz-checksum-crc32", sum32) if coding.endswith("TRAILER") else b"") + b"\r\n"


# ---- mutations -------------------------------------------------------------------------------------------------------
Mutation = tuple[Sent, set[str]]
"""The changed request, and the codes it may get."""


def flipped(text: str, at: int, digits: str = "0123456789abcdef") -> str:
    return text[:at] + digits[(digits.index(text[at]) + 1) % len(digits)] + text[at + 1 :]


def another_signature(sent: Sent, chance: random.Random) -> Mutation:
    at = chance.randrange(64)
    if sent.url:
        start = sent.target.index("X-Amz-Signature=") + len("X-Amz-Signature=")
        return replace(sent, target=flipped(sent.target, start + at)), {"SignatureDoesNotMatch"}
    value = sent.headers["authorization"]
    changed = flipped(value, value.index("Signature=") + len("Signature=") + at)
    return replace(sent, headers=sent.headers | {"authorization": changed}), {"SignatureDoesNotMatch"}


def another_credential(sent: Sent, chance: random.Random) -> Mutation:
    old, new, code = chance.choice([
        (ACCESS, ACCESS[:-1] + "x", "InvalidAccessKeyId"), ("us-east-1", "us-east-2", "SignatureDoesNotMatch"),
        ("/s3/", "/s4/", ""), ("aws4_request", "aws5_request", ""),
    ])
    malformed = "AuthorizationQueryParametersError" if sent.url else "AuthorizationHeaderMalformed"
    if sent.url:
        return replace(sent, target=sent.target.replace(quote(old, safe=""), quote(new, safe=""), 1)), {code or malformed}
    changed = sent.headers["authorization"].replace(old, new, 1)
    return replace(sent, headers=sent.headers | {"authorization": changed}), {code or malformed}


def another_time(sent: Sent, chance: random.Random) -> Mutation:
    """A little, or so much that the time itself is wrong."""
    moved = datetime.timedelta(minutes=chance.choice([-40, -1, 40]))
    pattern = r"(?<=X-Amz-Date=)\d{8}T\d{6}Z"
    old = re.search(pattern, sent.target)[0] if sent.url else sent.headers["x-amz-date"]  # type: ignore[index]
    new = (datetime.datetime.strptime(old, "%Y%m%dT%H%M%SZ") + moved).strftime("%Y%m%dT%H%M%SZ")
    codes = {"SignatureDoesNotMatch"} if moved == datetime.timedelta(minutes=-1) else {"RequestTimeTooSkewed", "AccessDenied"}
    if old[:8] != new[:8]:
        codes |= {"AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"}
    if sent.url:
        return replace(sent, target=re.sub(pattern, new, sent.target)), codes
    return replace(sent, headers=sent.headers | {"x-amz-date": new}), codes


def another_method(sent: Sent, chance: random.Random) -> Mutation:
    method = chance.choice([name for name in ("GET", "PUT", "DELETE", "POST", "HEAD") if name != sent.method])
    return replace(sent, method=method), {"SignatureDoesNotMatch"}


def another_key(sent: Sent, chance: random.Random) -> Mutation:
    path, mark, query = sent.target.partition("?")
    return replace(sent, target=path + chance.choice(["x", "/", "%20", "/../b01/k"]) + mark + query), {"SignatureDoesNotMatch"}


def another_query(sent: Sent, chance: random.Random) -> Mutation:
    mark = "&" if "?" in sent.target else "?"
    return replace(sent, target=sent.target + mark + chance.choice(["x=1", "versionId=null", "acl", "=", "a=%3D"])), {
        "SignatureDoesNotMatch"}


def another_host(sent: Sent, chance: random.Random) -> Mutation:
    return replace(sent, headers=sent.headers | {"host": chance.choice(["s3.test", "s3.test:9001", "x.s3.test:9000", ""])}), {
        "SignatureDoesNotMatch"}


def one_more_header(sent: Sent, chance: random.Random) -> Mutation:
    name = chance.choice(["x-amz-acl", "x-amz-copy-source", "x-amz-storage-class", "x-amz-meta-zz", "x-amz-bypass-x"])
    return replace(sent, headers=sent.headers | {name: "x"}), {"AccessDenied"}


def another_header(sent: Sent, chance: random.Random) -> Mutation:
    names = [name for name in sent.headers if name.startswith("x-amz-") and name not in ("x-amz-date", "x-amz-content-sha256")]
    if not names:
        return another_signature(sent, chance)
    name = chance.choice(names)
    headers = dict(sent.headers)
    if chance.random() < 0.3:
        del headers[name]
    else:
        headers[name] += "1"
    # What says how the body is coded is looked at before it, but behind the signature.
    return replace(sent, headers=headers), {"SignatureDoesNotMatch"}


def another_payload_hash(sent: Sent, chance: random.Random) -> Mutation:
    if sent.url:
        return another_signature(sent, chance)
    value = chance.choice([sha256(b"other").hexdigest(), "UNSIGNED-PAYLOAD", STREAMING, UNSIGNED_TRAILER, "", "x" * 64])
    if value == sent.headers["x-amz-content-sha256"]:
        value = "0" * 64
    codes = {"InvalidArgument"} if value in ("", "x" * 64) else {"SignatureDoesNotMatch"}
    return replace(sent, headers=sent.headers | {"x-amz-content-sha256": value}), codes


def another_byte(sent: Sent, chance: random.Random) -> Mutation:
    """Of the payload; the line ends around it stay."""
    if sent.coding in ("none", "unsigned") or len(sent.body) == 0:
        return another_signature(sent, chance)
    codes = {"signed": "XAmzContentSHA256Mismatch", UNSIGNED_TRAILER: "BadDigest"}
    start = sent.body.index(b"\r\n") + 2 if sent.coding.startswith("STREAMING") else 0
    size = len(sent.body) if sent.coding == "signed" else int(re.match(rb"[0-9a-f]+", sent.body)[0], 16)  # type: ignore[index]
    if size == 0:
        return another_chunk(sent, chance)
    at = start + chance.randrange(size)
    body = sent.body[:at] + bytes([sent.body[at] ^ (1 << chance.randrange(8))]) + sent.body[at + 1 :]
    return replace(sent, body=body), {codes.get(sent.coding, "SignatureDoesNotMatch")}


def another_chunk(sent: Sent, chance: random.Random) -> Mutation:
    """Another signature, size or order of chunks; one less; an end too early."""
    if not sent.coding.startswith("STREAMING"):
        return another_payload_hash(sent, chance)
    signatures = [match.start(1) for match in re.finditer(rb"chunk-signature=([0-9a-f])", sent.body)]
    kind = chance.choice(["signature", "size", "cut", "less"])
    if kind == "signature" and signatures:
        at = chance.choice(signatures) + chance.randrange(64)
        changed = flipped(sent.body[at : at + 1].decode(), 0).encode()
        return replace(sent, body=sent.body[:at] + changed + sent.body[at + 1 :]), {"SignatureDoesNotMatch"}
    if kind == "size":
        return with_body(sent, b"1" + sent.body), {"IncompleteBody", "SignatureDoesNotMatch", "EntityTooLarge"}
    if kind == "less" and len(sent.body) > CHUNK + 200:
        return with_body(sent, sent.body[sent.body.index(b"\r\n", CHUNK) + 2 :]), {"SignatureDoesNotMatch", "IncompleteBody"}
    return with_body(sent, sent.body[: chance.randrange(len(sent.body))]), {
        "IncompleteBody", "MalformedTrailerError", "SignatureDoesNotMatch", "InvalidRequest", "BadDigest"}


def with_body(sent: Sent, body: bytes) -> Sent:
    return replace(sent, body=body, headers=sent.headers | {"content-length": str(len(body))})


def another_trailer(sent: Sent, chance: random.Random) -> Mutation:
    if not sent.coding.endswith("TRAILER"):
        return another_byte(sent, chance)
    at = sent.body.rindex(b"x-amz-checksum-crc32:")
    wrong = {"SignatureDoesNotMatch"} if sent.coding.startswith(STREAMING) else {"BadDigest"}
    value, end = at + len("x-amz-checksum-crc32:"), sent.body.index(b"\r\n", at)
    right = sent.body[value:end].decode()
    other = b64encode(bytes([chance.randrange(256)]) + b"abc")
    match chance.choice(["value", "name", "missing", "twice"]):
        case "value" if other.decode() != right:
            return replace(sent, body=sent.body[:value] + other + sent.body[end:]), wrong
        case "name":
            changed = sent.body[:at] + sent.body[at:].replace(b"crc32:", b"crc64:", 1)
            return replace(sent, body=changed), {"MalformedTrailerError", "SignatureDoesNotMatch"}
        case "missing":
            return with_body(sent, sent.body[:at] + sent.body[end + 2 :]), {"MalformedTrailerError", "SignatureDoesNotMatch"}
        case _:
            more = sent.body[:at] + b"x-amz-meta-a:b\r\n" + sent.body[at:]
            return with_body(sent, more), {"MalformedTrailerError", "SignatureDoesNotMatch"}


MUTATIONS: list[Callable[[Sent, random.Random], Mutation]] = [
    another_signature, another_credential, another_time, another_method, another_key, another_query, another_host,
    one_more_header, another_header, another_payload_hash, another_byte, another_chunk, another_trailer,
]


@pytest.fixture(scope="module")
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    yield harness
    harness.close()


def test_every_request_passes_and_with_one_mutation_fails_with_the_right_code(s3: Harness) -> None:
    chance = random.Random(20130524)
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for number in range(REQUESTS):
        sent = make(chance)
        status, code = sent.give(s3)
        assert status in (200, 204) or (status == 404 and sent.method in ("GET", "HEAD")), (number, sent, code)
        passed[f"{sent.method} {'url' if sent.url else sent.coding}"] += 1
        mutation = chance.choice(MUTATIONS)
        changed, codes = mutation(sent, chance)
        before = {key: stored.record.seq for key, stored in s3.store.contents["b01"].objects.items()}
        status, code = changed.give(s3)
        assert status >= 400, (number, mutation.__name__, changed)
        assert code in codes or (changed.method == "HEAD" and not code), (number, mutation.__name__, code, codes, changed)
        assert {key: stored.record.seq for key, stored in s3.store.contents["b01"].objects.items()} == before
        failed[f"{mutation.__name__}: {code or status}"] += 1
    print(*(f"{count:5} {name}" for name, count in sorted((passed + failed).items())), sep="\n")
    assert len(passed) == 12
    assert {line.partition(":")[0] for line in failed} == {mutation.__name__ for mutation in MUTATIONS}
