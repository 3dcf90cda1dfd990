"""What the end-to-end tests of faults share: objects of every FTT, and calls that tell their HTTP status."""

from __future__ import annotations

import http.client
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
BODIES = {
    f"{ftt}/{name}": random.Random(f"{ftt}{name}").randbytes(size)
    for ftt in range(4)
    for name, size in (("empty", 0), ("small", 1000), ("large", 5 * MIB + 123))
}


def fill(s3: S3Client) -> None:
    s3.create_bucket(Bucket="bucket")
    for key, body in BODIES.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body, Metadata={"ec-ftt": key[0]})


def read(s3: S3Client, key: str, **more: Any) -> bytes:
    with s3.get_object(Bucket="bucket", Key=key, **more)["Body"] as body:
        return body.read()


def outcome(call: Any) -> int:
    """The HTTP status of a call to boto3."""
    try:
        call()
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return 200


def put(s3: S3Client, key: str, body: bytes) -> int:
    """The HTTP status of a PUT."""
    return outcome(lambda: s3.put_object(Bucket="bucket", Key=key, Body=body))


def got(s3: S3Client, key: str) -> int:
    """The HTTP status of a GET."""
    return outcome(lambda: read(s3, key))


def shards(volume: Path) -> list[Path]:
    return sorted(path for path in (volume / "shards").rglob("*") if path.is_file())


def presigned(server: Server, method: str, key: str) -> str:
    client = server.client()
    url = client.generate_presigned_url(method, Params={"Bucket": "bucket", "Key": key})
    client.close()
    return url.removeprefix(server.url)


def begin_put(server: Server, key: str, length: int, body: bytes) -> http.client.HTTPConnection:
    """A PUT of `length` bytes of which only `body` is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("PUT", presigned(server, "put_object", key))
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    connection.send(body)
    return connection


def leftovers(server: Server) -> list[Path]:
    return [path for volume in server.volumes for path in (volume / ".abixio/tmp").iterdir()]


def get(server: Server, url: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", url.removeprefix(server.url))
    answer = connection.getresponse()
    result = answer.status, answer.read()
    connection.close()
    return result
