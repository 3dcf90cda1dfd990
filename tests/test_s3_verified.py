"""A presigned URL that is fetched again: the same answer as the first time, and the same refusals."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from abixio.message import Repeated
from tests.s3_harness import ENDPOINT, Harness
from tests.s3_wire import ACCESS, SECRET, request


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    assert harness.ask("PUT", "/b01").status == 200
    assert harness.ask("PUT", "/b01/k", body=b"data").status == 200
    yield harness
    harness.close()


def url_of(s3: Harness) -> str:
    """A URL that was good once."""
    made = AWSRequest("GET", ENDPOINT + "/b01/k")
    S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", "us-east-1", expires=60).add_auth(made)
    url = str(made.url)[len(ENDPOINT) :]
    assert s3.send("GET", url).body == b"data"
    assert len(s3.service._verified._good) == 1
    return url


def test_the_second_time_it_is_answered_from_what_is_there_then(s3: Harness) -> None:
    url = url_of(s3)
    assert s3.ask("PUT", "/b01/k", body=b"newer").status == 200
    assert s3.send("GET", url).body == b"newer"
    assert s3.ask("DELETE", "/b01/k").status == 204
    assert s3.send("GET", url).code == "NoSuchKey"


def test_it_ends_when_its_time_is_over(s3: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    url, now = url_of(s3), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert (s3.send("GET", url).status, s3.send("GET", url).code) == (403, "AccessDenied")
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    assert s3.send("GET", url).code == "AccessDenied"


def test_another_method_host_path_or_query_is_verified_anew(s3: Harness) -> None:
    url = url_of(s3)
    assert s3.send("DELETE", url).code == "SignatureDoesNotMatch"
    assert s3.send("PUT", url, body=b"x").code == "SignatureDoesNotMatch"
    assert s3.send("GET", url, {"Host": "other.test:9000"}).code == "SignatureDoesNotMatch"
    assert s3.send("GET", url.replace("/k", "/l")).code == "SignatureDoesNotMatch"
    assert s3.send("GET", url + "&versionId=null").code == "SignatureDoesNotMatch"
    assert s3.send("GET", url).body == b"data"


def test_headers_that_are_not_signed_are_refused_as_the_first_time(s3: Harness) -> None:
    url = url_of(s3)
    assert s3.send("GET", url, {"x-amz-checksum-mode": "ENABLED"}).code == "AccessDenied"
    assert s3.send("GET", url, {"Authorization": "AWS4-HMAC-SHA256 x"}).status in (400, 403)
    assert s3.send("GET", url, {"Range": "bytes=1-2"}).body == b"at"


def test_a_url_of_version_2_is_never_remembered(s3: Harness) -> None:
    now = int(time.time())
    query = "X-Amz-SignedHeaders=host&X-Amz-Date=20130524T000000Z&X-Amz-Expires=604800&X-Amz-Signature=00"
    for signature in ("AAAA", ""):
        s3.send("GET", f"/b01/k?AWSAccessKeyId=AKIDEXAMPLE&Signature={signature}&Expires={now + 60}&{query}")
    assert len(s3.service._verified._good) == 0


def test_what_is_remembered_has_a_bound(s3: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from abixio.s3 import verified

    monkeypatch.setattr(verified, "KEPT", 3)
    for number in range(9):
        assert s3.presigned("GET", f"/b01/k?response-content-type=a{number}").body == b"data"
    assert len(s3.service._verified._good) == 3


def repeated(s3: Harness, url: str) -> Repeated:
    """The answer to its third request, which the application need not be asked for again."""
    for _ in range(3):
        answer = s3.service(request("GET", url, {"Host": "s3.test:9000"}))
    assert isinstance(answer, Repeated)
    assert answer.again is not None
    return answer


def test_bytes_that_come_again_are_answered_without_being_read_as_long_as_nothing_changes(s3: Harness) -> None:
    url = url_of(s3)
    again = repeated(s3, url).again
    assert again is not None
    for id in ("A", "B"):
        found = again(id)
        assert found is not None
        assert (found.id, found.body, found.again is not None) == (id, b"data", True)
    assert s3.ask("PUT", "/b01/k", body=b"newer").status == 200
    assert again("C") is None
    answer = repeated(s3, url)
    assert answer.body == b"newer"
    assert s3.ask("DELETE", "/b01/k").status == 204
    assert answer.again is not None
    assert answer.again("D") is None


def test_bytes_that_come_again_are_refused_when_their_time_is_over(s3: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    again, now = repeated(s3, url_of(s3)).again, time.time()
    assert again is not None
    for then, good in ((now + 55, True), (now + 61, False), (now - 800, True), (now - 1000, False)):
        monkeypatch.setattr(time, "time", lambda then=then: then)
        assert (again("A") is not None) is good


def test_what_is_signed_in_headers_is_never_answered_unread(s3: Harness) -> None:
    made = AWSRequest("GET", ENDPOINT + "/b01/k")
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(made)
    for _ in range(3):
        answer = s3.service(request("GET", "/b01/k", {"Host": "s3.test:9000", **dict(made.headers)}))
    assert isinstance(answer, Repeated)
    assert answer.again is None
