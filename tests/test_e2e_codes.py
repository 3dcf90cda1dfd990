"""Every code that a request can get, from a running server."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from abixio.s3.errors import CODES
from tests.conftest import MakeServer, factory
from tests.s3_harness import Answer
from tests.s3_socket import Wire
from tests.server import remove
from tests.test_s3_codes import WAYS


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """Of a server outside the first region, where more is an error."""
    for make in factory(tmp_path_factory.mktemp("codes")):
        yield Wire(make(4, "--durability", "page-cache", "--region", "eu-west-1"))


@pytest.fixture
def s3(wire: Wire) -> Wire:
    for target, body in (("/b01", b""), ("/b01/k", b"data")):
        assert wire.ask("PUT", target, body=body).status in (200, 409)
    return wire


def check(answer: Answer, code: str) -> None:
    assert (answer.code, answer.status) == (code, CODES[code][0])
    root = ElementTree.fromstring(answer.body)
    assert root.tag == "Error"
    assert answer.headers["content-type"] == "application/xml"
    assert answer.headers["x-amz-request-id"] == root.findtext("RequestId")
    assert answer.headers["x-amz-id-2"] == root.findtext("HostId")
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["date"]


@pytest.mark.parametrize("code", WAYS)
def test_a_request_gets_the_code(s3: Wire, code: str) -> None:
    check(WAYS[code](s3), code)


def test_what_is_no_request_gets_its_code(s3: Wire) -> None:
    check(s3.send_bytes(b"GET / HTTP/1.1\r\n\r\n"), "BadRequest")
    check(s3.send_bytes(b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"x" * 40_000 + b"\r\n\r\n"), "RequestHeaderSectionTooLarge")
    unexpected = s3.send_bytes(b"PUT / HTTP/1.1\r\nhost: h\r\nexpect: tea\r\ncontent-length: 3\r\n\r\nabc")
    assert (unexpected.status, unexpected.code) == (417, "BadRequest")


def test_too_few_volumes_get_their_code(make_server: MakeServer) -> None:
    server = make_server(4)
    s3 = Wire(server)
    s3.ask("PUT", "/b01")
    for volume in server.volumes[:2]:
        remove(volume)
    server.restart()
    s3 = Wire(server)
    check(s3.ask("PUT", "/b01/k", body=b"data"), "ServiceUnavailable")
    check(s3.ask("PUT", "/b01/k", {"x-amz-meta-ec-ftt": "4"}, b"data"), "InvalidArgument")
