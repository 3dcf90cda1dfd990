"""What requests say of encryption, and what is kept with an object: each rule by itself."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator

import pytest

from abixio.errors import DataLost, KeyUnknown
from abixio.keys import KeyRing, complete
from abixio.message import Request
from abixio.s3 import customer_keys, envelope
from abixio.s3.bucket_encryption import Default, blocks_customer_keys, default_of
from abixio.s3.encryption import key_name
from abixio.s3.errors import S3Error
from abixio.store.types import Bucket
from tests.s3_harness import KEYS, Harness

SPACE = bytes(16)
KEY = bytes(range(32))
CUSTOMER = {
    customer_keys.OWN + "algorithm": "AES256", customer_keys.OWN + "key": b64encode(KEY).decode(),
    customer_keys.OWN + "key-md5": b64encode(hashlib.md5(KEY).digest()).decode(),
}
NAMED = {envelope.MODE: envelope.KMS, envelope.NAME: "aws/s3", envelope.CONTEXT: "e30="}


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    yield harness
    harness.close()


def request(peer: str, secure: bool = False, headers: dict[str, str] | None = None) -> Request:
    return Request("GET", b"/", CUSTOMER if headers is None else headers, None, "", peer, secure)  # type: ignore[arg-type]


# ---- envelopes -------------------------------------------------------------------------------------------------------
def by_server() -> dict[str, str]:
    found = KEYS.newest("aws/s3")
    assert found is not None
    return dict(envelope.by_server(SPACE, NAMED, *found).fields)


def test_a_key_comes_back_out_of_what_is_kept() -> None:
    found = KEYS.newest("")
    assert found is not None
    seal = envelope.by_server(SPACE, {envelope.MODE: envelope.S3}, *found)
    assert envelope.open_by_server(KEYS, SPACE, seal.fields) == seal.key
    own = envelope.by_customer(SPACE, KEY)
    assert envelope.open_by_customer(SPACE, own.fields, KEY) == own.key
    assert envelope.open_by_customer(SPACE, own.fields, bytes(32)) is None
    assert envelope.open_by_customer(SPACE, own.fields, b"short") is None
    assert seal.key != own.key


@pytest.mark.parametrize("change", [{envelope.NAME: "other"}, {envelope.CONTEXT: "e30"}, {envelope.BUCKET_KEY: "true"},
                                    {envelope.MODE: envelope.S3}, {"cipher": "none"}])
def test_nothing_that_is_said_of_a_key_can_be_changed(change: dict[str, str]) -> None:
    fields = by_server()
    envelope.open_by_server(KEYS, SPACE, fields)
    with pytest.raises(DataLost):
        envelope.open_by_server(KEYS, SPACE, fields | change)


def test_a_key_is_good_in_its_bucket_only() -> None:
    with pytest.raises(DataLost):
        envelope.open_by_server(KEYS, b"\1" * 16, by_server())


def test_a_key_that_is_not_in_the_file_is_named() -> None:
    with pytest.raises(KeyUnknown, match="aws/s3"):
        envelope.open_by_server(complete(KeyRing([]), []), SPACE, by_server())


# ---- keys of customers -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("peer", "secure", "anywhere", "good"),
    [
        ("127.0.0.1", False, False, True), ("::1", False, False, True), ("::ffff:127.0.0.9", False, False, True),
        ("192.0.2.1", False, False, False), ("::ffff:192.0.2.1", False, False, False), ("", False, False, False),
        ("192.0.2.1", True, False, True), ("192.0.2.1", False, True, True),
    ],
)
def test_a_key_of_a_customer_does_not_cross_a_network_in_the_clear(peer: str, secure: bool, anywhere: bool, good: bool) -> None:
    if good:
        assert customer_keys.read(request(peer, secure), anywhere) == KEY
    else:
        with pytest.raises(S3Error, match="must be made over a secure connection"):
            customer_keys.read(request(peer, secure), anywhere)
    assert customer_keys.read(request(peer, secure, {}), anywhere) is None


def test_a_read_needs_no_md5_and_a_key_that_can_be_none_is_a_wrong_one() -> None:
    bare = {name: value for name, value in CUSTOMER.items() if not name.endswith("md5")}
    assert customer_keys.read(request("::1", headers=bare), False, reading=True) == KEY
    odd = bare | {customer_keys.OWN + "key": "not base64"}
    assert customer_keys.read(request("::1", headers=odd), False, reading=True) == b""


# ---- requests --------------------------------------------------------------------------------------------------------
def test_keys_go_by_three_kinds_of_names() -> None:
    assert [key_name(name) for name in ("a", "alias/a/b", "arn:aws:kms:eu-1:1:key/a", "arn:aws-cn:kms::1:alias/a")] == [
        "a", "a/b", "a", "a"
    ]


def test_a_url_of_version_2_reads_and_writes_nothing_under_the_key_store(s3: Harness) -> None:
    config = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm>" \
        "</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
    assert s3.ask("PUT", "/b01?encryption", body=config.encode()).status == 200
    assert s3.ask("PUT", "/b01/k", body=b"data").headers["x-amz-server-side-encryption"] == "aws:kms"
    client = s3.client(signature_version="s3")
    for method in ("get_object", "put_object"):
        url = client.generate_presigned_url(method, Params={"Bucket": "b01", "Key": "k"})
        target = "/" + url.split("/", 3)[3]
        answer = s3.send(method[:3].upper(), target, {"content-length": "0"} if method == "put_object" else {})
        assert (answer.status, answer.code) == (400, "InvalidArgument")
        assert b"require AWS Signature Version 4." in answer.body
    assert s3.presigned("GET", "/b01/k").body == b"data"


def test_what_is_asked_for_in_a_url_counts(s3: Harness) -> None:
    answer = s3.presigned("PUT", "/b01/k?x-amz-server-side-encryption=AES256", body=b"x")
    assert answer.headers["x-amz-server-side-encryption"] == "AES256"


def test_a_key_shows_in_no_error(s3: Harness) -> None:
    text = CUSTOMER[customer_keys.OWN + "key"]
    for change in ({"algorithm": "x"}, {"key-md5": "x"}, {"key": text + "AAAA"}):
        headers = CUSTOMER | {customer_keys.OWN + name: value for name, value in change.items()}
        answer = s3.ask("PUT", "/b01/k", headers, b"x")
        assert answer.status == 400
        assert text.encode() not in answer.body


# ---- buckets ---------------------------------------------------------------------------------------------------------
def test_the_default_is_read_off_the_settings() -> None:
    assert default_of(Bucket("b", SPACE, 0, "me", {})) is None
    kept = json.dumps({"algorithm": "AES256", "blocked": "SSE-C"})
    bucket = Bucket("b", SPACE, 0, "me", {"encryption": kept})
    assert default_of(bucket) == Default("AES256", blocked="SSE-C")
    assert blocks_customer_keys(bucket)
