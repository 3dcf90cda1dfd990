"""The admin router: who may ask, what it answers, and that every refusal is JSON with a code of S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from abixio.admin.asks import MAX_BODY
from abixio.errors import Unavailable
from tests.admin_kit import DIRECTORIES, AdminHarness, RepairableFake, problem, told
from tests.s3_harness import ENDPOINT, Answer
from tests.s3_wire import ACCESS, SECRET

BASE = "/_admin/v1/"
HEAL = {"bucket": "photos", "key": "a"}
ENDPOINTS = [
    ("GET", "status"), ("GET", "inspect?bucket=photos&key=a"), ("GET", "jobs"), ("GET", "jobs/0"),
    ("POST", "heal"), ("POST", "ftt"), ("POST", "scan"), ("POST", "discard"),
    ("DELETE", "jobs/0"),
]  # fmt: skip
CHANGES = [(method, path) for method, path in ENDPOINTS if method != "GET"]


@pytest.fixture
def admin() -> Iterator[AdminHarness]:
    harness = AdminHarness(RepairableFake())
    harness.run(harness.store.add("photos", "a", "b", "c"))
    yield harness
    harness.close()


def send(
    admin: AdminHarness, method: str, path: str, body: bytes = b"", access: str = ACCESS, secret: str = SECRET,
    **more: str,
) -> Answer:
    """Signed by botocore with whatever credentials, headers added behind the signature."""
    request = AWSRequest(method, ENDPOINT + BASE + path, data=body)
    S3SigV4Auth(Credentials(access, secret), "s3", "eu-north-1").add_auth(request)
    headers = {name: str(value) for name, value in request.headers.items()} | more
    return admin.send(method, BASE + path, headers, body)


def untouched(admin: AdminHarness) -> bool:
    store = admin.store
    return not (store.discarded or store.healed or store.reencoded or store.scans or admin.jobs.all())


# ---- who may ask -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_nobody_without_a_signature_learns_or_changes_anything(admin: AdminHarness, method: str, path: str) -> None:
    assert problem(admin.send(method, BASE + path)) == (403, "AccessDenied")
    assert untouched(admin)


@pytest.mark.parametrize(("method", "path"), [*ENDPOINTS, ("GET", "nowhere"), ("PUT", "status")])
def test_a_wrong_secret_and_an_unknown_key_are_told_as_by_s3(admin: AdminHarness, method: str, path: str) -> None:
    assert problem(send(admin, method, path, secret="x" * 40)) == (403, "SignatureDoesNotMatch")
    assert problem(send(admin, method, path, access="AKIANOBODY")) == (403, "InvalidAccessKeyId")
    assert untouched(admin)


def test_a_request_of_another_time_is_refused(admin: AdminHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abixio.admin.router.time.time", lambda: datetime.now(UTC).timestamp() + 16 * 60)
    assert problem(send(admin, "GET", "status")) == (403, "RequestTimeTooSkewed")


@pytest.mark.parametrize(
    ("altered", "code"),
    [
        ({"path": BASE + "jobs"}, "SignatureDoesNotMatch"),
        ({"path": BASE + "status?x=1"}, "SignatureDoesNotMatch"),
        ({"headers": {"x-amz-meta-more": "1"}}, "AccessDenied"),
        ({"headers": {"Host": "elsewhere"}}, "SignatureDoesNotMatch"),
        ({"headers": {"x-amz-content-sha256": sha256(b"other").hexdigest()}}, "SignatureDoesNotMatch"),
        ({"headers": {"Authorization": "AWS4-HMAC-SHA256 nonsense"}}, "AuthorizationHeaderMalformed"),
        ({"headers": {"Authorization": "Basic dXNlcjpwYXNz"}}, "InvalidArgument"),
    ],
)
def test_what_was_altered_behind_the_signature_is_refused(admin: AdminHarness, altered: dict[str, Any], code: str) -> None:
    request = AWSRequest("GET", ENDPOINT + BASE + "status")
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(request)
    headers = {name: str(value) for name, value in request.headers.items()} | altered.get("headers", {})
    answer = admin.send("GET", altered.get("path", BASE + "status"), headers)
    assert problem(answer)[1] == code


def test_a_presigned_url_may_look(admin: AdminHarness) -> None:
    assert told(admin.presigned("GET", BASE + "status"))["directories"] == {str(slot): path for slot, path in DIRECTORIES.items()}


def test_an_expired_url_may_not(admin: AdminHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    later = datetime.now(UTC) + timedelta(seconds=61)
    monkeypatch.setattr("abixio.admin.router.time.time", later.timestamp)
    assert problem(admin.presigned("GET", BASE + "status")) == (403, "AccessDenied")


# ---- changes are signed whole ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_presigned_url_changes_nothing(admin: AdminHarness, method: str, path: str) -> None:
    body = json.dumps(HEAL | ({"ftt": 2} if path == "ftt" else {})).encode() if path in ("heal", "ftt") else b""
    assert problem(admin.presigned(method, BASE + path, body=body)) == (403, "AccessDenied")
    signed = sha256(body).hexdigest()
    request = AWSRequest(method, f"{ENDPOINT}{BASE}{path}?x-amz-content-sha256={signed}")
    signer = S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", "us-east-1", expires=60)
    signer.payload = lambda request: signed  # type: ignore[method-assign]
    signer.add_auth(request)
    split = urlsplit(request.url)
    assert problem(admin.send(method, f"{split.path}?{split.query}", body=body)) == (403, "AccessDenied")
    assert untouched(admin)


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"])
def test_an_unsigned_body_changes_nothing(admin: AdminHarness, method: str, path: str, payload: str) -> None:
    request = AWSRequest(method, ENDPOINT + BASE + path, headers={"x-amz-content-sha256": payload})
    signer = S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1")
    signer.payload = lambda request: payload  # type: ignore[method-assign]
    signer.add_auth(request)
    headers = {name: str(value) for name, value in request.headers.items()} | {"x-amz-content-sha256": payload}
    assert problem(admin.send(method, BASE + path, headers, json.dumps(HEAL).encode())) == (403, "AccessDenied")
    assert untouched(admin)


@pytest.mark.parametrize("path", ["heal", "ftt", "scan", "discard"])
def test_a_body_other_than_the_signed_one_changes_nothing(admin: AdminHarness, path: str) -> None:
    request = AWSRequest("POST", ENDPOINT + BASE + path, data=b"{}")
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(request)
    headers = {name: str(value) for name, value in request.headers.items()}
    answer = admin.send("POST", BASE + path, headers, b'{"all": true}')
    assert problem(answer) == (400, "XAmzContentSHA256Mismatch")
    assert untouched(admin)


# ---- discarding ------------------------------------------------------------------------------------------------------
def test_a_discard_names_one_key_and_tells_what_it_gave_up(admin: AdminHarness) -> None:
    content = told(admin.ask("POST", BASE + "discard", body=json.dumps(HEAL).encode()))
    assert content == {
        "bucket": "photos", "key": "a", "discarded": [{"seq": 7, "rev": 0, "kind": "object", "modified": 1, "size": 3}],
    }
    assert admin.store.discarded == ["photos/a"]


@pytest.mark.parametrize("body", [
    {}, {"bucket": "photos"}, {"key": "a"}, {"bucket": "photos", "key": ""}, {"bucket": "photos", "prefix": "a"}, {"all": True},
])
def test_nothing_more_than_one_key_can_be_discarded(admin: AdminHarness, body: dict[str, Any]) -> None:
    assert problem(admin.ask("POST", BASE + "discard", body=json.dumps(body).encode()))[0] == 400
    assert untouched(admin)


def test_a_discard_in_a_bucket_that_is_not_there(admin: AdminHarness) -> None:
    assert problem(admin.ask("POST", BASE + "discard", body=b'{"bucket": "nowhere", "key": "a"}')) == (404, "NoSuchBucket")


# ---- what is here ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path", ["", "v1", "v1/", "v1/nowhere", "v1/status/", "v1//status", "v2/status", "status", "v1/../v1/status", "v1/jobsx"]
)
def test_a_path_that_is_not_here_is_404(admin: AdminHarness, path: str) -> None:
    answer = admin.ask("GET", "/_admin/" + path)
    assert problem(answer) == (404, "NoSuchPath")
    assert "/_admin/v1/status" in told(answer)["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "status", "GET"), ("DELETE", "status", "GET"), ("HEAD", "status", "GET"), ("PUT", "heal", "POST"),
        ("GET", "ftt", "POST"), ("POST", "jobs", "GET"), ("PUT", "jobs/x", "GET, DELETE"), ("OPTIONS", "heal", "POST"),
    ],
)
def test_another_method_is_405_and_says_which_one(admin: AdminHarness, method: str, path: str, allowed: str) -> None:
    answer = admin.ask(method, BASE + path)
    assert problem(answer) == (405, "MethodNotAllowed")
    assert answer.headers["allow"] == allowed


def test_a_body_where_none_belongs_is_refused(admin: AdminHarness) -> None:
    assert problem(admin.ask("GET", BASE + "status", body=b"{}")) == (400, "UnexpectedContent")
    assert problem(admin.ask("DELETE", BASE + "jobs/x", body=b"{}")) == (400, "UnexpectedContent")


def test_everything_else_stays_with_s3(admin: AdminHarness) -> None:
    assert admin.ask("GET", "/photos/a").status == 200
    for path in ("/_admin", "/_adminx/v1/status", "/%5Fadmin/v1/status", "//_admin/v1/status"):
        answer = admin.ask("GET", path)
        assert answer.status in (400, 404), path
        assert b"<Error>" in answer.body


def test_in_a_virtual_hosted_bucket_the_path_is_a_key() -> None:
    harness = AdminHarness(RepairableFake(), domains=("s3.test",))
    try:
        harness.run(harness.store.add("photos", "_admin/v1/status"))

        def ask(host: str) -> Answer:
            request = AWSRequest("GET", f"http://{host}/_admin/v1/status")
            S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(request)
            return harness.send("GET", "/_admin/v1/status", {"Host": host} | dict(request.headers.items()))

        assert ask("photos.s3.test").body == b""
        assert told(ask("s3.test"))["version"]
    finally:
        harness.close()


# ---- what it answers -------------------------------------------------------------------------------------------------
def test_status_tells_of_volumes_repair_and_jobs(admin: AdminHarness) -> None:
    content = told(admin.ask("GET", BASE + "status"))
    assert [volume["state"] for volume in content["repair"]["volumes"]] == ["up"] * 4
    assert content["jobs"] == []
    assert content["up_seconds"] >= 0


def test_inspect_tells_of_every_shard(admin: AdminHarness) -> None:
    content = told(admin.ask("GET", BASE + "inspect?bucket=photos&key=a"))
    (version,) = content["versions"]
    assert (content["bucket"], content["key"], version["whole"]) == ("photos", "a", True)
    assert [shard["slot"] for shard in version["shards"]] == [0, 1, 2, 3]
    assert not told(admin.ask("GET", BASE + "inspect?bucket=photos&key=a&quick=true"))["versions"][0]["whole"]


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ("", (400, "InvalidArgument")),
        ("?bucket=photos", (400, "InvalidArgument")),
        ("?key=a", (400, "InvalidArgument")),
        ("?bucket=photos&key=", (400, "InvalidArgument")),
        ("?bucket=photos&key=a&versionid=3", (400, "InvalidArgument")),
        ("?bucket=photos&key=a&quick=1", (400, "InvalidArgument")),
        ("?bucket=photos&key=a&key=b", (400, "InvalidArgument")),
        ("?bucket=a%2Fb&key=a", (400, "InvalidBucketName")),
        ("?bucket=nowhere&key=a", (404, "NoSuchBucket")),
        ("?bucket=photos&key=nothing", (404, "NoSuchKey")),
        ("?bucket=photos&key=" + "k" * 1025, (400, "KeyTooLongError")),
        ("?bucket=photos&key=%ff", (400, "InvalidURI")),
    ],
)
def test_inspect_refuses_what_names_no_key(admin: AdminHarness, query: str, refusal: tuple[int, str]) -> None:
    assert problem(admin.ask("GET", BASE + "inspect" + query)) == refusal


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("heal", b"", (400, "InvalidBucketName")),
        ("heal", b"{", (400, "InvalidArgument")),
        ("heal", b"\xff", (400, "InvalidArgument")),
        ("heal", b"[]", (400, "InvalidArgument")),
        ("heal", b'{"bucket": "photos"}', (400, "InvalidArgument")),
        ("heal", b'{"bucket": "photos", "key": "a", "prefix": ""}', (400, "InvalidArgument")),
        ("heal", b'{"bucket": "photos", "key": ""}', (400, "InvalidArgument")),
        ("heal", b'{"bucket": "photos", "key": "\\ud800"}', (400, "InvalidArgument")),
        ("heal", b'{"bucket": "photos", "key": 5}', (400, "InvalidArgument")),
        ("heal", b'{"bucket": "photos", "key": "a", "deep": true}', (400, "InvalidArgument")),
        ("heal", b'{"all": true, "bucket": "photos"}', (400, "InvalidArgument")),
        ("heal", b'{"all": false}', (400, "InvalidBucketName")),
        ("heal", b'{"bucket": "nowhere", "key": "a"}', (404, "NoSuchBucket")),
        ("heal", b'{"bucket": ' + b"[" * (MAX_BODY - 20), (400, "InvalidArgument")),
        ("heal", b" " * (MAX_BODY + 1), (400, "MaxMessageLengthExceeded")),
        ("ftt", b'{"bucket": "photos", "key": "a"}', (400, "InvalidArgument")),
        ("ftt", b'{"bucket": "photos", "key": "a", "ftt": 4}', (400, "InvalidArgument")),
        ("ftt", b'{"bucket": "photos", "key": "a", "ftt": -1}', (400, "InvalidArgument")),
        ("ftt", b'{"bucket": "photos", "key": "a", "ftt": "01"}', (400, "InvalidArgument")),
        ("ftt", b'{"bucket": "photos", "key": "a", "ftt": true}', (400, "InvalidArgument")),
        ("ftt", b'{"bucket": "photos", "key": "a", "ftt": 1e999}', (400, "InvalidArgument")),
        ("ftt", b'{"bucket": "photos", "ftt": 2}', (400, "InvalidArgument")),
        ("ftt", b'{"bucket": "nowhere", "prefix": "", "ftt": 2}', (404, "NoSuchBucket")),
        ("scan", b'{"rate": 5}', (400, "InvalidArgument")),
    ],
)
def test_a_job_that_is_not_clear_is_not_begun(admin: AdminHarness, path: str, body: bytes, refusal: tuple[int, str]) -> None:
    assert problem(admin.ask("POST", BASE + path, body=body)) == refusal
    assert untouched(admin)


def test_a_long_body_is_refused_unread_when_its_length_says_so_and_read_no_further_when_not(admin: AdminHarness) -> None:
    body = b" " * (8 * MAX_BODY)
    assert problem(admin.ask("POST", BASE + "heal", body=body)) == (400, "MaxMessageLengthExceeded")
    assert admin.unread == len(body)
    assert problem(admin.ask("POST", BASE + "heal", {"Transfer-Encoding": "chunked"}, body, None))[0] == 400


def test_jobs_are_told_and_listed(admin: AdminHarness) -> None:
    job = admin.job("heal", HEAL)
    assert (job["state"], job["counts"]["objects"], job["counts"]["examined_shards"]) == ("done", 1, 4)
    assert told(admin.ask("GET", BASE + "jobs"))["jobs"] == [job]
    assert problem(admin.ask("GET", BASE + "jobs/000000")) == (404, "NoSuchJob")
    assert problem(admin.ask("DELETE", BASE + "jobs/")) == (404, "NoSuchJob")
    assert told(admin.ask("DELETE", BASE + "jobs/" + job["id"])) == job


def test_a_running_job_is_ended_by_delete(admin: AdminHarness) -> None:
    admin.store.gate.clear()
    number = told(admin.ask("POST", BASE + "heal", body=b'{"all": true}'))["job"]
    assert told(admin.ask("GET", BASE + "status"))["jobs"][0]["id"] == number
    assert told(admin.ask("DELETE", BASE + "jobs/" + number))["stopping"]
    admin.store.gate.set()
    admin.run(admin.jobs.aclose(1))
    assert told(admin.ask("GET", BASE + "jobs/" + number))["state"] == "cancelled"


def test_the_store_s_errors_have_the_status_that_s3_gives_them(admin: AdminHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: Any, **__: Any) -> Any:
        raise Unavailable("only 1 of 4")

    monkeypatch.setattr(admin.store, "inspect", failing)
    assert problem(admin.ask("GET", BASE + "inspect?bucket=photos&key=a")) == (503, "ServiceUnavailable")


def test_a_defect_is_a_500_in_json_without_its_details(
    admin: AdminHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("inner workings")

    monkeypatch.setattr(admin.store, "inspect", failing)
    answer = admin.ask("GET", BASE + "inspect?bucket=photos&key=a")
    assert problem(answer) == (500, "InternalError")
    assert b"inner" not in answer.body
    assert "inner workings" in caplog.text
