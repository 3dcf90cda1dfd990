"""Uploads by form: boto3's presigned posts, what a policy allows and what not, and forms that are none."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from abixio.s3.forms import MAX_FIELDS, STEP, FileBody, boundary
from abixio.s3.keys import signing_key
from abixio.s3.sigv4 import sign
from tests.s3_harness import Answer, Harness
from tests.s3_wire import ACCESS, SECRET, BytesBody

LINE = "----form-boundary"


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    yield harness
    harness.close()


def encode(fields: dict[str, str], file: bytes | None, filename: str = "a.txt", after: dict[str, str] | None = None) -> bytes:
    def part(name: str, value: str) -> bytes:
        return f'--{LINE}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()

    body = b"".join(part(name, value) for name, value in fields.items())
    if file is not None:
        head = f'--{LINE}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: text/x\r\n\r\n'
        body += head.encode() + file + b"\r\n"
    return body + b"".join(part(name, value) for name, value in (after or {}).items()) + f"--{LINE}--\r\n".encode()


def send(s3: Harness, body: bytes, target: str = "/b01", content_type: str = f"multipart/form-data; boundary={LINE}") -> Answer:
    return s3.send("POST", target, {"content-type": content_type, "content-length": str(len(body))}, body)


def signed(conditions: list[Any], fields: dict[str, str], policy: dict[str, Any] | None = None, **changes: str) -> dict[str, str]:
    """The fields with a policy of version 4 that holds for an hour, and for `fields` if there are no conditions."""
    now = datetime.now(UTC)
    date = now.strftime("%Y%m%d")
    own = {"x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": f"{ACCESS}/{date}/us-east-1/s3/aws4_request",
           "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")} | changes
    every = [*conditions, *({name: value} for name, value in own.items())]
    found = {"expiration": (now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z"), "conditions": every} | (policy or {})
    encoded = b64encode(json.dumps(found).encode()).decode()
    return fields | own | {"policy": encoded, "x-amz-signature": sign(signing_key(SECRET, date, "us-east-1"), encoded)}


ANY: list[Any] = [{"bucket": "b01"}, ["starts-with", "$key", ""]]


def post(
    s3: Harness, file: bytes = b"data", conditions: list[Any] | None = None, filename: str = "a.txt", **fields: str
) -> Answer:
    sent = {name.replace("_", "-") if name.startswith("x_") else name: value for name, value in fields.items()}
    extra = [["starts-with", f"${name}", ""] for name in sent if name != "key"]
    form = signed(ANY + extra if conditions is None else conditions, {"key": "k"} | sent)
    return send(s3, encode(form, file, filename))


@pytest.mark.parametrize("version", ["s3", "s3v4"])
@pytest.mark.parametrize("size", [0, 1, 4000, STEP - 1, STEP, STEP + 1, 3 * STEP + 77])
def test_the_form_of_boto3_stores_the_file(s3: Harness, version: Any, size: int) -> None:
    client: Any = s3.client(signature_version=version)
    made = client.generate_presigned_post("b01", "up/${filename}", Fields={"x-amz-meta-a": "ä"}, Conditions=[
        {"x-amz-meta-a": "ä"}, ["content-length-range", 0, size]])
    file = (b"\r\n--" + LINE.encode()[:-1] + b"x" + bytes(range(256))) * (size // 200 + 1)
    answer = send(s3, encode(made["fields"], file[:size], "C:\\dir\\photo.jpg"))
    assert (answer.status, answer.body) == (204, b"")
    found = s3.client().get_object(Bucket="b01", Key="up/photo.jpg")
    assert found["Body"].read() == file[:size]
    assert found["ETag"] == answer.headers["etag"]
    assert answer.headers["location"] == "http://s3.test:9000/b01/up/photo.jpg"


@pytest.mark.parametrize(("wanted", "status"), [("200", 200), ("201", 201), ("204", 204), ("404", 204), ("", 204)])
def test_the_status_that_the_form_asks_for(s3: Harness, wanted: str, status: int) -> None:
    answer = post(s3, key="a b&c", success_action_status=wanted)
    assert answer.status == status
    if status == 201:
        for piece in (b"<Location>http://s3.test:9000/b01/a%20b%26c</Location>", b"<Bucket>b01</Bucket>", b"<Key>a b&amp;c</Key>",
                      b"<PostResponse>", answer.headers["etag"].replace('"', "&quot;").encode()):
            assert piece in answer.body
    else:
        assert answer.body == b""


def test_a_browser_is_sent_on_with_what_was_stored(s3: Harness) -> None:
    answer = post(s3, key="a/b", success_action_redirect="https://app.test/done?x=1", success_action_status="201")
    etag = answer.headers["etag"].strip('"')
    assert (answer.status, answer.body) == (303, b"")
    assert answer.headers["location"] == f"https://app.test/done?x=1&bucket=b01&key=a%2Fb&etag=%22{etag}%22"
    assert post(s3, key="a/b", redirect="http://h/").status == 303


@pytest.mark.parametrize("address", ["/here", "javascript:alert(1)", "ftp://h/", "http://", "https://a b/", "http://[x/"])
def test_what_is_no_address_is_ignored(s3: Harness, address: str) -> None:
    assert post(s3, success_action_redirect=address).status == 204


def test_the_fields_are_the_headers_of_a_put(s3: Harness) -> None:
    tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    fields = {"Content-Type": "image/png", "Cache-Control": "no-store", "acl": "private", "tagging": tags, "X-Ignore-Me": "x"}
    answer = post(s3, x_amz_meta_color="red", x_amz_storage_class="GLACIER", **fields)
    assert answer.status == 204
    found = s3.client().head_object(Bucket="b01", Key="k")
    assert (found["ContentType"], found["CacheControl"], found["StorageClass"]) == ("image/png", "no-store", "GLACIER")
    assert found["Metadata"] == {"color": "red"} and found["ContentLength"] == 4
    assert s3.client().get_object_tagging(Bucket="b01", Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"acl": "public-read"}, "AccessControlListNotSupported"), ({"x_amz_storage_class": "TAPE"}, "InvalidStorageClass"),
    ({"content-md5": b64encode(bytes(16)).decode()}, "BadDigest"), ({"x_amz_checksum_crc32": "AAAAAA=="}, "BadDigest"),
    ({"tagging": "<Tagging"}, "MalformedXML"), ({"x_amz_meta_a": "x" * 2049}, "MetadataTooLarge"),
    ({"x_amz_meta_a": "x\r\ny"}, "InvalidArgument"), ({"key": "k" * 1025}, "KeyTooLongError"),
    ({"x_amz_write_offset_bytes": "0"}, "NotImplemented"), ({"x_amz_security_token": "x"}, "InvalidToken"),
]


@pytest.mark.parametrize(("fields", "code"), REFUSED)
def test_what_a_put_would_be_refused_for(s3: Harness, fields: dict[str, str], code: str) -> None:
    assert post(s3, **fields).code == code
    assert not s3.store.contents["b01"].objects


FAILED: list[tuple[list[Any], str]] = [
    ([{"bucket": "b01"}, {"key": "other"}], 'Policy Condition failed: ["eq", "$key", "other"]'),
    ([{"bucket": "b02"}, {"key": "k"}], "Policy Condition failed"),
    ([{"bucket": "b01"}, ["starts-with", "$key", "user/"]], "Policy Condition failed"),
    ([{"key": "k"}], "Extra input fields: bucket"), ([{"bucket": "b01"}], "Extra input fields: key"),
    ([*ANY, {"acl": "private"}], "Policy Condition failed"),
]


@pytest.mark.parametrize(("conditions", "message"), FAILED)
def test_a_condition_that_does_not_hold(s3: Harness, conditions: list[Any], message: str) -> None:
    answer = post(s3, conditions=conditions)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert f"Invalid according to Policy: {message}".replace('"', "&quot;").encode() in answer.body
    assert not s3.store.contents["b01"].objects


def test_every_field_has_to_be_allowed_but_what_follows_the_file_is_ignored(s3: Harness) -> None:
    form = signed(ANY, {"key": "k", "x-amz-meta-a": "b"})
    assert send(s3, encode(form, b"data")).code == "AccessDenied"
    assert send(s3, encode(signed(ANY, {"key": "k"}), b"data", after={"x-amz-meta-a": "b", "submit": "Go"})).status == 204
    assert s3.client().head_object(Bucket="b01", Key="k")["Metadata"] == {}


def test_conditions_see_the_name_of_the_file(s3: Harness) -> None:
    conditions = [{"bucket": "b01"}, ["starts-with", "$key", "up/safe"]]
    assert post(s3, conditions=conditions, filename="safe.txt", key="up/${filename}").status == 204
    assert post(s3, conditions=conditions, filename="other.txt", key="up/${filename}").code == "AccessDenied"


def test_types_are_compared_one_by_one(s3: Harness) -> None:
    conditions = [*ANY, ["starts-with", "$Content-Type", "image/"]]
    form = {"key": "k", "Content-Type": "image/png,image/gif"}
    assert send(s3, encode(signed(conditions, form), b"x")).status == 204
    assert send(s3, encode(signed(conditions, form | {"Content-Type": "image/png,text/html"}), b"x")).code == "AccessDenied"


@pytest.mark.parametrize(("size", "code"), [(4, "EntityTooSmall"), (5, ""), (10, ""), (11, "EntityTooLarge")])
def test_the_size_of_the_file_has_to_be_in_the_range(s3: Harness, size: int, code: str) -> None:
    answer = post(s3, b"x" * size, [*ANY, ["content-length-range", 5, "10"]])
    assert answer.code == code
    assert len(s3.store.contents["b01"].objects) == (not code)
    if code == "EntityTooLarge":
        assert b"<ProposedSize>11</ProposedSize><MaxSizeAllowed>10</MaxSizeAllowed>" in answer.body


def test_a_file_that_is_too_large_is_not_read_to_its_end(s3: Harness) -> None:
    assert post(s3, b"x" * (4 << 20), [*ANY, ["content-length-range", 0, 10]]).code == "EntityTooLarge"
    assert s3.unread > 2 << 20


POLICIES: list[tuple[dict[str, Any], str]] = [
    ({"expiration": "2020-01-01T00:00:00Z"}, "AccessDenied"), ({"expiration": "soon"}, "InvalidPolicyDocument"),
    ({"expiration": 7}, "InvalidPolicyDocument"), ({"conditions": {}}, "InvalidPolicyDocument"),
    ({"conditions": []}, "InvalidPolicyDocument"), ({"conditions": [["ends-with", "$key", "x"]]}, "InvalidPolicyDocument"),
    ({"conditions": [["eq", "key", "x"]]}, "InvalidPolicyDocument"), ({"conditions": [{"a": 1}]}, "InvalidPolicyDocument"),
    ({"conditions": [["content-length-range", -1, 5]]}, "InvalidPolicyDocument"), ({"more": 1}, "InvalidPolicyDocument"),
    ({"conditions": [["content-length-range", 1]]}, "InvalidPolicyDocument"),
]


@pytest.mark.parametrize(("policy", "code"), POLICIES)
def test_a_policy_that_cannot_hold(s3: Harness, policy: dict[str, Any], code: str) -> None:
    assert send(s3, encode(signed(ANY, {"key": "k"}, policy), b"data")).code == code


@pytest.mark.parametrize("text", ["", "x", "[]", "{", "[" * 5000, '{"conditions": []}', '{"expiration": "2100-01-01T00:00:00Z"}'])
def test_a_policy_that_is_none(s3: Harness, text: str) -> None:
    form = signed(ANY, {"key": "k"})
    form["policy"] = b64encode(text.encode()).decode()
    date = form["x-amz-date"][:8]
    form["x-amz-signature"] = sign(signing_key(SECRET, date, "us-east-1"), form["policy"])
    assert send(s3, encode(form, b"data")).code == ("InvalidPolicyDocument" if text else "InvalidArgument")


WRONG: list[tuple[dict[str, str | None], str]] = [
    ({"x-amz-signature": "0" * 64}, "SignatureDoesNotMatch"), ({"x-amz-signature": "ä"}, "SignatureDoesNotMatch"),
    ({"policy": b64encode(b"{}").decode()}, "SignatureDoesNotMatch"),
    ({"x-amz-signature": None}, "InvalidArgument"), ({"policy": None}, "InvalidArgument"), ({"key": None}, "InvalidArgument"),
    ({"policy": None, "x-amz-signature": None}, "AccessDenied"),
    ({"x-amz-algorithm": "AWS4-X"}, "InvalidArgument"), ({"x-amz-credential": "x"}, "InvalidArgument"),
    ({"x-amz-date": "today"}, "InvalidArgument"), ({"x-amz-date": "20130524T000000Z"}, "InvalidArgument"),
    ({"x-amz-credential": "nobody/20130524/us-east-1/s3/aws4_request", "x-amz-date": "20130524T000000Z"}, "InvalidAccessKeyId"),
]


@pytest.mark.parametrize(("changes", "code"), WRONG)
def test_nothing_is_stored_without_a_right_signature(s3: Harness, changes: dict[str, str | None], code: str) -> None:
    form: dict[str, str | None] = signed(ANY, {"key": "k"}) | changes  # type: ignore[assignment]
    left = {name: value for name, value in form.items() if value is not None}
    for bucket in ("b01", "none") if code == "SignatureDoesNotMatch" else ("b01",):
        assert send(s3, encode(left, b"data"), f"/{bucket}").code == code
    assert not s3.store.contents["b01"].objects


def test_a_signature_of_version_2_is_checked_too(s3: Harness) -> None:
    made = s3.client(signature_version="s3").generate_presigned_post("b01", "k")
    for name, code in (("signature", "SignatureDoesNotMatch"), ("AWSAccessKeyId", "InvalidAccessKeyId")):
        assert send(s3, encode(made["fields"] | {name: "x"}, b"data")).code == code


MALFORMED = [
    b"", b"x", f"--{LINE}".encode(), f"--{LINE}\r\n".encode(), encode({"key": "k"}, b"data")[:-30],
    f"--{LINE}\r\nno-disposition: x\r\n\r\nx\r\n--{LINE}--".encode(), encode({"key": "k"}, None)[:-8],
    f"--{LINE}\r\nContent-Disposition: form-data\r\n\r\nx\r\n--{LINE}--".encode(),
    encode({"key": "k"}, b"x").replace(b"k\r\n", b"\xff\r\n"),
]


@pytest.mark.parametrize("body", MALFORMED)
def test_a_body_that_is_no_form(s3: Harness, body: bytes) -> None:
    assert send(s3, body).code == "MalformedPOSTRequest"


def test_a_file_without_its_end_is_not_stored(s3: Harness) -> None:
    whole = encode(signed(ANY, {"key": "k"}), b"data")
    for cut in (10, 20, len(LINE) + 7, len(LINE) + 9):
        assert send(s3, whole[:-cut]).code == "MalformedPOSTRequest"
    assert not s3.store.contents["b01"].objects


def test_a_form_without_a_file(s3: Harness) -> None:
    answer = send(s3, encode(signed(ANY, {"key": "k"}), None))
    assert answer.code == "InvalidArgument" and b"POST requires exactly one file upload per request." in answer.body


def test_fields_have_a_limit(s3: Harness) -> None:
    assert send(s3, encode({"x-ignore-a": "x" * MAX_FIELDS}, b"data")).code == "MaxPostPreDataLengthExceededError"
    assert send(s3, encode({f"x-ignore-{number}": "x" * 900 for number in range(21)}, b"data")).code == (
        "MaxPostPreDataLengthExceededError")
    assert send(s3, b"x" * (4 << 20)).code == "MaxPostPreDataLengthExceededError"
    assert s3.unread > 3 << 20


def test_a_field_that_comes_twice(s3: Harness) -> None:
    assert send(s3, encode({"key": "k", "Key": "other"}, b"data")).code == "InvalidArgument"


def test_what_is_no_form_is_said_to_be_none_to_who_may_know(s3: Harness) -> None:
    answer = s3.ask("POST", "/b01", {"content-type": "text/plain"}, b"x")
    assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert s3.send("POST", "/b01", {"content-type": "text/plain"}, b"x").code == "AccessDenied"


def test_boundaries() -> None:
    assert boundary('multipart/form-data; boundary="a b"') == b"a b"
    assert boundary("Multipart/Form-Data;charset=utf-8;boundary=x") == b"x"
    for wrong in ("", "text/plain; boundary=x", "multipart/form-data", "multipart/form-data; boundary=",
                  "multipart/mixed; boundary=x"):
        assert boundary(wrong) is None


def test_the_bucket_has_to_be_there(s3: Harness) -> None:
    form = signed([{"bucket": "none"}, {"key": "k"}], {"key": "k"})
    assert send(s3, encode(form, b"data"), "/none").code == "NoSuchBucket"
    with pytest.raises(ClientError):
        s3.client().head_bucket(Bucket="none")


async def test_a_boundary_may_lie_across_two_reads() -> None:
    delimiter = b"\r\n--" + LINE.encode()
    view = memoryview(bytearray(2 * STEP))
    for size in (*range(STEP - len(delimiter) - 2, STEP + 2), 0, 1):
        data = (b"\r\n--" + b"-" * 60) * (size // 64 + 1)
        file = FileBody(BytesBody(data[:size] + delimiter + b"--\r\n"), bytearray(), delimiter)
        assert await file.readinto(view) == size
        assert view[:size] == data[:size]
        assert await file.readinto(view) == 0
