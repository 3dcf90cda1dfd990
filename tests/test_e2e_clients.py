"""The AWS CLI and curl against a running server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e import MIB
from tests.server import ACCESS, SECRET, Server, environment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# ---- the AWS CLI -----------------------------------------------------------------------------------------------------
class Aws:
    def __init__(self, server: Server, home: Path) -> None:
        self.home = home
        self._command = [sys.executable, "-m", "awscli", "--endpoint-url", server.url]
        self._env = environment(
            HOME=str(home), AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION="us-east-1"
        )

    def __call__(self, *arguments: str, input: bytes | None = None) -> bytes:
        done = subprocess.run(
            [*self._command, *arguments], cwd=self.home, env=self._env, input=input, capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture
def aws(server: Server, tmp_path: Path) -> Aws:
    return Aws(server, tmp_path)


def test_the_aws_cli_goes_round(aws: Aws, bucket: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name, size in (("empty", 0), ("a b/ü.txt", 1000), ("large.bin", 20 * MIB)):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
        os.utime(path, (1_600_000_000, 1_600_000_000))  # sync compares with whole seconds
    aws("s3", "sync", "tree", f"s3://{bucket}/copy")
    assert b"copy/a b/\xc3\xbc.txt" in aws("s3", "ls", "--recursive", f"s3://{bucket}")
    aws("s3", "sync", f"s3://{bucket}/copy", "back")
    for path in tree.rglob("*"):
        if path.is_file():
            assert (tmp_path / "back" / path.relative_to(tree)).read_bytes() == path.read_bytes()
    assert aws("s3", "sync", "tree", f"s3://{bucket}/copy") == b""
    aws("s3", "mv", f"s3://{bucket}/copy/empty", f"s3://{bucket}/moved")
    aws("s3", "rm", "--recursive", f"s3://{bucket}/copy")
    assert aws("s3", "ls", "--recursive", f"s3://{bucket}").split()[-1] == b"moved"
    aws("s3", "rb", "--force", f"s3://{bucket}")
    assert bucket.encode() not in aws("s3", "ls")


def test_the_aws_cli_streams(aws: Aws, bucket: str) -> None:
    body = os.urandom(12 * MIB)
    aws("s3", "cp", "-", f"s3://{bucket}/stream", input=body)
    assert aws("s3", "cp", f"s3://{bucket}/stream", "-") == body
    assert aws("s3api", "head-object", "--bucket", bucket, "--key", "stream", "--query", "ContentLength") == b"%d\n" % len(body)


# ---- curl ------------------------------------------------------------------------------------------------------------
def run_curl(curl: str, *arguments: str) -> bytes:
    done = subprocess.run(
        [curl, "--silent", "--show-error", "--max-time", "60", *arguments], env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_curl_puts_and_gets_by_presigned_urls(curl: str, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    body = os.urandom(5 * MIB)
    (tmp_path / "body").write_bytes(body)
    name = {"Bucket": bucket, "Key": "a key/ü?&"}
    put = s3.generate_presigned_url("put_object", Params=name)
    get = s3.generate_presigned_url("get_object", Params=name)
    answer = run_curl(curl, "--upload-file", str(tmp_path / "body"), "--write-out", "%{http_code}", put)
    assert answer == b"200"
    assert run_curl(curl, get) == body
    assert run_curl(curl, "--range", "100-299", get) == body[100:300]
    head = run_curl(curl, "--head", s3.generate_presigned_url("head_object", Params=name))
    assert f"Content-Length: {len(body)}".encode().lower() in head.lower()
    delete = s3.generate_presigned_url("delete_object", Params=name)
    assert run_curl(curl, "--request", "DELETE", "--write-out", "%{http_code}", delete) == b"204"
    assert b"<Code>NoSuchKey</Code>" in run_curl(curl, get)


def test_curl_signs_for_itself(curl: str, server: Server, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"for curl")
    sign = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "--user"]
    url = f"{server.url}/{bucket}/key"
    assert run_curl(curl, *sign, f"{ACCESS}:{SECRET}", url) == b"for curl"
    assert b"SignatureDoesNotMatch" in run_curl(curl, *sign, f"{ACCESS}:wrong-secret", url)


def test_curl_uploads_without_a_length_by_chunks(curl: str, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"chunk" * 100_000)
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "key"})
    with (tmp_path / "body").open("rb") as body:
        command = [curl, "--silent", "--upload-file", "-", "--write-out", "%{http_code}", url]
        done = subprocess.run(command, stdin=body, capture_output=True, check=True)
    # S3 demands a length, so that would be an answer too; but then nothing may be stored.
    assert done.stdout[-3:] in (b"200", b"411")
    stored = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    assert [item["Size"] for item in stored] == ([500_000] if done.stdout[-3:] == b"200" else [])
