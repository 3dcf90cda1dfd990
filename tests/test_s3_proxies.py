"""Behind a proxy: what it says of client, host and scheme counts when it is trusted, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from abixio.s3.proxies import Proxies
from tests.s3_harness import Answer, Harness
from tests.s3_wire import ACCESS, SECRET, request

PROXY = "127.0.0.1/32"  # the harness sends from there
TRUSTED = Proxies(["10.0.0.0/8", "fd00::/8"])
OUTER = "files.example.com"


def seen(peer: str, **headers: str) -> tuple[str, str, bool]:
    """Client, host and scheme of a request as the service takes it."""
    sent = request("GET", "/", {"host": "inner:9000"} | {name.replace("_", "-"): value for name, value in headers.items()})
    sent.peer = peer
    TRUSTED.apply(sent)
    return sent.peer, sent.headers["host"], sent.secure


def test_an_untrusted_peer_is_taken_by_its_own_address() -> None:
    told = {"x_forwarded_for": "1.2.3.4", "x_forwarded_host": OUTER, "x_forwarded_proto": "https", "forwarded": "for=1.2.3.4"}
    for peer in ("11.0.0.1", "::1", "", "unix", "2001:db8::1"):
        assert seen(peer, **told) == (peer, "inner:9000", False)


@pytest.mark.parametrize("peer", ["10.1.2.3", "fd00::1", "::ffff:10.0.0.1", "fd00::1%eth0"])
def test_a_trusted_peer_is_believed(peer: str) -> None:
    told = {"x_forwarded_for": "1.2.3.4", "x_forwarded_host": OUTER, "x_forwarded_proto": "HTTPS"}
    assert seen(peer, **told) == ("1.2.3.4", OUTER, True)
    assert seen(peer, forwarded=f'For=1.2.3.4;HOST="{OUTER}";proto=https') == ("1.2.3.4", OUTER, True)
    assert seen(peer)[1:] == ("inner:9000", False)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("1.2.3.4", "1.2.3.4"), ("1.2.3.4:5678", "1.2.3.4"), ("2001:db8::1", "2001:db8::1"), ("[2001:db8::1]:80", "2001:db8::1"),
        # a client can write what it likes in front of what the proxies add
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"), ("10.9.9.9, 1.2.3.4", "1.2.3.4"),
        # through two proxies
        ("1.2.3.4, 10.0.0.2", "1.2.3.4"), ("6.6.6.6,1.2.3.4,10.0.0.2", "1.2.3.4"),
        ("unknown", "10.0.0.1"), ("nonsense, 10.0.0.2", "10.0.0.2"), ("", "10.0.0.1"), ("10.0.0.2", "10.0.0.2"),
        (",".join(["10.0.0.2"] * 5000), "10.0.0.2"),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_proxy(forwarded: str, client: str) -> None:
    assert seen("10.0.0.1", x_forwarded_for=forwarded)[0] == client
    elements = ",".join(f'for="{each.strip()}"' for each in forwarded.split(",")) if forwarded else ""
    if not any(":" in each and "[" not in each and each.count(":") > 1 for each in forwarded.split(",")):
        assert seen("10.0.0.1", forwarded=elements)[0] == client


@pytest.mark.parametrize(
    ("client", "host", "proto", "expected"),
    [
        # The nearest proxy added the last value; the first is the client's own invention.
        ("1.2.3.4", f"forged, {OUTER}", "http, https", (OUTER, True)),
        # Two proxies, each of which added one.
        ("1.2.3.4, 10.0.0.2", f"forged, {OUTER}, inner", "http, https, http", (OUTER, True)),
        # Two proxies, of which only the first said so.
        ("1.2.3.4, 10.0.0.2", OUTER, "https", (OUTER, True)),
        # What is no host and no scheme is not taken for one.
        ("1.2.3.4", "a b", "gopher", ("inner:9000", False)), ("1.2.3.4", "evil/x", "", ("inner:9000", False)),
        ("1.2.3.4", "a\r\nb", "", ("inner:9000", False)), ("1.2.3.4", "[::1]:9000", "", ("[::1]:9000", False)),
    ],
)
def test_host_and_scheme_are_those_of_the_outermost_trusted_proxy(
    client: str, host: str, proto: str, expected: tuple[str, bool]
) -> None:
    assert seen("10.0.0.1", x_forwarded_for=client, x_forwarded_host=host, x_forwarded_proto=proto)[1:] == expected


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [(OUTER, "8443", f"{OUTER}:8443"), (OUTER, "443", OUTER), (OUTER, "80", OUTER), (f"{OUTER}:1", "2", f"{OUTER}:1"),
     (OUTER, "x", OUTER), ("[::1]", "8443", "[::1]:8443")],
)
def test_a_port_of_its_own_belongs_to_the_host(host: str, port: str, expected: str) -> None:
    assert seen("10.0.0.1", x_forwarded_host=host, x_forwarded_port=port)[1] == expected


@pytest.mark.parametrize("header", ["for", "for=1.2.3.4 x", 'for="1.2.3.4', "=;", "for=1.2.3.4 5.6.7.8", "for=1.2.3.4;;"])
def test_a_forwarded_header_that_cannot_be_read_says_nothing(header: str) -> None:
    assert seen("10.0.0.1", forwarded=f"{header}, host={OUTER}") == ("10.0.0.1", "inner:9000", False)


def test_the_older_headers_go_before_forwarded() -> None:
    assert seen("10.0.0.1", forwarded="for=6.6.6.6;host=forged", x_forwarded_for="1.2.3.4") == ("1.2.3.4", "inner:9000", False)


# ---- through the service ---------------------------------------------------------------------------------------------
@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness(trusted_proxies=(PROXY,), domains=(OUTER,))
    harness.ask("PUT", "/b01")
    harness.ask("PUT", "/b01/k", body=b"data")
    yield harness
    harness.close()


def through_proxy(s3: Harness, method: str, url: str, body: bytes = b"", **forwarded: str) -> Answer:
    """A request that a client signs for `url` and a proxy sends on to another host."""
    sent = AWSRequest(method, url, data=body)
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(sent)
    prepared = sent.prepare()
    target = "/" + prepared.url.split("/", 3)[3]
    headers = {name: value if isinstance(value, str) else value.decode() for name, value in prepared.headers.items()}
    headers |= {"host": "inner:9000"} | {f"x-forwarded-{name}": value for name, value in forwarded.items()}
    return s3.send(method, target, headers, body)


def test_a_request_signed_for_the_outer_host_passes_a_trusted_proxy_only(s3: Harness) -> None:
    url = f"https://{OUTER}/b01/k"
    assert through_proxy(s3, "GET", url, host=OUTER).body == b"data"
    assert through_proxy(s3, "GET", url).code == "SignatureDoesNotMatch"
    assert through_proxy(s3, "GET", url, host="elsewhere.com").code == "SignatureDoesNotMatch"
    other = Harness(s3.store, trusted_proxies=("10.0.0.0/8",))
    try:
        assert through_proxy(other, "GET", url, host=OUTER).code == "SignatureDoesNotMatch"
    finally:
        other.close()


def test_default_ports_that_a_proxy_adds_or_takes_away_do_not_matter(s3: Harness) -> None:
    for signed in (OUTER, f"{OUTER}:443", f"{OUTER}:80"):
        for host in (OUTER, f"{OUTER}:443" if ":80" not in signed else f"{OUTER}:80"):
            assert through_proxy(s3, "GET", f"https://{signed}/b01/k", host=host).status == 200, (signed, host)
    assert through_proxy(s3, "GET", f"https://{OUTER}:8443/b01/k", host=OUTER, port="8443").status == 200
    assert through_proxy(s3, "GET", f"https://{OUTER}:8443/b01/k", host=OUTER).code == "SignatureDoesNotMatch"
    assert through_proxy(s3, "GET", f"https://{OUTER}/b01/k", host=f"{OUTER}:8443").code == "SignatureDoesNotMatch"


def test_a_presigned_url_of_the_outer_host_passes(s3: Harness) -> None:
    sent = AWSRequest("GET", f"https://b01.{OUTER}/k")
    S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", "us-east-1", expires=60).add_auth(sent)
    target = sent.url.removeprefix(f"https://b01.{OUTER}")
    told = {"host": "inner:9000", "x-forwarded-proto": "https"}
    for _ in range(2):  # the second time it is remembered
        assert s3.send("GET", target, told | {"x-forwarded-host": f"b01.{OUTER}"}).body == b"data"
        assert s3.send("GET", target, told | {"x-forwarded-host": f"b02.{OUTER}"}).code == "SignatureDoesNotMatch"
        assert s3.send("GET", target, told).code == "SignatureDoesNotMatch"


def test_the_place_of_what_was_made_is_the_outer_one(s3: Harness) -> None:
    told = {"host": OUTER, "proto": "https"}
    made = through_proxy(s3, "POST", f"https://{OUTER}/b01/a%20b?uploads", **told)
    upload = made.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    part = through_proxy(s3, "PUT", f"https://{OUTER}/b01/a%20b?partNumber=1&uploadId={upload}", b"x", **told)
    body = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
    done = through_proxy(
        s3, "POST", f"https://{OUTER}/b01/a%20b?uploadId={upload}", f"{body}</CompleteMultipartUpload>".encode(), **told
    )
    assert f"<Location>https://{OUTER}/b01/a%20b</Location>".encode() in done.body
    assert through_proxy(s3, "PUT", f"https://{OUTER}/b02", **told).headers["location"] == "/b02"
    named = b"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>"
    answers = [through_proxy(s3, "PUT", f"https://{OUTER}/b03", named, **told),
               through_proxy(s3, "PUT", f"https://b04.{OUTER}/", named, host=f"b04.{OUTER}", proto="https")]
    assert [answer.headers["location"] for answer in answers] == [f"https://{OUTER}/b03/", f"https://b04.{OUTER}/"]
