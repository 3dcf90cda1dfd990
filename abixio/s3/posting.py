"""Uploads by a browser's form: `POST /bucket`, signed by a policy among the fields, the file straight into the one upload path.

The fields stand for the headers of a PUT, and are checked like those. Nothing is looked at before the signature of the policy
holds, and the file is not read before all the rest is found good.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha1
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from abixio.message import Request, Response
from abixio.s3 import encryption, locking, metadata, tagging
from abixio.s3.call import Call, checksum_headers, quoted, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.forms import Form, boundary, read_form
from abixio.s3.keys import signing_key
from abixio.s3.names import Target, check_key
from abixio.s3.objects import put_spec
from abixio.s3.payload import PlainSource
from abixio.s3.payload_checks import DEFAULT, Checks
from abixio.s3.policy import Policy, parse_policy
from abixio.s3.sigv4 import Identity, same, sign
from abixio.s3.sigv4_claim import ALGORITHM, TIMESTAMP, UNSIGNED, read_credential
from abixio.s3.versioning import written
from abixio.s3.xml import MalformedDocument, document, parse, text
from abixio.store.types import Bucket, ObjectInfo

FILENAME: Final = "${filename}"
_SIGNATURES: Final = ("x-amz-signature", "signature")
_SYSTEM: Final = frozenset({
    "cache-control", "content-type", "content-disposition", "content-encoding", "content-language", "expires", "content-md5",
})
"""Fields that are headers of a PUT, besides those of S3."""
_CLAIMS: Final = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token"})
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HEADER: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
NO_FORM: Final = "Bucket POST must be of the enclosure-type multipart/form-data"


class Post(NamedTuple):
    """A form whose signature is right."""

    form: Form
    policy: Policy
    identity: Identity


def is_form(request: Request, target: Target) -> bool:
    """Whether a request is one to a bucket that a policy in its body signs. One that is signed in its head or URL is none."""
    return (
        request.method == "POST" and bool(target.bucket) and not target.key and not target.query
        and "authorization" not in request.headers and boundary(request.headers.get("content-type", "")) is not None
    )


async def read_post(request: Request, bucket: str, credentials: Mapping[str, str], region: str | None, now: float) -> Post:
    """The form up to its file. AccessDenied without a policy; SignatureDoesNotMatch, InvalidAccessKeyId; what `read_form`,
    `parse_policy` and `Policy.check` raise."""
    separator = boundary(request.headers["content-type"])
    assert separator is not None
    form = await read_form(request.body, separator)
    fields = form.fields
    if "policy" not in fields and not any(name in fields for name in _SIGNATURES):
        raise S3Error("AccessDenied")
    encoded = _needed(fields, "policy")
    identity = _identify(fields, encoded, credentials, region)
    policy = parse_policy(encoded)
    name = form.filename.replace("\\", "/").rpartition("/")[2]
    for field in fields.keys() - {"policy", *_SIGNATURES}:
        fields[field] = fields[field].replace(FILENAME, name)
    _needed(fields, "key")
    policy.check({**fields, "bucket": bucket}, now)
    return Post(form, policy, identity)


async def post_object(call: Call, post: Post) -> Response:
    """Store the file. `call` is that of the request itself; its headers are taken from the form."""
    fields = post.form.fields
    check_key(fields["key"])
    call = replace(call, key=fields["key"], request=_as_put(call.request, fields))
    bucket = await call.bucket()
    spec = await put_spec(call, bucket, metadata.read(call.headers))
    if "tagging" in fields:
        spec = replace(spec, tags=_tags(fields["tagging"]))
    source = _Sized(post, Checks(call.headers, UNSIGNED))
    locking.check_digest(spec.lock, source.checksum is not None or spec.real_md5)
    if source.checksum is None:
        source.add_checksum(DEFAULT)
    info = await call.store.put(bucket, call.key, spec, source)
    return _answer(call, bucket, fields, info)


async def no_form(call: Call) -> Response:
    """What S3 says of every other POST to a bucket."""
    raise S3Error("PreconditionFailed", Condition=NO_FORM)


class _Sized(PlainSource):
    """The file, within the sizes that the policy allows."""

    def __init__(self, post: Post, checks: Checks) -> None:
        super().__init__(post.form.file, checks)
        self._policy = post.policy
        self._size = 0

    async def readinto(self, view: memoryview) -> int:
        """As `PlainSource.readinto`."""
        count = await super().readinto(view)
        self._size += count
        self._policy.check_size(self._size, ended=False)
        return count

    def verify(self, digests: Mapping[str, bytes]) -> dict[str, str]:
        """As `PlainSource.verify`."""
        self._policy.check_size(self._size, ended=True)
        return super().verify(digests)


# ---- who signed it ---------------------------------------------------------------------------------------------------
def _identify(fields: Mapping[str, str], encoded: str, credentials: Mapping[str, str], region: str | None) -> Identity:
    """By version 4, or by version 2, which boto3 still takes for forms."""
    if "x-amz-security-token" in fields:
        raise S3Error("InvalidToken")
    if "awsaccesskeyid" in fields and "x-amz-credential" not in fields:
        access_key = fields["awsaccesskeyid"]
        digest = hmac.digest(_secret(credentials, access_key).encode(), encoded.encode(), sha1)
        signature = b64encode(digest).decode()
        _compare(signature, _needed(fields, "signature"), access_key, encoded)
        return Identity(access_key, UNSIGNED, signature, "", "", b"")
    if _needed(fields, "x-amz-algorithm") != ALGORITHM:
        raise S3Error("InvalidArgument", f'X-Amz-Algorithm only supports "{ALGORITHM}"', ArgumentName="X-Amz-Algorithm",
                      ArgumentValue=fields["x-amz-algorithm"])
    access_key, date, place = read_credential(_needed(fields, "x-amz-credential"), region, "InvalidArgument",
                                              "Error parsing the X-Amz-Credential parameter; ")
    timestamp = _needed(fields, "x-amz-date")
    if not TIMESTAMP.fullmatch(timestamp) or timestamp[:8] != date:
        raise S3Error("InvalidArgument", "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\", on the date of "
                      "the credential", ArgumentName="X-Amz-Date", ArgumentValue=timestamp)
    key = signing_key(_secret(credentials, access_key), date, place)
    signature = sign(key, encoded)
    _compare(signature, _needed(fields, "x-amz-signature"), access_key, encoded)
    return Identity(access_key, UNSIGNED, signature, timestamp, f"{date}/{place}/s3/aws4_request", key)


def _secret(credentials: Mapping[str, str], access_key: str) -> str:
    secret = credentials.get(access_key)
    if secret is None:
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=access_key)
    return secret


def _compare(expected: str, given: str, access_key: str, encoded: str) -> None:
    if not same(expected, given):
        raise S3Error("SignatureDoesNotMatch", AWSAccessKeyId=access_key, StringToSign=encoded, SignatureProvided=given)


def _needed(fields: Mapping[str, str], name: str) -> str:
    if not fields.get(name):
        raise S3Error("InvalidArgument", f"Bucket POST must contain a field named '{name}'.  If it is specified, please check "
                      "the order of the fields.", ArgumentName=name, ArgumentValue="")
    return fields[name]


# ---- the fields as headers -------------------------------------------------------------------------------------------
def _as_put(request: Request, fields: Mapping[str, str]) -> Request:
    """The request as the PUT that the form stands for. What the browser says in the head is about the form."""
    headers = {"host": request.headers.get("host", "")}
    for name, value in fields.items():
        if name not in _SYSTEM and (not name.startswith("x-amz-") or name in _CLAIMS):
            continue
        if not _HEADER.fullmatch(name) or _CONTROL.search(value):
            raise S3Error("InvalidArgument", "This field cannot be a header.", ArgumentName=name, ArgumentValue=value)
        headers[name] = value.strip(" \t").encode().decode("latin-1")
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    return Request(request.method, request.target, headers, request.body, request.id, request.peer, request.secure)


def _tags(value: str) -> dict[str, str]:
    try:
        return tagging.from_document(parse(value.encode(), "Tagging"), tagging.OF_OBJECT)
    except MalformedDocument as error:
        raise S3Error("MalformedXML") from error


# ---- the answer ------------------------------------------------------------------------------------------------------
def _answer(call: Call, bucket: Bucket, fields: Mapping[str, str], info: ObjectInfo) -> Response:
    place = f"{call.place.rstrip('/')}/{quote(call.key, safe='/~')}"
    headers = [("ETag", quoted(info.etag)), ("Location", place), *written(info), *checksum_headers(info.record)]
    headers += encryption.shown_to_writer(call, info.record)
    wanted = _redirect(fields, bucket, call.key, info)
    if wanted is not None:
        return Response(303, [(name, wanted if name == "Location" else value) for name, value in headers])
    status = fields.get("success_action_status", "")
    if status == "201":
        answer = xml_answer(document("PostResponse", text("Location", place), text("Bucket", bucket.name), text("Key", call.key),
                                     text("ETag", quoted(info.etag)), namespace=""), headers)
        answer.status = 201
        return answer
    return Response(200 if status == "200" else 204, headers)


def _redirect(fields: Mapping[str, str], bucket: Bucket, key: str, info: ObjectInfo) -> str | None:
    """Where the browser goes next, with what was stored in the query; None when that is not wanted, or is no address."""
    wanted = fields.get("success_action_redirect") or fields.get("redirect", "")
    if not wanted or not wanted.isascii() or _CONTROL.search(wanted) or " " in wanted:
        return None
    try:
        split = urlsplit(wanted)
    except ValueError:
        return None
    if split.scheme not in ("http", "https") or not split.netloc:
        return None
    stored = [("bucket", bucket.name), ("key", key), ("etag", quoted(info.etag))]
    return urlunsplit(split._replace(query=urlencode(parse_qsl(split.query, keep_blank_values=True) + stored)))
