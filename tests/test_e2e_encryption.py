"""Encryption at rest through boto3: all three kinds, what answers say of them, and what lies on the volumes afterwards."""

from __future__ import annotations

import hashlib
import json
import random
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from abixio.cli import main
from tests.conftest import MakeServer
from tests.server import Server, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
KEY = bytes(range(100, 132))
OTHER = bytes(range(32))
S3_KIND: dict[str, Any] = {"ServerSideEncryption": "AES256"}
KMS_KIND: dict[str, Any] = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "finance"}
CUSTOMER: dict[str, Any] = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
WRONG: dict[str, Any] = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": OTHER}
KINDS: dict[str, dict[str, Any]] = {"s3": S3_KIND, "kms": KMS_KIND, "customer": CUSTOMER}
SMALL = b"a secret of few words "
LARGE = random.Random(1).randbytes(5 * MIB + 333)


def reading(kind: dict[str, Any]) -> dict[str, Any]:
    """What a read of an object of that kind has to bring."""
    return {name: value for name, value in kind.items() if name.startswith("SSECustomer")}


def of_source(kind: dict[str, Any]) -> dict[str, Any]:
    return {"CopySource" + name: value for name, value in reading(kind).items()}


def seen(kind: dict[str, Any]) -> dict[str, Any]:
    """What every answer says of an object of that kind."""
    if kind is CUSTOMER:
        return {"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": b64encode(hashlib.md5(KEY).digest()).decode()}
    return kind


def shows(answer: Any, kind: dict[str, Any]) -> bool:
    said = {name: value for name, value in answer.items() if name.startswith(("SSE", "ServerSide"))}
    return said == seen(kind)


def refused(call: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as error:
        call()
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"].get("Message", "")


def upload(s3: S3Client, bucket: str, key: str, kind: dict[str, Any], parts: list[bytes], **more: Any) -> Any:
    made = s3.create_multipart_upload(Bucket=bucket, Key=key, **kind, **more)
    assert shows(made, kind)
    sent = []
    for number, body in enumerate(parts, 1):
        part = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=made["UploadId"], PartNumber=number, Body=body, **reading(kind)
        )
        assert shows(part, kind)
        sent.append({"PartNumber": number, "ETag": part["ETag"]})
    return s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=made["UploadId"], MultipartUpload={"Parts": sent})


def body_of(s3: S3Client, bucket: str, key: str, **more: Any) -> bytes:
    with s3.get_object(Bucket=bucket, Key=key, **more)["Body"] as body:
        return body.read()


@pytest.fixture(scope="module")
def encrypting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("encrypting")
    server = Server([home / f"v{number}" for number in range(4)], home / "log",
                    ["--durability", "page-cache", "--kms-key-id", "finance"]).start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def client(encrypting: Server) -> Iterator[S3Client]:
    client = encrypting.client()
    yield client
    client.close()


@pytest.fixture
def place(client: S3Client, request: pytest.FixtureRequest) -> str:
    name = "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    client.create_bucket(Bucket=name)
    return name


# ---- one object ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_body_comes_back_whole_in_ranges_and_by_its_attributes(client: S3Client, place: str, kind: dict[str, Any]) -> None:
    for key, body in {"empty": b"", "small": SMALL, "large": LARGE}.items():
        put = client.put_object(Bucket=place, Key=key, Body=body, Metadata={"a": "b"}, **kind)
        assert shows(put, kind)
        got = client.get_object(Bucket=place, Key=key, ChecksumMode="ENABLED", **reading(kind))
        assert shows(got, kind)
        assert got["Body"].read() == body
        head = client.head_object(Bucket=place, Key=key, ChecksumMode="ENABLED", **reading(kind))
        assert shows(head, kind)
        assert (head["ContentLength"], head["ETag"], head["ChecksumCRC32"]) == (len(body), put["ETag"], put["ChecksumCRC32"])
        named = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b64encode(KEY).decode()} if kind is CUSTOMER else {}
        attributes = client.get_object_attributes(
            Bucket=place, Key=key, ObjectAttributes=["ETag", "Checksum", "ObjectSize"], **named
        )
        assert (attributes["ObjectSize"], attributes["Checksum"]["ChecksumCRC32"]) == (len(body), put["ChecksumCRC32"])
    border = 4 * MIB
    for first, last in ((0, 0), (65_519, 65_520), (65_536, 200_000), (border - 70_000, border + 70_000), (len(LARGE) - 1, 9**9)):
        part = client.get_object(Bucket=place, Key="large", Range=f"bytes={first}-{last}", **reading(kind))
        assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert part["Body"].read() == LARGE[first : last + 1]
    assert body_of(client, place, "large", Range="bytes=-7", **reading(kind)) == LARGE[-7:]
    listed = {item["Key"]: item["Size"] for item in client.list_objects_v2(Bucket=place)["Contents"]}
    assert listed == {"empty": 0, "small": len(SMALL), "large": len(LARGE)}


def test_the_etag_of_sse_s3_is_an_md5_and_of_the_others_says_nothing(client: S3Client, place: str) -> None:
    tags = {name: client.put_object(Bucket=place, Key=name, Body=SMALL, **kind)["ETag"] for name, kind in KINDS.items()}
    md5 = hashlib.md5(SMALL).hexdigest()
    assert tags["s3"] == f'"{md5}"'
    assert md5 not in tags["kms"] + tags["customer"]
    assert client.put_object(Bucket=place, Key="kms", Body=SMALL, **KMS_KIND)["ETag"] != tags["kms"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_wrong_digest_stores_nothing(client: S3Client, place: str, kind: dict[str, Any]) -> None:
    wrong = b64encode(bytes(16)).decode()
    assert refused(lambda: client.put_object(Bucket=place, Key="k", Body=SMALL, ContentMD5=wrong, **kind))[1] == "BadDigest"
    assert "Contents" not in client.list_objects_v2(Bucket=place)


def test_conditions_and_tags_work_as_ever(client: S3Client, place: str) -> None:
    tag = client.put_object(Bucket=place, Key="k", Body=SMALL, **CUSTOMER)["ETag"]
    assert refused(lambda: client.get_object(Bucket=place, Key="k", IfNoneMatch=tag, **CUSTOMER))[0] == 304
    assert refused(lambda: client.put_object(Bucket=place, Key="k", Body=b"", IfNoneMatch="*", **CUSTOMER))[0] == 412
    client.put_object_tagging(Bucket=place, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert body_of(client, place, "k", **CUSTOMER) == SMALL
    client.delete_object(Bucket=place, Key="k")


# ---- keys of customers -----------------------------------------------------------------------------------------------
def test_no_key_and_another_key_read_nothing(client: S3Client, place: str) -> None:
    client.put_object(Bucket=place, Key="k", Body=SMALL, **CUSTOMER)
    client.put_object(Bucket=place, Key="plain", Body=SMALL)
    client.put_object(Bucket=place, Key="s3", Body=SMALL, **S3_KIND)
    assert refused(lambda: client.get_object(Bucket=place, Key="k")) == (
        400, "InvalidRequest", "The object was stored using a form of Server Side Encryption. The correct parameters must be "
        "provided to retrieve the object."
    )
    assert refused(lambda: client.get_object(Bucket=place, Key="k", **WRONG)) == (
        403, "AccessDenied", "Requests specifying Server Side Encryption with Customer provided keys must provide the correct "
        "secret key."
    )
    assert refused(lambda: client.head_object(Bucket=place, Key="k"))[0] == 400
    assert refused(lambda: client.head_object(Bucket=place, Key="k", **WRONG))[0] == 403
    assert refused(lambda: client.get_object_attributes(Bucket=place, Key="k", ObjectAttributes=["ETag"]))[0] == 400
    for key in ("plain", "s3"):
        assert refused(lambda key=key: client.get_object(Bucket=place, Key=key, **CUSTOMER))[1:] == (
            "InvalidRequest", "The encryption parameters are not applicable to this object."
        )


def header(**values: str) -> dict[str, str]:
    return {"x-amz-server-side-encryption-customer-" + name.replace("_", "-"): value for name, value in values.items()}


GOOD = header(algorithm="AES256", key=b64encode(KEY).decode(), key_MD5=b64encode(hashlib.md5(KEY).digest()).decode())
SHORT = header(algorithm="AES256", key=b64encode(KEY[:24]).decode(), key_MD5=b64encode(hashlib.md5(KEY[:24]).digest()).decode())
WHO = "Requests specifying Server Side Encryption with Customer provided keys must "


@pytest.mark.parametrize(
    ("headers", "code", "message"),
    [
        ({**GOOD, **header(algorithm="AES128")}, "InvalidEncryptionAlgorithmError",
         "The Encryption request you specified is not valid. Supported value: AES256."),
        (GOOD | {"x-amz-server-side-encryption": "AES256"}, "InvalidArgument",
         "Server Side Encryption with Customer provided key is incompatible with the encryption method specified"),
        ({name: value for name, value in GOOD.items() if not name.endswith("algorithm")}, "InvalidArgument",
         WHO + "provide a valid encryption algorithm."),
        ({name: value for name, value in GOOD.items() if not name.endswith("key")}, "InvalidArgument",
         WHO + "provide an appropriate secret key."),
        ({name: value for name, value in GOOD.items() if not name.endswith("MD5")}, "InvalidArgument",
         WHO + "provide the client calculated MD5 of the secret key."),
        ({**GOOD, **header(key_MD5=b64encode(bytes(16)).decode())}, "InvalidArgument",
         "The calculated MD5 hash of the key did not match the hash that was provided."),
        (SHORT, "InvalidArgument", "The secret key was invalid for the specified algorithm."),
        ({"x-amz-server-side-encryption": "AES512"}, "InvalidArgument", "The encryption method specified is not supported"),
        ({"x-amz-server-side-encryption": ""}, "InvalidArgument", "The encryption method specified is not supported"),
        ({"x-amz-server-side-encryption": "aws:kms:dsse"}, "NotImplemented", None),
        ({"x-amz-server-side-encryption": "AES256", "x-amz-server-side-encryption-aws-kms-key-id": "finance"}, "InvalidArgument",
         "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms"),
        ({"x-amz-server-side-encryption-aws-kms-key-id": "finance"}, "InvalidArgument",
         "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms"),
        ({"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "nobody"},
         "KMS.NotFoundException", "Invalid keyId 'nobody'"),
        ({"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-context": "e30="[:3]}, "InvalidArgument",
         "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string holding JSON which represents a "
         "string-string map"),
    ],
)
@pytest.mark.parametrize("operation", ["put", "create", "copy"])
def test_a_wrong_wish_is_refused_as_s3_refuses_it_and_stores_nothing(
    client: S3Client, place: str, operation: str, headers: dict[str, str], code: str, message: str | None
) -> None:
    s3 = client
    s3.put_object(Bucket=place, Key="source", Body=b"x")

    def add(request: Any, **more: Any) -> None:
        for name, value in headers.items():
            request.headers[name] = value

    s3.meta.events.register("before-sign.s3", add)
    calls: dict[str, Any] = {
        "put": lambda: s3.put_object(Bucket=place, Key="k", Body=b"x"),
        "create": lambda: s3.create_multipart_upload(Bucket=place, Key="k"),
        "copy": lambda: s3.copy_object(Bucket=place, Key="k", CopySource=f"{place}/source"),
    }
    found = refused(calls[operation])
    s3.meta.events.unregister("before-sign.s3", add)
    assert found[1] == code
    assert message in (None, found[2])
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=place)["Contents"]] == ["source"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=place)


def test_a_read_cannot_choose(encrypting: Server, place: str) -> None:
    s3 = encrypting.client()
    s3.put_object(Bucket=place, Key="k", Body=b"x", **S3_KIND)

    def add(request: Any, **more: Any) -> None:
        request.headers["x-amz-server-side-encryption"] = "AES256"

    s3.meta.events.register("before-sign.s3", add)
    assert refused(lambda: s3.get_object(Bucket=place, Key="k"))[:2] == (400, "InvalidArgument")
    assert refused(lambda: s3.head_object(Bucket=place, Key="k"))[0] == 400
    s3.close()


# ---- the key store ---------------------------------------------------------------------------------------------------
def test_a_key_may_be_named_in_every_way_and_is_shown_as_it_was_named(client: S3Client, place: str) -> None:
    context = b64encode(json.dumps({"department": "x"}).encode()).decode()
    for name in ("finance", "alias/finance", "arn:aws:kms:us-east-1:123456789012:key/finance"):
        put = client.put_object(Bucket=place, Key="k", Body=SMALL, ServerSideEncryption="aws:kms", SSEKMSKeyId=name,
                                SSEKMSEncryptionContext=context, BucketKeyEnabled=True)
        assert (put["SSEKMSKeyId"], put["BucketKeyEnabled"], put["SSEKMSEncryptionContext"]) == (name, True, context)
        got = client.get_object(Bucket=place, Key="k")
        assert (got["SSEKMSKeyId"], got["BucketKeyEnabled"], got["Body"].read()) == (name, True, SMALL)
        assert "SSEKMSEncryptionContext" not in got
    assert client.put_object(Bucket=place, Key="k", Body=b"", ServerSideEncryption="aws:kms")["SSEKMSKeyId"] == "finance"


# ---- buckets ---------------------------------------------------------------------------------------------------------
def rule(algorithm: str = "", key: str = "", **more: Any) -> dict[str, Any]:
    chosen = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key} if key else {})
    return {"Rules": [({"ApplyServerSideEncryptionByDefault": chosen} if algorithm else {}) | more]}


def test_the_default_of_a_bucket_holds_for_who_asks_for_nothing(client: S3Client, place: str) -> None:
    missing = refused(lambda: client.get_bucket_encryption(Bucket=place))
    assert missing[:2] == (404, "ServerSideEncryptionConfigurationNotFoundError")
    client.put_object(Bucket=place, Key="before", Body=SMALL)
    client.put_bucket_encryption(Bucket=place, ServerSideEncryptionConfiguration=rule("AES256"))
    shown = client.get_bucket_encryption(Bucket=place)["ServerSideEncryptionConfiguration"]
    assert shown == rule("AES256", BucketKeyEnabled=False)
    assert shows(client.put_object(Bucket=place, Key="k", Body=SMALL), S3_KIND)
    assert shows(client.copy_object(Bucket=place, Key="copy", CopySource=f"{place}/before"), S3_KIND)
    upload(client, place, "m", S3_KIND, [SMALL])
    assert shows(client.put_object(Bucket=place, Key="c", Body=SMALL, **CUSTOMER), CUSTOMER)
    kms = rule("aws:kms", "alias/finance", BucketKeyEnabled=True)
    client.put_bucket_encryption(Bucket=place, ServerSideEncryptionConfiguration=kms)
    assert client.get_bucket_encryption(Bucket=place)["ServerSideEncryptionConfiguration"] == kms
    put = client.put_object(Bucket=place, Key="k", Body=SMALL)
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"], put["BucketKeyEnabled"]) == ("aws:kms", "alias/finance", True)
    assert shows(client.put_object(Bucket=place, Key="k", Body=SMALL, **S3_KIND), S3_KIND)
    assert shows(client.head_object(Bucket=place, Key="before"), {})
    for _ in range(2):
        client.delete_bucket_encryption(Bucket=place)
    assert shows(client.put_object(Bucket=place, Key="k", Body=SMALL), {})
    for key in ("before", "copy", "m", "k"):
        assert body_of(client, place, key) == SMALL


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"Rules": []}, "MalformedXML"),
        ({"Rules": rule("AES256")["Rules"] * 2}, "MalformedXML"),
        (rule("AES256", "finance"), "InvalidArgument"),
        (rule("AES512"), "MalformedXML"),
        (rule("aws:kms:dsse"), "NotImplemented"),
        (rule(BucketKeyEnabled=True), "MalformedXML"),
        (rule(BlockedEncryptionTypes={"EncryptionType": ["SSE-S3"]}), "MalformedXML"),
    ],
)
def test_a_default_that_cannot_be_is_refused(client: S3Client, place: str, config: Any, code: str) -> None:
    assert refused(lambda: client.put_bucket_encryption(Bucket=place, ServerSideEncryptionConfiguration=config))[1] == code
    assert refused(lambda: client.get_bucket_encryption(Bucket=place))[0] == 404


def test_a_bucket_may_refuse_keys_of_customers(client: S3Client, place: str) -> None:
    client.put_object(Bucket=place, Key="old", Body=SMALL, **CUSTOMER)
    blocked = rule(BlockedEncryptionTypes={"EncryptionType": ["SSE-C"]})
    client.put_bucket_encryption(Bucket=place, ServerSideEncryptionConfiguration=blocked)
    assert refused(lambda: client.put_object(Bucket=place, Key="k", Body=SMALL, **CUSTOMER))[:2] == (403, "AccessDenied")
    assert body_of(client, place, "old", **CUSTOMER) == SMALL
    client.put_bucket_encryption(Bucket=place, ServerSideEncryptionConfiguration=rule("AES256"))
    assert refused(lambda: client.put_object(Bucket=place, Key="k", Body=SMALL, **CUSTOMER))[0] == 403
    allowed = rule("AES256", BlockedEncryptionTypes={"EncryptionType": ["NONE"]})
    client.put_bucket_encryption(Bucket=place, ServerSideEncryptionConfiguration=allowed)
    client.put_object(Bucket=place, Key="k", Body=SMALL, **CUSTOMER)


# ---- parts and copies ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_parts_read_as_one_in_ranges_and_by_number(client: S3Client, place: str, kind: dict[str, Any]) -> None:
    parts = [LARGE, LARGE[::-1], SMALL]
    done = upload(client, place, "m", kind, parts, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    assert shows(done, {} if kind is CUSTOMER else kind)
    whole = b"".join(parts)
    got = client.get_object(Bucket=place, Key="m", ChecksumMode="ENABLED", **reading(kind))
    assert got["Body"].read() == whole
    assert got["ChecksumCRC32"] == done["ChecksumCRC32"]
    size = len(LARGE)
    assert body_of(client, place, "m", Range=f"bytes={size - 9}-{size + 9}", **reading(kind)) == whole[size - 9 : size + 10]
    for number, part in enumerate(parts, 1):
        assert body_of(client, place, "m", PartNumber=number, **reading(kind)) == part


def test_a_part_needs_what_its_upload_was_begun_with(client: S3Client, place: str) -> None:
    needs = "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate "
    with_key = client.create_multipart_upload(Bucket=place, Key="c", **CUSTOMER)["UploadId"]
    without = client.create_multipart_upload(Bucket=place, Key="p")["UploadId"]
    by_server = client.create_multipart_upload(Bucket=place, Key="s", **S3_KIND)["UploadId"]
    client.put_object(Bucket=place, Key="source", Body=SMALL)
    for key, id, more in (("c", with_key, {}), ("p", without, CUSTOMER), ("s", by_server, CUSTOMER)):
        where: Any = {"Bucket": place, "Key": key, "UploadId": id, "PartNumber": 1, **more}
        for call in (lambda w=where: client.upload_part(Body=SMALL, **w),
                     lambda w=where: client.upload_part_copy(CopySource=f"{place}/source", **w)):
            assert refused(call) == (400, "InvalidRequest", needs + "encryption parameters.")
    where = {"Bucket": place, "Key": "c", "UploadId": with_key, "PartNumber": 1}
    assert refused(lambda: client.upload_part(Body=SMALL, **where, **WRONG)) == (
        400, "InvalidRequest", "The provided encryption parameters did not match the ones used originally."
    )
    assert "Parts" not in client.list_parts(Bucket=place, Key="c", UploadId=with_key)


SOURCES: dict[str, dict[str, Any]] = {**KINDS, "plain": {}}


def copy(s3: S3Client, bucket: str, more: dict[str, Any]) -> Any:
    return s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/small", **more)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_copies_between_all_kinds_hold_the_same_bytes(client: S3Client, place: str, source: dict[str, Any]) -> None:
    for key, body in {"small": SMALL, "large": LARGE}.items():
        client.put_object(Bucket=place, Key=key, Body=body, **source)
        for target in SOURCES.values():
            copied = client.copy_object(Bucket=place, Key="copy", CopySource=f"{place}/{key}", **target, **of_source(source))
            # As in S3, what was encrypted stays so at least under the server's key.
            assert shows(copied, target or (S3_KIND if source else {}))
            assert body_of(client, place, "copy", **reading(target)) == body
    if source is CUSTOMER:
        assert refused(lambda: copy(client, place, {}))[:2] == (400, "InvalidRequest")
        assert refused(lambda: copy(client, place, of_source(WRONG)))[0] == 403
    if not source:
        assert refused(lambda: copy(client, place, of_source(CUSTOMER)))[:2] == (400, "InvalidRequest")


def test_a_copy_onto_itself_may_change_the_encryption(client: S3Client, place: str) -> None:
    client.put_object(Bucket=place, Key="k", Body=LARGE, Metadata={"a": "b"})
    kinds: list[dict[str, Any]] = [S3_KIND, CUSTOMER, KMS_KIND]
    before: dict[str, Any] = {}
    for kind in kinds:
        client.copy_object(Bucket=place, Key="k", CopySource=f"{place}/k", **kind, **of_source(before))
        head = client.head_object(Bucket=place, Key="k", **reading(kind))
        assert shows(head, kind)
        assert head["Metadata"] == {"a": "b"}
        before = kind
    assert body_of(client, place, "k") == LARGE
    client.copy_object(Bucket=place, Key="k", CopySource=f"{place}/k", MetadataDirective="REPLACE")
    assert shows(client.head_object(Bucket=place, Key="k"), S3_KIND)
    nothing = refused(lambda: client.copy_object(Bucket=place, Key="k", CopySource=f"{place}/k"))
    assert nothing[:2] == (400, "InvalidRequest")


def test_parts_are_copied_from_any_kind_into_any_kind(client: S3Client, place: str) -> None:
    for name, kind in KINDS.items():
        client.put_object(Bucket=place, Key=name, Body=LARGE, **kind)
    for kind in KINDS.values():
        made = client.create_multipart_upload(Bucket=place, Key="m", **kind)["UploadId"]
        sent = []
        for number, (name, source) in enumerate(KINDS.items(), 1):
            part = client.upload_part_copy(
                Bucket=place, Key="m", UploadId=made, PartNumber=number, CopySource=f"{place}/{name}",
                CopySourceRange=f"bytes={number}-{5 * MIB + number}", **reading(kind), **of_source(source),
            )
            assert shows(part, kind)
            sent.append({"PartNumber": number, "ETag": part["CopyPartResult"]["ETag"]})
        client.complete_multipart_upload(Bucket=place, Key="m", UploadId=made, MultipartUpload={"Parts": sent})
        expected = b"".join(LARGE[number : 5 * MIB + number + 1] for number in (1, 2, 3))
        assert body_of(client, place, "m", **reading(kind)) == expected


def test_versions_have_keys_of_their_own(client: S3Client, place: str) -> None:
    client.put_bucket_versioning(Bucket=place, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket=place, Key="k", Body=b"one", **CUSTOMER)["VersionId"]
    second = client.put_object(Bucket=place, Key="k", Body=b"two", **WRONG)["VersionId"]
    assert body_of(client, place, "k", VersionId=first, **CUSTOMER) == b"one"
    assert body_of(client, place, "k", VersionId=second, **WRONG) == b"two"
    assert refused(lambda: client.get_object(Bucket=place, Key="k", VersionId=second, **CUSTOMER))[0] == 403


def test_an_append_to_an_encrypted_object_is_refused(client: S3Client, place: str) -> None:
    s3 = client
    s3.put_object(Bucket=place, Key="k", Body=SMALL, **S3_KIND)
    assert refused(lambda: s3.put_object(Bucket=place, Key="k", Body=b"x", WriteOffsetBytes=len(SMALL)))[1] == "InvalidRequest"
    begun = refused(lambda: s3.put_object(Bucket=place, Key="new", Body=b"x", WriteOffsetBytes=0, **S3_KIND))
    assert begun[1] == "NotImplemented"
    assert body_of(s3, place, "k") == SMALL


# ---- the disks -------------------------------------------------------------------------------------------------------
def test_no_volume_no_log_and_no_command_line_holds_a_body_or_a_key(make_server: MakeServer, tmp_path: Path) -> None:
    needle = b"NEEDLE-in-a-haystack-0123456789"
    keys = tmp_path / "master.json"
    server = make_server(4, "--master-key-file", str(keys), "--kms-key-id", "finance", "--log-level", "debug",
                         "--access-log", "-", "--durability", "page-cache")
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")
    for name, kind in KINDS.items():
        for size in (1, 40, 20_000):
            s3.put_object(Bucket="bucket", Key=f"{name}-{size}", Body=needle * size, **kind)
            source = f"bucket/{name}-{size}"
            s3.copy_object(Bucket="bucket", Key=f"{name}-{size}-copy", CopySource=source, **KMS_KIND, **of_source(kind))
        upload(s3, "bucket", f"{name}-parts", kind, [needle * 200_000, needle])
        made = s3.create_multipart_upload(Bucket="bucket", Key="open", **kind)["UploadId"]
        s3.upload_part(Bucket="bucket", Key="open", UploadId=made, PartNumber=1, Body=needle * 3, **reading(kind))
        refused(lambda name=name: s3.get_object(Bucket="bucket", Key=f"{name}-1", **WRONG))
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes() + Path(f"/proc/{server.pid}/environ").read_bytes()
    held = b"".join(path.read_bytes() for volume in server.volumes for path in volume.rglob("*") if path.is_file())
    s3.close()
    server.send_signal(15)
    assert server.process is not None
    assert server.process.stdout is not None
    said = server.banner.encode() + server.process.stdout.read()
    server.wait()
    held += b"".join(path.read_bytes() for volume in server.volumes for path in volume.rglob("*") if path.is_file())
    secrets = [KEY, OTHER, *(b64decode(each["key"]) for each in json.loads(keys.read_text())["keys"])]
    assert len(secrets) == 5
    assert keys.stat().st_mode & 0o777 == 0o600
    assert b"GET /bucket/s3-1" in said
    for where in (held, said, arguments, server.stderr().encode()):
        for secret in (needle, *secrets):
            for form in (secret, secret.hex().encode(), b64encode(secret), repr(secret).encode()):
                assert form not in where
    assert len(held) > 4_000_000


def test_a_restart_and_a_dead_volume_change_nothing(make_server: MakeServer) -> None:
    server = make_server(4, "--kms-key-id", "finance", "--durability", "page-cache")
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")
    for name, kind in KINDS.items():
        for key, body in {"small": SMALL, "large": LARGE}.items():
            s3.put_object(Bucket="bucket", Key=name + key, Body=body, **kind)
        upload(s3, "bucket", name + "parts", kind, [LARGE, SMALL])
    s3.close()
    assert server.stop() == 0
    remove(server.volumes[1])
    s3 = server.start().client()
    for name, kind in KINDS.items():
        for key, body in {"small": SMALL, "large": LARGE, "parts": LARGE + SMALL}.items():
            assert body_of(s3, "bucket", name + key, **reading(kind)) == body
        s3.put_object(Bucket="bucket", Key="new", Body=LARGE, **kind)
        assert body_of(s3, "bucket", "new", **reading(kind)) == LARGE
    s3.close()


def wrapped_with(server: Server, key: str) -> str:
    """The number of the key that an object is wrapped with, as its record says on a volume."""
    catalog = b"".join(path.read_bytes() for path in server.volumes[0].glob(".abixio/catalog.db*"))
    found = re.findall(key.encode() + rb".{0,900}?\xa2id\xd9\x20([0-9a-f]{32})", catalog, re.DOTALL)
    return found[-1].decode()


def test_a_rotated_key_wraps_what_is_new_and_the_old_one_what_is_old(
    make_server: MakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server = make_server(2, "--kms-key-id", "finance", "--durability", "page-cache")
    volumes = ["--volumes", ",".join(map(str, server.volumes))]
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")
    for name in ("s3", "kms"):
        s3.put_object(Bucket="bucket", Key=f"old-{name}", Body=SMALL, **KINDS[name])
    s3.close()
    assert server.stop() == 0
    assert main(["keys", "rotate", *volumes]) == main(["keys", "rotate", "--kms-key-id", "finance", *volumes]) == 0
    new = re.findall("[0-9a-f]{32}", capsys.readouterr().out)
    assert main(["keys", "list", *volumes]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in listed if line.endswith("in use")][1:] == new
    assert len(listed) == 5
    s3 = server.start().client()
    for name in ("s3", "kms"):
        assert body_of(s3, "bucket", f"old-{name}") == SMALL
        s3.put_object(Bucket="bucket", Key=f"new-{name}", Body=SMALL, **KINDS[name])
        assert body_of(s3, "bucket", f"new-{name}") == SMALL
    s3.close()
    assert server.stop() == 0
    assert [wrapped_with(server, "new-s3"), wrapped_with(server, "new-kms")] == new
    assert wrapped_with(server, "old-s3") not in new


def test_a_key_file_that_was_lost_is_an_error_and_no_ciphertext(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(1, "--master-key-file", str(tmp_path / "keys"), "--kms-key-id", "finance", "--durability", "page-cache")
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")
    for name, kind in KINDS.items():
        s3.put_object(Bucket="bucket", Key=name, Body=SMALL, **kind)
    s3.close()
    assert server.stop() == 0
    (tmp_path / "keys").unlink()
    s3 = server.start().client()
    assert refused(lambda: s3.get_object(Bucket="bucket", Key="s3"))[:2] == (500, "InternalError")
    assert refused(lambda: s3.get_object(Bucket="bucket", Key="kms"))[:2] == (400, "KMS.NotFoundException")
    assert body_of(s3, "bucket", "customer", **CUSTOMER) == SMALL
    s3.close()
