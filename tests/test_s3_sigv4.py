"""Signatures in headers and in the query, made by botocore's own signers and by hand."""

from __future__ import annotations

import hmac
import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from abixio.message import Request
from abixio.s3.errors import S3Error
from abixio.s3.names import parse_target, query_pairs
from abixio.s3.sigv4 import Identity, authenticate
from abixio.s3.sigv4_claim import _read, _read_header, _seconds
from tests.s3_wire import ACCESS, CREDENTIALS, SECRET, derive, request

HOST = "127.0.0.1:9000"
TIME = 1369353600.0  # 2013-05-24T00:00:00Z, of the published examples
Strings = Mapping[str, str]
EMPTY = sha256(b"").hexdigest()


def check(sent: Request, now: float | None = None, region: str | None = "us-east-1") -> Identity:
    return authenticate(sent, parse_target(sent.target), CREDENTIALS, region, time.time() if now is None else now)


def refused(sent: Request, now: float | None = None, region: str | None = "us-east-1") -> S3Error:
    with pytest.raises(S3Error) as caught:
        check(sent, now, region)
    return caught.value


def as_request(made: AWSRequest) -> Request:
    """What botocore would send."""
    prepared = made.prepare()
    parts = urlsplit(prepared.url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    headers = {name: value if isinstance(value, str) else value.decode("latin-1") for name, value in prepared.headers.items()}
    return request(made.method, target, {"Host": HOST, **headers})


def signed(
    method: str = "GET", path: str = "/bucket/key", params: Strings | None = None, headers: Strings | None = None,
    data: bytes = b"", region: str = "us-east-1", secret: str = SECRET, access: str = ACCESS,
) -> Request:
    made = AWSRequest(method, f"http://{HOST}{quote(path, safe='/~')}", dict(headers or {}), data, dict(params or {}))
    S3SigV4Auth(Credentials(access, secret), "s3", region).add_auth(made)
    return as_request(made)


def presigned(
    method: str = "GET", path: str = "/bucket/key", params: Strings | None = None, headers: Strings | None = None,
    expires: int = 600, region: str = "us-east-1", secret: str = SECRET,
) -> Request:
    made = AWSRequest(method, f"http://{HOST}{quote(path, safe='/~')}", dict(headers or {}), b"", dict(params or {}))
    S3SigV4QueryAuth(Credentials(ACCESS, secret), "s3", region, expires=expires).add_auth(made)
    return as_request(made)


def changed(sent: Request, **headers: str | None) -> Request:
    """The same request with other headers; None takes one away."""
    for name, value in headers.items():
        key = name.replace("_", "-")
        if value is None:
            del sent.headers[key]
        else:
            sent.headers[key] = value
    return sent


def replaced(sent: Request, old: str, new: str) -> Request:
    """The same request with another Authorization header or target."""
    if "authorization" in sent.headers:
        assert old in sent.headers["authorization"]
        sent.headers["authorization"] = sent.headers["authorization"].replace(old, new)
    else:
        assert old.encode() in sent.target
        sent.target = sent.target.replace(old.encode(), new.encode())
    return sent


# ---- published examples ----------------------------------------------------------------------------------------------
def published(method: str, target: str, signature: str, headers: Mapping[str, str], payload: str = EMPTY) -> Request:
    sent = {"Host": "examplebucket.s3.amazonaws.com", "x-amz-content-sha256": payload, **headers}
    names = ";".join(sorted(name.lower() for name in sent))
    sent["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS}/20130524/us-east-1/s3/aws4_request,SignedHeaders={names},Signature={signature}"
    )
    return request(method, target, sent)


@pytest.mark.parametrize(
    "sent",
    [
        published(
            "GET", "/test.txt", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            {"Range": "bytes=0-9", "x-amz-date": "20130524T000000Z"},
        ),
        published(
            "PUT", "/test$file.text", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            {
                "Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-date": "20130524T000000Z",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
            },
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        ),
        published(
            "GET", "/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            {"x-amz-date": "20130524T000000Z"},
        ),
        published(
            "GET", "/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            {"x-amz-date": "20130524T000000Z"},
        ),
        request(
            "GET",
            "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F"
            "aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
            "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
            {"Host": "examplebucket.s3.amazonaws.com"},
        ),
    ],
    ids=["get-range", "put", "lifecycle", "list", "presigned"],
)
def test_published_example_is_accepted(sent: Request) -> None:
    assert check(sent, TIME).access_key == ACCESS


# ---- whatever botocore signs -----------------------------------------------------------------------------------------
# Surrogates are no characters, and a client cannot put a line end into a header.
characters = st.characters(exclude_categories=["Cs"])
awkward = st.sampled_from(list("/.+ %&=?#~_-*'()!$,;:@[]\"<>\\^`{|}\x00\x7f"))
texts = st.text(st.one_of(characters, awkward), max_size=40)
keys = texts.filter(bool)
values = st.text(st.one_of(st.characters(min_codepoint=33, max_codepoint=126), st.just(" ")), max_size=40)
params = st.dictionaries(keys.filter(lambda name: not name.startswith("X-Amz-")), texts, max_size=4)
metas = st.dictionaries(st.from_regex(r"x-amz-meta-[a-z]{1,8}", fullmatch=True), values, max_size=3)


@settings(max_examples=150, deadline=None)
@given(keys, params, metas, st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "POST"]), st.binary(max_size=20))
@example("a b+c%20/.././/~é", {"a-b": "1", "a": "2", "a+": " +", "uploads": ""}, {"x-amz-meta-a": " two  blanks "}, "PUT", b"x")
def test_what_botocore_signs_in_headers_is_accepted(
    key: str, query: dict[str, str], meta: dict[str, str], method: str, data: bytes
) -> None:
    sent = signed(method, "/bucket/" + key, query, meta, data)
    identity = check(sent)
    assert identity.payload == sha256(data).hexdigest()
    assert identity.signature in sent.headers["authorization"]
    target = parse_target(sent.target)
    assert (target.bucket, target.key) == ("bucket", key)
    assert target.params == query


@settings(max_examples=150, deadline=None)
@given(keys, params, metas)
def test_what_botocore_presigns_is_accepted(key: str, query: dict[str, str], meta: dict[str, str]) -> None:
    sent = presigned("PUT", "/bucket/" + key, {name: value for name, value in query.items() if name}, meta)
    assert check(sent).payload == "UNSIGNED-PAYLOAD"
    assert parse_target(sent.target).key == key


@settings(max_examples=100, deadline=None)
@given(keys, params, st.booleans(), st.data())
def test_a_change_of_the_target_is_noticed(key: str, query: dict[str, str], in_query: bool, data: st.DataObject) -> None:
    """Any byte of path or query, but for changes of the coding that mean the same."""
    make = presigned if in_query else signed
    sent = make("GET", "/bucket/" + key, {name: value for name, value in query.items() if name})
    before = parse_target(sent.target)
    at = data.draw(st.integers(1, len(sent.target) - 1))
    sent.target = sent.target[:at] + data.draw(st.sampled_from([b"a", b"Z", b"7", b"/", b"."])) + sent.target[at + 1 :]
    try:
        after = parse_target(sent.target)
    except S3Error:
        return  # a broken escape or half a character: refused before anything else
    meaning = [(found.bucket, found.key, sorted(query_pairs(found.query))) for found in (before, after)]
    if meaning[0] == meaning[1]:
        check(sent)
    else:
        assert refused(sent).code in {
            "SignatureDoesNotMatch", "AuthorizationQueryParametersError", "AccessDenied", "InvalidAccessKeyId",
            "InvalidArgument", "InvalidToken",
        }


def test_a_time_is_one_of_the_calendar() -> None:
    chance = random.Random(6)
    found = 0
    for _ in range(5000):
        fields = [chance.randrange(most) for most in (3, 14, 33, 26, 62, 64)]
        text = "20{:02}{:02}{:02}T{:02}{:02}{:02}Z".format(*fields)
        try:
            expected = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            assert _seconds(text) is None
        else:
            found += 1
            assert _seconds(text) == expected
    assert found > 1000
    for wrong in ("", "20130524", "20130524T000000", "2013052\u0664T000000Z", "20130524T000000Z\n", "00000101T000000Z"):
        assert _seconds(wrong) is None


def test_a_host_that_is_missing_is_signed_as_an_empty_one() -> None:
    """As HTTP/1.0 allows."""
    sent = signed()
    del sent.headers["host"]
    assert refused(sent).code == "SignatureDoesNotMatch"
    names = sent.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    for host, good in (("host:\n", True), ("", False)):
        lines = host + "".join(f"{name}:{sent.headers[name]}\n" for name in names.split(";") if name != "host")
        canonical = f"GET\n/bucket/key\n\n{lines}\n{names}\n{EMPTY}"
        scope = f"{sent.headers['x-amz-date'][:8]}/us-east-1/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{sent.headers['x-amz-date']}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.new(derive(SECRET, scope), text.encode(), "sha256").hexdigest()
        sent.headers["authorization"] = re.sub("Signature=.*", f"Signature={signature}", sent.headers["authorization"])
        if good:
            assert check(sent).access_key == ACCESS
        else:
            assert refused(sent).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("make", [signed, presigned])
def test_single_changes_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    meta = {"x-amz-meta-a": "1"}

    def sent() -> Request:
        return make("PUT", "/bucket/key", {"partNumber": "1", "uploadId": "u"}, meta)  # type: ignore[no-any-return]

    assert check(sent()).access_key == ACCESS
    other = sent()
    other.method = "GET"
    assert refused(other).code == "SignatureDoesNotMatch"
    for old, new in ((b"/key", b"/kez"), (b"/key", b"/key/"), (b"partNumber=1", b"partNumber=2"), (b"&uploadId=u", b"")):
        other = sent()
        assert old in other.target
        other.target = other.target.replace(old, new)
        assert refused(other).code == "SignatureDoesNotMatch"
    other = sent()
    other.target += b"&acl"
    assert refused(other).code == "SignatureDoesNotMatch"
    assert refused(changed(sent(), x_amz_meta_a="2")).code == "SignatureDoesNotMatch"
    assert refused(changed(sent(), x_amz_meta_a=None)).code == "SignatureDoesNotMatch"
    assert refused(changed(sent(), host="127.0.0.1:9001")).code == "SignatureDoesNotMatch"
    assert refused(make("PUT", secret="wrong")).code == "SignatureDoesNotMatch"
    added = refused(changed(sent(), x_amz_meta_b="2", x_amz_acl="public-read"))
    assert (added.code, added.fields) == ("AccessDenied", {"HeadersNotSigned": "x-amz-acl, x-amz-meta-b"})


def test_a_signature_that_does_not_match_tells_what_was_signed_and_no_secret() -> None:
    sent = replaced(signed("GET", "/bucket/a b", {"prefix": "x"}), "Signature=", "Signature=0")
    error = refused(sent)
    assert error.fields["AWSAccessKeyId"] == ACCESS
    assert str(error.fields["SignatureProvided"]).startswith("0")
    canonical = str(error.fields["CanonicalRequest"])
    assert canonical.startswith("GET\n/bucket/a%20b\nprefix=x\nhost:")
    to_sign = str(error.fields["StringToSign"])
    assert to_sign.startswith("AWS4-HMAC-SHA256\n2")
    assert to_sign.endswith(sha256(canonical.encode()).hexdigest())
    assert SECRET not in repr(error.fields)


def test_the_payload_hash_is_part_of_the_signature() -> None:
    sent = changed(signed("PUT", data=b"body"), x_amz_content_sha256=sha256(b"other").hexdigest())
    assert refused(sent).code == "SignatureDoesNotMatch"
    assert refused(changed(signed("PUT", data=b"body"), x_amz_content_sha256="UNSIGNED-PAYLOAD")).code == "SignatureDoesNotMatch"


# ---- each piece of the Authorization header --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("Credential=", "Credenial=", "AuthorizationHeaderMalformed", "missing Credential"),
        ("SignedHeaders=", "Signed=", "AuthorizationHeaderMalformed", "missing SignedHeaders"),
        ("Signature=", "Sig=", "AuthorizationHeaderMalformed", "missing Signature"),
        (ACCESS, "", "AuthorizationHeaderMalformed", "non-empty Access Key"),
        (ACCESS, "AKIDUNKNOWN", "InvalidAccessKeyId", "does not exist"),
        ("/s3/", "/", "AuthorizationHeaderMalformed", "the Credential is mal-formed"),
        ("/s3/", "/ec2/", "AuthorizationHeaderMalformed", 'incorrect service "ec2"'),
        ("aws4_request", "aws5_request", "AuthorizationHeaderMalformed", 'incorrect terminal "aws5_request"'),
        ("/us-east-1/", "/mars-1/", "AuthorizationHeaderMalformed", "the region 'mars-1' is wrong; expecting 'us-east-1'"),
        (ACCESS + "/20", ACCESS + "/19", "AuthorizationHeaderMalformed", "Invalid credential date"),
        (ACCESS + "/20", ACCESS + "/xx", "AuthorizationHeaderMalformed", "incorrect date format"),
        ("host;", "", "AccessDenied", "headers present in the request which were not signed"),
        ("x-amz-date", "x-amz-dat\u00e9", "AuthorizationHeaderMalformed", "SignedHeaders"),
        ("host;", "host;host;", "AuthorizationHeaderMalformed", "SignedHeaders"),
        ("host;", ";host;", "AuthorizationHeaderMalformed", "SignedHeaders"),
        ("AWS4-HMAC-SHA256 ", "Bearer ", "InvalidArgument", "Unsupported Authorization Type"),
        ("AWS4-HMAC-SHA256 ", "AWS x:", "InvalidRequest", "Please use AWS4-HMAC-SHA256"),
        ("AWS4-HMAC-SHA256 ", "AWS ", "InvalidArgument", "Expected AwsAccessKeyId:signature"),
        ("AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 ", "InvalidRequest", "Please use AWS4-HMAC-SHA256"),
        ("Credential=", "x,Credential=", "AuthorizationHeaderMalformed", "more than Credential"),
        ("Signature=", "Signature=0,Signature=", "AuthorizationHeaderMalformed", "more than Credential"),
        ("Signature=", "Signature=\u00e9", "SignatureDoesNotMatch", "does not match"),
    ],
)
def test_each_malformed_piece_of_the_header_has_its_error(old: str, new: str, code: str, message: str) -> None:
    error = refused(replaced(signed(), old, new))
    assert error.code == code
    assert message in error.message


CREDENTIAL = "Credential=AKID/20240101/us-east-1/s3/aws4_request"


@settings(max_examples=300, deadline=None)
@example([CREDENTIAL, "SignedHeaders=host;x-amz-date", "Signature=abc123"], ", ", "AWS4-HMAC-SHA256 ")
@example([CREDENTIAL, "SignedHeaders=host;x-amz-date", "Signature=Signature=9"], ",", "AWS4-HMAC-SHA256 ")
@example([CREDENTIAL, "SignedHeaders=host;x-amz-date", "Signature=junk Signature=9"], ", ", "AWS4-HMAC-SHA256 ")
@example([CREDENTIAL, "SignedHeaders=host;x-amz-date", "Signature= Signature=9"], ", ", "AWS4-HMAC-SHA256 ")
@example(["SignedHeaders=host;x-amz-date", "Signature=abc123", CREDENTIAL], ",", "AWS4-HMAC-SHA256 ")
@given(
    st.lists(st.sampled_from([
        CREDENTIAL, "Credential=x", "SignedHeaders=host;x-amz-date", "SignedHeaders=",
        "Signature=abc123", "Signature=", "Signature=\u00e9", "Signature=a b", "XSignature=abc",
        "Signature=Signature=9", "", "x",
    ]), min_size=1, max_size=5),
    st.sampled_from([",", ", ", " ,", ";"]),
    st.sampled_from(["AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256", "AWS ", "Bearer "]),
)
def test_a_header_says_the_same_when_all_but_its_signature_is_remembered(parts: list[str], comma: str, start: str) -> None:
    header = start + comma.join(parts)

    def outcome(read: Callable[[str, str | None], object]) -> object:
        try:
            return read(header, None)
        except S3Error as error:
            return error.code, error.message, error.fields

    assert outcome(_read) == outcome(_read_header)


def test_a_wrong_region_is_answered_with_the_right_one() -> None:
    assert refused(signed(region="mars-1"), region="eu-west-1").fields == {"Region": "eu-west-1"}
    assert check(signed(region="eu-west-1"), region="eu-west-1").scope.split("/")[1] == "eu-west-1"
    assert refused(signed(region="us-east-1"), region="eu-west-1").code == "AuthorizationHeaderMalformed"


@pytest.mark.parametrize("name", ["us-east-1", "eu-west-1", "auto", "garage", "US", "my_region.1"])
def test_any_region_may_be_signed_for_where_none_is_demanded(name: str) -> None:
    for sent in (signed(region=name), presigned(region=name)):
        assert check(sent, region=None).region == name
        wrong = "/us-west-2/" if name != "us-west-2" else "/us-east-1/"
        other = replaced(signed(region=name), f"/{name}/", wrong)
        assert refused(other, region=None).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("name", ["", "a b", "-x", "a" * 65, "\u00fc"])
def test_what_can_be_no_region_is_malformed(name: str) -> None:
    assert refused(replaced(signed(), "/us-east-1/", f"/{name}/"), region=None).code == "AuthorizationHeaderMalformed"


@pytest.mark.parametrize(
    ("sent_to", "signed_for"),
    [("h", "h:80"), ("h", "h:443"), ("h:80", "h"), ("h:443", "h"), ("[::1]", "[::1]:443"), ("[::1]:80", "[::1]")],
)
def test_the_default_port_may_be_signed_or_not(sent_to: str, signed_for: str) -> None:
    made = AWSRequest("GET", "http://x/bucket/key", {"Host": signed_for})
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(made)
    sent = changed(as_request(made), host=sent_to)
    assert check(sent).access_key == ACCESS
    for other in ("h:81", "h:9000", "hh", "[::1]:9000", "[::2]"):
        assert refused(changed(sent, host=other)).code == "SignatureDoesNotMatch"


def test_the_parts_of_the_header_come_in_any_order_and_spacing() -> None:
    sent = signed()
    mechanism, _, rest = sent.headers["authorization"].partition(" ")
    sent.headers["authorization"] = f"{mechanism}   " + ",".join(part.strip() for part in reversed(rest.split(",")))
    assert check(sent).access_key == ACCESS


def test_a_header_listed_as_signed_but_not_sent_has_no_line() -> None:
    """libs3 lists every header it could send."""
    error = refused(replaced(signed(), "host;", "host;transfer-encoding;"))
    assert "transfer-encoding:" not in str(error.fields["CanonicalRequest"])
    assert "\nhost;transfer-encoding;x-amz" in str(error.fields["CanonicalRequest"])


def test_a_repeated_header_is_signed_as_one_joined_with_commas() -> None:
    made = AWSRequest("GET", f"http://{HOST}/")
    made.headers["x-amz-meta-a"] = "1"
    made.headers["x-amz-meta-a"] = "2  3"
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(made)
    headers = {name: value for name, value in made.headers.items() if name.lower() != "x-amz-meta-a"}
    assert check(request("GET", "/", {"Host": HOST, **headers, "x-amz-meta-a": "1,2  3"})).access_key == ACCESS


def test_bytes_above_ascii_in_a_header_are_signed_as_they_came() -> None:
    """Also those that are blanks when the header is read as latin-1 (0x85 and 0xa0)."""
    text = "à 全  x"
    sent = changed(signed(headers={"x-amz-meta-a": text}), x_amz_meta_a=text.encode().decode("latin-1"))
    assert check(sent).access_key == ACCESS


@pytest.mark.parametrize("value", ["", "0" * 63, "g" * 64, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "tjnVEQ5UTP/DL91eAGO=="])
def test_a_payload_hash_that_is_none_is_an_invalid_argument(value: str) -> None:
    error = refused(changed(signed(), x_amz_content_sha256=value))
    assert (error.code, error.fields["ArgumentValue"]) == ("InvalidArgument", value)


def test_a_missing_payload_hash_is_an_invalid_request() -> None:
    error = refused(changed(signed(), x_amz_content_sha256=None))
    assert (error.code, error.message) == ("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")


@pytest.mark.parametrize(
    ("target", "signed_query"),
    [("/bucket/a(b)'!*", ""), ("/bucket?uploads", "uploads"),
     ("/bucket?prefix=a/b&delimiter=/&list-type=2", "prefix=a/b&delimiter=/&list-type=2"),
     ("/bucket/a:b?prefix=a/b&acl", "acl=&prefix=a%2Fb")],
)
def test_a_target_signed_as_it_is_sent_is_accepted(target: str, signed_query: str) -> None:
    """As curl does: the path not encoded, and by older versions the query neither sorted nor encoded."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    names = "host;x-amz-content-sha256;x-amz-date"
    path = target.partition("?")[0]
    lines = ["GET", path, signed_query, f"host:{HOST}", "x-amz-content-sha256:UNSIGNED-PAYLOAD", f"x-amz-date:{stamp}", "", names,
             "UNSIGNED-PAYLOAD"]
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(chr(10).join(lines).encode()).hexdigest()}"
    signature = hmac.new(derive(SECRET, scope), to_sign.encode(), "sha256").hexdigest()
    headers = {
        "Host": HOST, "x-amz-date": stamp, "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={signature}",
    }
    assert check(request("GET", target, headers)).signature == signature
    assert refused(request("GET", target + "x", headers)).code == "SignatureDoesNotMatch"


# ---- time ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("off", [-16 * 60, 16 * 60])
def test_a_clock_more_than_15_minutes_off_is_refused(off: int) -> None:
    error = refused(signed(), time.time() + off)
    assert (error.code, error.status) == ("RequestTimeTooSkewed", 403)
    assert error.fields["MaxAllowedSkewMilliseconds"] == 900000
    assert check(signed(), time.time() + off * 14 / 16).access_key == ACCESS


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "20130524T000000", "20131324T000000Z", "20130524T006100Z", "\u0662\u0660130524T000000Z"]
)
def test_a_date_that_cannot_be_read_is_refused(date: str | None) -> None:
    error = refused(changed(signed(), x_amz_date=date))
    assert (error.code, error.message) == ("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")


def test_the_date_header_serves_when_there_is_no_x_amz_date() -> None:
    sent = signed(headers={"Date": "now"})
    assert "x-amz-date" not in sent.headers
    assert check(sent).access_key == ACCESS
    assert refused(changed(sent, date="Thu, 99 Foo 2013")).code == "AccessDenied"


# ---- presigned -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("X-Amz-Algorithm=", "X-Amz-Alg=", "AuthorizationQueryParametersError", "requires the X-Amz-Algorithm"),
        ("X-Amz-Credential=", "X-Amz-Cred=", "AuthorizationQueryParametersError", "requires"),
        ("X-Amz-Date=", "X-Amz-D=", "AuthorizationQueryParametersError", "requires"),
        ("X-Amz-Expires=600", "X-Amz-Expires=", "AuthorizationQueryParametersError", "requires"),
        ("X-Amz-SignedHeaders=", "X-Amz-SH=", "AuthorizationQueryParametersError", "requires"),
        ("X-Amz-Signature=", "X-Amz-S=", "AuthorizationQueryParametersError", "requires"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "AuthorizationQueryParametersError", "X-Amz-Algorithm only supports"),
        ("Expires=600", "Expires=x", "AuthorizationQueryParametersError", "should be a number"),
        ("Expires=600", "Expires=1e3", "AuthorizationQueryParametersError", "should be a number"),
        ("Expires=600", "Expires=" + "9" * 30, "AuthorizationQueryParametersError", "should be a number"),
        ("Expires=600", "Expires=-1", "AuthorizationQueryParametersError", "must be non-negative"),
        ("Expires=600", "Expires=604801", "AuthorizationQueryParametersError", "less than a week"),
        ("Expires=600", "Expires=604800", "SignatureDoesNotMatch", "does not match"),
        ("%2Fs3%2F", "%2Fiam%2F", "AuthorizationQueryParametersError", 'incorrect service "iam"'),
        ("%2Fs3%2F", "%2F", "AuthorizationQueryParametersError", "the Credential is mal-formed"),
        ("us-east-1", "mars-1", "AuthorizationQueryParametersError", "the region 'mars-1' is wrong"),
        ("SignedHeaders=host", "SignedHeaders=host%0Ax", "AuthorizationQueryParametersError", "X-Amz-SignedHeaders"),
        ("SignedHeaders=host", "SignedHeaders=host%3Bhost", "AuthorizationQueryParametersError", "X-Amz-SignedHeaders"),
        ("SignedHeaders=host", "SignedHeaders=date", "AccessDenied", "not signed"),
        (ACCESS, "AKIDUNKNOWN", "InvalidAccessKeyId", "does not exist"),
        ("X-Amz-Date=2", "X-Amz-Date=x", "AuthorizationQueryParametersError", "ISO8601"),
        ("X-Amz-Date=2", "X-Amz-Date=3", "AuthorizationQueryParametersError", "Invalid credential date"),
    ],
)
def test_each_malformed_piece_of_a_presigned_url_has_its_error(old: str, new: str, code: str, message: str) -> None:
    error = refused(replaced(presigned(), old, new))
    assert error.code == code
    assert message in error.message


def test_a_presigned_url_works_until_it_expires() -> None:
    now = time.time()
    assert check(presigned(expires=60), now + 58).access_key == ACCESS
    error = refused(presigned(expires=60), now + 62)
    assert (error.code, error.message) == ("AccessDenied", "Request has expired")
    assert error.fields["X-Amz-Expires"] == 60
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(error.fields["Expires"]))
    assert check(presigned(expires=604800), now + 604000).access_key == ACCESS


def test_a_presigned_url_from_the_future_is_not_valid_yet() -> None:
    assert refused(presigned(), time.time() - 16 * 60).message == "Request is not valid yet"
    assert check(presigned(), time.time() - 14 * 60).access_key == ACCESS


def test_the_payload_hash_of_a_presigned_url_is_its_parameter_then_a_signed_header() -> None:
    digest = sha256(b"body").hexdigest()
    assert check(presigned("PUT", params={"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"})).payload == "UNSIGNED-PAYLOAD"
    with_header = presigned("PUT", headers={"X-Amz-Content-SHA256": digest})
    # botocore signs UNSIGNED-PAYLOAD only when nothing else is said.
    assert "x-amz-content-sha256" in parse_target(with_header.target).params["X-Amz-SignedHeaders"]
    assert check(with_header).payload == digest
    assert refused(presigned("PUT", params={"X-Amz-Content-Sha256": "x"})).code == "InvalidArgument"


def test_a_payload_hash_that_is_not_signed_is_still_checked_against_the_body() -> None:
    digest = sha256(b"body").hexdigest()
    assert check(changed(presigned("PUT"), x_amz_content_sha256=digest)).payload == digest
    assert refused(changed(presigned("PUT"), x_amz_content_sha256="nonsense")).code == "InvalidArgument"


# ---- other ways to come ----------------------------------------------------------------------------------------------
def test_a_request_without_a_signature_is_denied() -> None:
    for headers in ({}, {"Authorization": ""}):
        error = refused(request("GET", "/bucket/key", {"Host": HOST, **headers}))
        assert (error.code, error.status) == ("AccessDenied", 403)


@pytest.mark.parametrize("query", ["X-Amz-Algorithm=AWS4-HMAC-SHA256", "Signature=x&AWSAccessKeyId=y"])
def test_two_mechanisms_at_once_are_refused(query: str) -> None:
    sent = signed(params=dict(part.split("=") for part in query.split("&")))
    error = refused(sent)
    assert (error.code, error.fields["ArgumentName"]) == ("InvalidArgument", "Authorization")
    assert "Only one auth mechanism allowed" in error.message


def test_a_security_token_is_invalid_as_there_are_none() -> None:
    assert refused(signed(headers={"X-Amz-Security-Token": "t"})).code == "InvalidToken"
    assert refused(presigned(params={"X-Amz-Security-Token": "t"})).code == "InvalidToken"


def test_the_identity_does_not_show_its_key() -> None:
    identity = check(signed())
    assert repr(identity.key) not in repr(identity)


def test_signing_constants_of_botocore_are_known() -> None:
    """A new botocore that signs bodies in another way must not go unnoticed."""
    assert botocore.auth.UNSIGNED_PAYLOAD == "UNSIGNED-PAYLOAD"
    assert botocore.auth.STREAMING_UNSIGNED_PAYLOAD_TRAILER == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


# ---- what a stranger could change ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["X-Amz-Content-Sha256", "x-amz-content-sha256"])
@pytest.mark.parametrize("other", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "f" * 64])
def test_a_header_cannot_lift_the_payload_hash_of_a_presigned_url(name: str, other: str) -> None:
    digest = sha256(b"body").hexdigest()

    def make() -> Request:
        made = AWSRequest("PUT", f"http://{HOST}/bucket/key", params={name: digest})
        signer = S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", "us-east-1", expires=600)
        signer.payload = lambda request: digest  # type: ignore[method-assign]
        signer.add_auth(made)
        return as_request(made)

    assert check(make()).payload == digest
    assert check(changed(make(), x_amz_content_sha256=digest)).payload == digest
    error = refused(changed(make(), x_amz_content_sha256=other))
    assert (error.code, error.fields["ArgumentName"]) == ("InvalidArgument", "x-amz-content-sha256")


def test_a_parameter_without_a_name_is_signed_too() -> None:
    sent = signed(params={"prefix": "a"})
    sent.target += b"&=b"
    assert refused(sent).code == "SignatureDoesNotMatch"


def test_parameters_that_swap_places_do_not_swap_meaning() -> None:
    """Signed as a sorted list, they would verify in any order."""
    made = AWSRequest("GET", f"http://{HOST}/bucket/key?versionId=1&versionId=2")
    S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1").add_auth(made)
    error = refused(as_request(made))
    assert (error.code, error.fields["ArgumentName"]) == ("InvalidArgument", "versionId")
