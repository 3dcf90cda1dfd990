"""Behind a reverse proxy that clients know by another name: what they sign for it passes, and answers name it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.conftest import MakeServer, factory
from tests.server import ACCESS, SECRET, Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OUTER = "files.example.test"
Connect = Callable[..., "S3Client"]


class Proxy(BaseHTTPRequestHandler):
    """Sends everything on to `inner`, under the host name of that, and says so in `X-Forwarded-*`."""

    protocol_version = "HTTP/1.1"
    inner: ClassVar[int]
    proto: ClassVar[str] = "https"

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "expect", "connection")}
        headers |= {"Host": "127.0.0.1", "X-Forwarded-For": self.client_address[0], "X-Forwarded-Host": self.headers["Host"],
                    "X-Forwarded-Proto": self.proto}
        connection = http.client.HTTPConnection("127.0.0.1", self.inner, timeout=30)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("date", "server", "connection"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for make in factory(tmp_path_factory.mktemp("proxy")):
        yield make(4, "--durability", "page-cache", "--trusted-proxies", "127.0.0.0/8", "--domain", OUTER)


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[int]:
    """The port of one in front of that server."""
    yield from running(server)


def running(server: Server) -> Iterator[int]:
    handler = type("Handler", (Proxy,), {"inner": server.port})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found.server_address[1]
        found.shutdown()
        thread.join()


def client(port: int, style: str = "path") -> S3Client:
    """One that knows the proxy as OUTER: it signs for that name, and an event sends it to the right place."""
    made = boto3.client(
        "s3", endpoint_url=f"http://{OUTER}", region_name="us-east-1", aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}, signature_version="s3v4", s3={"addressing_style": style}),
    )

    def redirect(request: Any, **_: Any) -> None:
        host = request.url.split("/")[2]
        request.headers["Host"] = host
        request.url = request.url.replace(f"http://{host}", f"http://127.0.0.1:{port}", 1)

    made.meta.events.register("before-send.s3", redirect)
    return made


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_a_client_of_the_proxy_goes_round(proxy: int, style: str) -> None:
    s3, bucket = client(proxy, style), f"bucket-{style}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a b/ü", Body=b"data")
    assert s3.get_object(Bucket=bucket, Key="a b/ü")["Body"].read() == b"data"
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b/ü"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    done = s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload, MultipartUpload=parts)
    assert done["Location"] == (f"https://{OUTER}/{bucket}/m" if style == "path" else f"https://{bucket}.{OUTER}/m")
    s3.close()


def test_a_presigned_url_of_the_outer_name_can_be_used_through_the_proxy_only(proxy: int, server: Server) -> None:
    s3 = client(proxy)
    s3.create_bucket(Bucket="bucket")
    for method, operation, body in (("PUT", "put_object", b"data"), ("GET", "get_object", b"")):
        url = s3.generate_presigned_url(operation, Params={"Bucket": "bucket", "Key": "k"})
        target = url.removeprefix(f"http://{OUTER}")
        for port, host, status in ((server.port, "127.0.0.1", 403), (proxy, "other.test", 403), (proxy, OUTER, 200),
                                   (proxy, f"{OUTER}:443", 200)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request(method, target, body, {"Host": host})
            answer = connection.getresponse()
            assert (answer.status, port, host) == (status, port, host), answer.read()
            if method == "GET" and status == 200:
                assert answer.read() == b"data"
            connection.close()
    s3.close()


def test_a_proxy_that_is_not_trusted_is_a_client_like_any(make_server: MakeServer) -> None:
    server = make_server(1, "--trusted-proxies", "10.0.0.0/8")
    for port in running(server):
        s3 = client(port)
        with pytest.raises(ClientError) as error:
            s3.list_buckets()
        assert error.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
        s3.close()
