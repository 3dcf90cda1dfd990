"""Every code of the table of errors, each by a request that gets it."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import md5
from xml.etree import ElementTree

import pytest

from abixio import errors
from abixio.message import Response
from abixio.s3.errors import CODES
from tests.s3_harness import Answer, Harness, Signer

Ask = Callable[[Signer], Answer]
Inside = Callable[[Harness], Answer]
EMPTY_MD5 = b64encode(md5(usedforsecurity=False).digest()).decode()
TRAILING = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
FOREIGN = "0" * 64


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness(region="eu-west-1")
    harness.ask("PUT", "/b01")
    harness.ask("PUT", "/b01/k", body=b"data")
    yield harness
    harness.close()


def ask(method: str, target: str, body: bytes = b"", **headers: str) -> Ask:
    return lambda s3: s3.ask(method, target, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def fails(error: Exception) -> Inside:
    """A PUT that the store answers with `error`."""

    def request(s3: Harness) -> Answer:
        s3.store.failure = error
        return s3.ask("PUT", "/b01/k", body=b"x")

    return request


def transport(error: Exception) -> Inside:
    """What the transport could not read."""

    def refuse(s3: Harness) -> Answer:
        response: Response = s3.service.refuse(error, "0123456789ABCDEF")
        assert isinstance(response.body, bytes)
        return Answer(response.status, {name.lower(): value for name, value in response.headers}, response.body)

    return refuse


def sent(method: str, target: str, length: int | None = -1, **headers: str) -> Ask:
    """A request as it is, with one change to the headers of a signed one."""
    return lambda s3: s3.send(method, target, {name.replace("_", "-"): value for name, value in headers.items()}, length=length)


def complete(*parts: tuple[int, str]) -> Ask:
    def request(s3: Signer) -> Answer:
        made = ElementTree.fromstring(s3.ask("POST", "/b01/m?uploads").body)
        upload = made[2].text
        etags = {n: s3.ask("PUT", f"/b01/m?partNumber={n}&uploadId={upload}", body=b"x").headers["etag"] for n in (1, 2)}
        named = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{etags[n] if etag == 'right' else etag}</ETag></Part>" for n, etag in parts
        )
        body = f"<CompleteMultipartUpload>{named}</CompleteMultipartUpload>"
        return s3.ask("POST", f"/b01/m?uploadId={upload}", body=body.encode())

    return request


def chunked(body: bytes, decoded: int) -> Ask:
    return lambda s3: s3.presigned("PUT", f"/b01/k?x-amz-decoded-content-length={decoded}", TRAILING, body)


def owned_by_somebody(s3: Harness) -> Answer:
    contents = s3.store.contents["b01"]
    contents.bucket = replace(contents.bucket, owner=FOREIGN)
    return s3.ask("PUT", "/b01")


def located(region: str) -> bytes:
    return f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>".encode()


def expired_clock(s3: Signer) -> Answer:
    return s3.send("GET", "/b01/k", {
        "authorization": f"AWS4-HMAC-SHA256 Credential={s3.access}/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host,Signature=0",
        "x-amz-date": "20130524T000000Z", "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    })


def cut_short(s3: Signer) -> Answer:
    return s3.ask("PUT", "/b01/k", body=b"x", length=5)


def never_held(s3: Harness) -> Answer:
    s3.ask("PUT", "/b02", {"x-amz-bucket-object-lock-enabled": "true"})
    s3.ask("PUT", "/b02/k", body=b"data")
    return s3.ask("GET", "/b02/k?retention")


FORM = "multipart/form-data; boundary=x"


def post(s3: Signer, policy: str) -> Answer:
    """A form whose policy is signed by version 2."""
    signature = b64encode(hmac.digest(s3.secret.encode(), policy.encode(), "sha1")).decode()
    fields = {"AWSAccessKeyId": s3.access, "signature": signature, "policy": policy, "key": "k", "file": ""}
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    body = f"{parts}--x--\r\n".encode()
    return s3.send("POST", "/b01", {"content-type": FORM, "content-length": str(len(body))}, body)


def disowned(s3: Signer) -> Answer:
    s3.ask("PUT", "/b03")
    s3.ask("DELETE", "/b03?ownershipControls")
    return s3.ask("GET", "/b03?ownershipControls")


def unblocked(s3: Signer) -> Answer:
    s3.ask("DELETE", "/b01?publicAccessBlock")
    return s3.ask("GET", "/b01?publicAccessBlock")


def listed(headers: dict[str, str]) -> Ask:
    """A new bucket in which lists count."""
    return lambda s3: s3.ask("PUT", "/b02", {"x-amz-object-ownership": "ObjectWriter"} | headers)


def full_of_configurations(s3: Harness) -> Answer:
    s3.store.contents["b01"].configs |= {f"metrics/{number}": "" for number in range(1000)}
    return s3.ask("PUT", "/b01?metrics&id=a", body=b"<MetricsConfiguration><Id>a</Id></MetricsConfiguration>")


ACL = b"<AccessControlPolicy/>"
LOCK = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
WAYS: dict[str, Ask] = {
    "AccessControlListNotSupported": ask("PUT", "/b01/k", b"x", x_amz_acl="public-read"),
    "AccessDenied": sent("GET", "/b01/k"),
    "AccessForbidden": sent("OPTIONS", "/b01/k", origin="http://a", access_control_request_method="GET"),
    "AuthorizationHeaderMalformed": sent("GET", "/b01/k", authorization="AWS4-HMAC-SHA256 x"),
    "AuthorizationQueryParametersError": sent("GET", "/b01/k?X-Amz-Signature=x"),
    "BadDigest": ask("PUT", "/b01/k", b"x", content_md5=EMPTY_MD5),
    "BucketAlreadyOwnedByYou": ask("PUT", "/b01"),
    "BucketNotEmpty": ask("DELETE", "/b01"),
    "EntityTooLarge": lambda s3: s3.ask("PUT", "/b01/k", length=6 << 30),
    "EntityTooSmall": complete((1, "right"), (2, "right")),
    "IllegalLocationConstraintException": lambda s3: s3.ask("PUT", "/b02", body=located("us-west-1"), region="us-west-2"),
    "IllegalVersioningConfigurationException": ask("PUT", "/b01?versioning", b"<VersioningConfiguration/>"),
    "InvalidLocationConstraint": ask("PUT", "/b02", located("mars")),
    "IncompleteBody": cut_short,
    "InvalidAccessKeyId": sent("GET", "/b01/k?AWSAccessKeyId=x&Signature=abc&Expires=99999999999"),
    "InvalidArgument": ask("GET", "/b01?max-keys=x"),
    "InvalidBucketAclWithBlockPublicAccessError": listed({"x-amz-acl": "public-read"}),
    "UnresolvableGrantByEmailAddress": listed({"x-amz-grant-read": "emailAddress=a@b"}),
    "InvalidBucketAclWithObjectOwnership": ask("PUT", "/b02", x_amz_acl="public-read"),
    "InvalidBucketName": ask("PUT", "/B02"),
    "InvalidBucketState": ask("PUT", "/b01?object-lock", LOCK, content_md5=b64encode(md5(LOCK).digest()).decode()),
    "InvalidChunkSizeError": chunked(b"1\r\nx\r\n1\r\nx\r\n0\r\n\r\n", 2),
    "InvalidDigest": ask("PUT", "/b01/k", b"x", content_md5="x"),
    "InvalidEncryptionAlgorithmError": ask("PUT", "/b01/k", b"x", **{
        "x-amz-server-side-encryption-customer-" + name: "x" for name in ("algorithm", "key", "key-md5")
    }),
    "KMS.NotFoundException": ask("PUT", "/b01/k", b"x", **{
        "x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "none",
    }),
    "InvalidObjectState": ask("POST", "/b01/k?restore", b"<RestoreRequest><Days>1</Days></RestoreRequest>"),
    "InvalidPart": complete((1, "wrong")),
    "InvalidPartNumber": ask("GET", "/b01/k?partNumber=2"),
    "InvalidPartOrder": complete((2, "right"), (1, "right")),
    "InvalidPolicyDocument": lambda s3: post(s3, policy=b64encode(b"{}").decode()),
    "InvalidRange": ask("GET", "/b01/k", range="bytes=4-"),
    "InvalidRedirectLocation": ask("PUT", "/b01/k", b"x", x_amz_website_redirect_location="x"),
    "InvalidRequest": ask("GET", "/b01/k?retention"),
    "InvalidStorageClass": ask("PUT", "/b01/k", b"x", x_amz_storage_class="TAPE"),
    "InvalidTag": ask("PUT", "/b01/k", b"x", x_amz_tagging="aws:x=y"),
    "InvalidToken": ask("GET", "/b01/k", x_amz_security_token="x"),
    "InvalidWriteOffset": ask("PUT", "/b01/k", b"x", x_amz_write_offset_bytes="1"),
    "InvalidURI": ask("GET", "/b01/%zz"),
    "KeyTooLongError": ask("PUT", "/b01/" + "k" * 1025, b"x"),
    "MalformedACLError": ask("PUT", "/b01?acl", ACL),
    "MalformedPOSTRequest": lambda s3: s3.send("POST", "/b01", {"content-type": FORM, "content-length": "1"}, b"x"),
    "MalformedTrailerError": chunked(b"4\r\ndata\r\n0\r\nx\r\n\r\n", 4),
    "MalformedXML": ask("POST", "/b01?delete", b"<Delete", content_md5=b64encode(md5(b"<Delete").digest()).decode()),
    "MaxMessageLengthExceeded": lambda s3: s3.ask("POST", "/b01?delete", {"content-md5": EMPTY_MD5}, length=9 << 20),
    "MaxPostPreDataLengthExceededError": lambda s3: s3.send(
        "POST", "/b01", {"content-type": FORM, "content-length": "30000"}, b"x" * 30_000
    ),
    "MetadataConfigurationNotFound": ask("GET", "/b01?metadataConfiguration"),
    "MetadataTooLarge": ask("PUT", "/b01/k", b"x", x_amz_meta_a="a" * 2048),
    "MethodNotAllowed": ask("PATCH", "/b01/k"),
    "MissingContentLength": lambda s3: s3.ask("PUT", "/b01/k", length=None),
    "MissingRequestBodyError": ask("POST", "/b01?delete", content_md5=EMPTY_MD5),
    "MissingSecurityHeader": ask("PUT", "/b01?acl"),
    "NoSuchBucket": ask("GET", "/none"),
    "NoSuchConfiguration": ask("GET", "/b01?metrics&id=x"),
    "NoSuchBucketPolicy": ask("GET", "/b01?policy"),
    "NoSuchCORSConfiguration": ask("GET", "/b01?cors"),
    "NoSuchKey": ask("GET", "/b01/none"),
    "NoSuchLifecycleConfiguration": ask("GET", "/b01?lifecycle"),
    "NoSuchPublicAccessBlockConfiguration": unblocked,
    "NoSuchObjectLockConfiguration": never_held,
    "NoSuchTagSet": ask("GET", "/b01?tagging"),
    "NoSuchUpload": ask("GET", "/b01/k?uploadId=x"),
    "NoSuchVersion": ask("GET", f"/b01/k?versionId={'x' * 32}"),
    "NoSuchWebsiteConfiguration": ask("GET", "/b01?website"),
    "NotImplemented": ask("PUT", "/b01?policy"),
    "ObjectLockConfigurationNotFoundError": ask("GET", "/b01?object-lock"),
    "OwnershipControlsNotFoundError": disowned,
    "PreconditionFailed": ask("GET", "/b01/k", if_match="x"),
    "ReplicationConfigurationNotFoundError": ask("GET", "/b01?replication"),
    "RequestTimeTooSkewed": expired_clock,
    "ServerSideEncryptionConfigurationNotFoundError": ask("GET", "/b01?encryption"),
    "SignatureDoesNotMatch": lambda s3: s3.send("GET", f"/b01/k?AWSAccessKeyId={s3.access}&Signature=abc&Expires=99999999999"),
    "UnexpectedContent": ask("PUT", "/b01?acl", ACL, x_amz_acl="private"),
    "XAmzContentSHA256Mismatch": lambda s3: s3.presigned("PUT", "/b01/k", {"x-amz-content-sha256": "0" * 64}, b"x"),
}
"""Codes by what every server can be asked."""
INSIDE: dict[str, Inside] = {
    "BadRequest": transport(errors.BadRequest()),
    "ConditionalRequestConflict": fails(errors.ConditionalConflict()),
    "BucketAlreadyExists": owned_by_somebody,
    "IdempotencyParameterMismatch": fails(errors.IdempotencyMismatch()),
    "InsufficientStorage": fails(errors.InsufficientStorage()),
    "InternalError": fails(errors.OutcomeUnknown()),
    "RequestHeaderSectionTooLarge": transport(errors.HeadTooLarge()),
    "RequestTimeout": transport(errors.RequestTimeout()),
    "ServiceUnavailable": fails(errors.Unavailable()),
    "SlowDown": fails(errors.Overloaded()),
    "TooManyParts": fails(errors.TooManyParts()),
    "TooManyConfigurations": full_of_configurations,
}
"""Codes by what is done to the store, or comes from the transport."""


def test_there_is_a_way_to_every_code() -> None:
    assert sorted([*WAYS, *INSIDE]) == sorted(CODES)


@pytest.mark.parametrize("code", [*WAYS, *INSIDE])
def test_a_request_gets_the_code_with_its_status_and_ids(s3: Harness, code: str) -> None:
    answer = WAYS[code](s3) if code in WAYS else INSIDE[code](s3)
    assert (answer.code, answer.status) == (code, CODES[code][0])
    root = ElementTree.fromstring(answer.body)
    assert [child.tag for child in root][:2] == ["Code", "Message"]
    assert [child.tag for child in root][-2:] == ["RequestId", "HostId"]
    assert root.findtext("Message")
    assert answer.headers["content-type"] == "application/xml"
    assert answer.headers["x-amz-request-id"] == root.findtext("RequestId") == "0123456789ABCDEF"
    assert answer.headers["x-amz-id-2"] == root.findtext("HostId")


FIELDS = {
    "BadDigest": ["ExpectedDigest", "CalculatedDigest"], "EntityTooLarge": ["ProposedSize", "MaxSizeAllowed"],
    "EntityTooSmall": ["MinSizeAllowed", "PartNumber", "ETag", "ProposedSize"], "InvalidAccessKeyId": ["AWSAccessKeyId"],
    "InvalidArgument": ["ArgumentName", "ArgumentValue"], "InvalidBucketName": ["BucketName"], "InvalidDigest": ["Content-MD5"],
    "InvalidPart": ["PartNumber", "ETag", "UploadId"], "InvalidPartNumber": ["PartNumberRequested", "ActualPartCount"],
    "InvalidRange": ["RangeRequested", "ActualObjectSize"], "InvalidStorageClass": ["StorageClassRequested"],
    "KeyTooLongError": ["Size", "MaxSizeAllowed"], "MaxMessageLengthExceeded": ["MaxMessageLengthBytes"],
    "MetadataTooLarge": ["Size", "MaxSizeAllowed"], "MethodNotAllowed": ["Method", "ResourceType"],
    "NoSuchBucket": ["BucketName"], "BucketNotEmpty": ["BucketName"], "NoSuchKey": ["Key"], "NoSuchUpload": ["UploadId"],
    "NoSuchVersion": ["Key", "VersionId"],
    "PreconditionFailed": ["Condition"], "RequestTimeTooSkewed": ["RequestTime", "ServerTime", "MaxAllowedSkewMilliseconds"],
    "SignatureDoesNotMatch": ["AWSAccessKeyId", "StringToSign", "SignatureProvided"],
    "AccessForbidden": ["Method", "ResourceType"],
    "XAmzContentSHA256Mismatch": ["ClientComputedContentSHA256", "S3ComputedContentSHA256"],
}


@pytest.mark.parametrize("code", FIELDS)
def test_a_code_has_the_fields_of_s3(s3: Harness, code: str) -> None:
    root = ElementTree.fromstring(WAYS[code](s3).body)
    assert set(FIELDS[code]) <= {child.tag for child in root}


@pytest.mark.parametrize(
    ("code", "header", "value"),
    [("InvalidRange", "content-range", "bytes */4"), ("MethodNotAllowed", "allow", "GET, HEAD, PUT, DELETE")],
)
def test_a_code_has_its_header(s3: Harness, code: str, header: str, value: str) -> None:
    assert WAYS[code](s3).headers[header] == value
