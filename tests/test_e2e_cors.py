"""CORS rules, preflights and the headers of real answers, over a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PAGE = "https://app.example.com"
RULES: Any = [
    {"ID": "one", "AllowedOrigins": [PAGE, "https://*.org"], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["x-amz-*"],
     "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 600},
    {"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD"]},
]


@pytest.fixture
def ruled(s3: S3Client, bucket: str) -> Iterator[str]:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    yield bucket
    s3.delete_bucket_cors(Bucket=bucket)


def asked(s3: S3Client, method: str, target: str, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of a raw request."""
    where = urlsplit(s3.meta.endpoint_url)
    connection = HTTPConnection(where.hostname or "", where.port, timeout=30)
    connection.request(method, target, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def preflight(s3: S3Client, target: str, origin: str, method: str, headers: str = "") -> tuple[int, dict[str, str], str]:
    sent = {"Origin": origin, "Access-Control-Request-Method": method}
    return asked(s3, "OPTIONS", target, sent | ({"Access-Control-Request-Headers": headers} if headers else {}))


def test_rules_come_back_as_they_were_put(s3: S3Client, ruled: str) -> None:
    found = s3.get_bucket_cors(Bucket=ruled)["CORSRules"]
    assert json.dumps(found, sort_keys=True) == json.dumps(RULES, sort_keys=True)


def test_a_preflight_that_a_rule_allows(s3: S3Client, ruled: str) -> None:
    status, headers, _ = preflight(s3, f"/{ruled}/k", PAGE, "PUT", "X-Amz-Date, x-amz-meta-a")
    assert status == 200
    assert headers["access-control-allow-origin"] == PAGE and headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-allow-methods"] == "GET, PUT" and headers["access-control-max-age"] == "600"
    assert headers["access-control-allow-headers"] == "x-amz-date, x-amz-meta-a"
    assert headers["access-control-expose-headers"] == "ETag" and "Origin" in headers["vary"]


def test_a_rule_for_everybody_names_nobody(s3: S3Client, ruled: str) -> None:
    status, headers, _ = preflight(s3, f"/{ruled}", "https://anywhere.net", "HEAD")
    assert (status, headers["access-control-allow-origin"]) == (200, "*")
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(("origin", "method", "headers"), [
    ("https://evil.example.com", "GET", ""), (PAGE, "DELETE", ""), (PAGE, "PUT", "authorization"),
    (PAGE + ".evil.com", "GET", ""), ("https://a.org.evil.com", "GET", ""),
])
def test_a_preflight_that_no_rule_allows(origin: str, method: str, headers: str, s3: S3Client, ruled: str) -> None:
    status, sent, body = preflight(s3, f"/{ruled}/k", origin, method, headers)
    assert status == 403 and "<Code>AccessForbidden</Code>" in body
    assert not [name for name in sent if name.startswith("access-control-")]


def test_real_answers_and_errors_say_who_may_read_them(s3: S3Client, ruled: str) -> None:
    url = s3.generate_presigned_url("get_object", Params={"Bucket": ruled, "Key": "k"})
    target = url.removeprefix(s3.meta.endpoint_url)
    status, headers, body = asked(s3, "GET", target, {"Origin": "https://www.some.org"})
    assert (status, body, headers["access-control-allow-origin"]) == (200, "data", "https://www.some.org")
    assert headers["access-control-expose-headers"] == "ETag"
    status, headers, _ = asked(s3, "GET", f"/{ruled}/k", {"Origin": PAGE})
    assert (status, headers["access-control-allow-origin"]) == (403, PAGE)
    status, headers, _ = asked(s3, "GET", target, {"Origin": "https://evil.example.com"})
    assert status == 200 and "access-control-allow-origin" not in headers
    status, headers, _ = asked(s3, "GET", target, {"Origin": PAGE, "Access-Control-Request-Method": "DELETE"})
    assert status == 200 and "access-control-allow-origin" not in headers


def test_no_rules_and_no_bucket_look_the_same(s3: S3Client, bucket: str) -> None:
    answers = [preflight(s3, f"/{name}/k", PAGE, "GET") for name in (bucket, "none-such")]
    assert [status for status, _, _ in answers] == [403, 403]
    assert all("CORS is not enabled" in body for _, _, body in answers)


@pytest.mark.parametrize(("rule", "code"), [
    ({"AllowedOrigins": ["*"], "AllowedMethods": ["PATCH"]}, "InvalidRequest"),
    ({"AllowedOrigins": ["*.*"], "AllowedMethods": ["GET"]}, "InvalidRequest"),
    ({"AllowedOrigins": ["*"], "AllowedMethods": ["GET"], "ExposeHeaders": ["*"]}, "InvalidRequest"),
    ({"AllowedOrigins": [], "AllowedMethods": ["GET"]}, "MalformedXML"),
])
def test_rules_that_s3_refuses(rule: Any, code: str, s3: S3Client, ruled: str) -> None:
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_cors(Bucket=ruled, CORSConfiguration={"CORSRules": [rule]})
    assert caught.value.response["Error"]["Code"] == code
    assert len(s3.get_bucket_cors(Bucket=ruled)["CORSRules"]) == 2


def test_without_rules_there_is_an_error(s3: S3Client, ruled: str) -> None:
    s3.delete_bucket_cors(Bucket=ruled)
    with pytest.raises(ClientError) as caught:
        s3.get_bucket_cors(Bucket=ruled)
    assert caught.value.response["Error"]["Code"] == "NoSuchCORSConfiguration"


def test_a_page_may_read_the_answer_to_its_form(s3: S3Client, ruled: str) -> None:
    rules: Any = [{"AllowedOrigins": [PAGE], "AllowedMethods": ["POST"], "ExposeHeaders": ["Location"]}]
    s3.put_bucket_cors(Bucket=ruled, CORSConfiguration={"CORSRules": rules})
    for key, code in (("form", 204), ("other", 403)):
        made = s3.generate_presigned_post(ruled, "form")
        parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                        for name, value in (made["fields"] | {"key": key, "file": "data"}).items())
        body = (parts + "--x--\r\n").encode()
        where = urlsplit(made["url"])
        connection = HTTPConnection(where.hostname or "", where.port, timeout=30)
        connection.request("POST", where.path, body, {"Origin": PAGE, "Content-Type": "multipart/form-data; boundary=x"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert (answer.status, answer.getheader("Access-Control-Allow-Origin")) == (code, PAGE)
        assert answer.getheader("Access-Control-Expose-Headers") == "Location"
