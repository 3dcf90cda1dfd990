"""Access control lists: the one that there is where the owner of a bucket owns all in it, and the others where lists count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from abixio.s3.call import root_owner
from abixio.s3.grants import EVERYBODY, LOGS, SIGNED
from tests.s3_harness import Harness
from tests.s3_wire import ACCESS

OWNER = root_owner(ACCESS).id
GROUP = ('<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">'
         "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>")


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    harness.ask("PUT", "/b01/k", body=b"data")
    yield harness
    harness.close()


def grant(id: str = OWNER, permission: str = "FULL_CONTROL") -> str:
    return f"<Grant><Grantee><ID>{id}</ID></Grantee><Permission>{permission}</Permission></Grant>"


def policy(*grants: str) -> bytes:
    return f"<AccessControlPolicy><AccessControlList>{''.join(grants)}</AccessControlList></AccessControlPolicy>".encode()


def test_the_owner_has_everything(s3: Harness) -> None:
    client = s3.client()
    for found in (client.get_bucket_acl(Bucket="b01"), client.get_object_acl(Bucket="b01", Key="k")):
        assert found["Owner"]["ID"] == OWNER
        grantee = {"ID": OWNER, "DisplayName": "root", "Type": "CanonicalUser"}
        assert found["Grants"] == [{"Grantee": grantee, "Permission": "FULL_CONTROL"}]


@pytest.mark.parametrize("target", ["/none?acl", "/none/k?acl"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_what_is_not_there_has_no_list(s3: Harness, method: str, target: str) -> None:
    assert s3.ask(method, target).code == "NoSuchBucket"
    assert s3.ask(method, "/b01/none?acl").code == "NoSuchKey"
    assert s3.ask(method, f"/b01/k?acl&versionId={'x' * 32}").code == "NoSuchVersion"


@pytest.mark.parametrize("target", ["/b01?acl", "/b01/k?acl"])
def test_a_list_can_be_set_to_what_it_is(s3: Harness, target: str) -> None:
    for canned in ("private", "bucket-owner-full-control"):
        assert s3.ask("PUT", target, {"x-amz-acl": canned}).status == 200
    assert s3.ask("PUT", target, body=policy(grant())).status == 200
    own = s3.ask("GET", target).body
    assert s3.ask("PUT", target, body=own).status == 200


@pytest.mark.parametrize("target", ["/b01?acl", "/b01/k?acl"])
@pytest.mark.parametrize(
    "body", [policy(), policy(GROUP), policy(grant(), GROUP), policy(grant("0" * 64)), policy(grant(OWNER, "READ"))]
)
def test_a_list_that_gives_somebody_something_is_refused(s3: Harness, target: str, body: bytes) -> None:
    answer = s3.ask("PUT", target, body=body)
    assert (answer.status, answer.code) == (400, "AccessControlListNotSupported")


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [({"x-amz-acl": "public-read"}, b"", "AccessControlListNotSupported"), ({"x-amz-acl": "nonsense"}, b"", "InvalidArgument"),
     ({"x-amz-grant-read": "id=x"}, b"", "AccessControlListNotSupported"),
     ({"x-amz-acl": "private"}, policy(GROUP), "UnexpectedContent"), ({}, b"", "MissingSecurityHeader"),
     ({}, b"<Other/>", "MalformedACLError"), ({}, b"junk", "MalformedACLError"),
     ({}, b"<AccessControlPolicy/>", "MalformedACLError"),
     ({}, policy("<Grant><Permission>READ</Permission></Grant>"), "MalformedACLError")],
)
def test_every_other_request_has_its_error(s3: Harness, headers: dict[str, str], body: bytes, code: str) -> None:
    assert s3.ask("PUT", "/b01?acl", headers, body).code == code


# ---- where lists count -----------------------------------------------------------------------------------------------
ALL = [OWNER, "FULL_CONTROL"]
BLOCKED = {"BlockPublicAcls": True, "IgnorePublicAcls": True}
IGNORED = {"BlockPublicAcls": False, "IgnorePublicAcls": True}
CANNED = {
    "private": [ALL], "bucket-owner-read": [ALL], "bucket-owner-full-control": [ALL], "public-read": [ALL, [EVERYBODY, "READ"]],
    "public-read-write": [ALL, [EVERYBODY, "READ"], [EVERYBODY, "WRITE"]], "authenticated-read": [ALL, [SIGNED, "READ"]],
    "log-delivery-write": [ALL, [LOGS, "WRITE"], [LOGS, "READ_ACP"]],
}


def open_bucket(s3: Harness, block: Any = IGNORED) -> Any:
    """Lists count in b01, and grants to the public are as `block` says."""
    client: Any = s3.client()
    client.put_bucket_ownership_controls(Bucket="b01", OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    if block:
        client.put_public_access_block(Bucket="b01", PublicAccessBlockConfiguration=block)
    else:
        client.delete_public_access_block(Bucket="b01")
    return client


def shown(answer: Any) -> list[list[str]]:
    return [[each["Grantee"].get("ID") or each["Grantee"]["URI"], each["Permission"]] for each in answer["Grants"]]


@pytest.mark.parametrize("name", CANNED)
def test_a_canned_list_is_kept_and_shown_with_its_grants(s3: Harness, name: str) -> None:
    client = open_bucket(s3)
    client.put_bucket_acl(Bucket="b01", ACL=name)
    assert shown(client.get_bucket_acl(Bucket="b01")) == CANNED[name]
    client.put_object_acl(Bucket="b01", Key="k", ACL=name)
    assert shown(client.get_object_acl(Bucket="b01", Key="k")) == CANNED[name]
    assert s3.send("GET", "/b01/k").code == "AccessDenied"  # nobody got in
    client.put_object_acl(Bucket="b01", Key="k", ACL="private")
    assert shown(client.get_object_acl(Bucket="b01", Key="k")) == [ALL]


def test_every_way_to_upload_takes_a_list_and_no_answer_shows_it_as_metadata(s3: Harness) -> None:
    client = open_bucket(s3)
    client.put_object(Bucket="b01", Key="put", Body=b"data", ACL="public-read")
    upload = client.create_multipart_upload(Bucket="b01", Key="parts", ACL="public-read")["UploadId"]
    part = client.upload_part(Bucket="b01", Key="parts", UploadId=upload, PartNumber=1, Body=b"data")
    client.complete_multipart_upload(Bucket="b01", Key="parts", UploadId=upload, MultipartUpload={
        "Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    client.copy_object(Bucket="b01", Key="copy", CopySource="b01/k", ACL="public-read")
    for key in ("put", "parts", "copy"):
        assert shown(client.get_object_acl(Bucket="b01", Key=key)) == CANNED["public-read"]
        assert "acl" not in s3.ask("GET", f"/b01/{key}").headers
        assert "acl" not in s3.ask("HEAD", f"/b01/{key}").headers
    client.copy_object(Bucket="b01", Key="second", CopySource="b01/put")
    assert shown(client.get_object_acl(Bucket="b01", Key="second")) == [ALL]


def test_grants_in_headers_and_documents_are_all_there_is(s3: Harness) -> None:
    client = open_bucket(s3)
    client.put_bucket_acl(Bucket="b01", GrantRead=f"uri={LOGS}, id={OWNER}", GrantWriteACP=f'id="{OWNER}"')
    assert shown(client.get_bucket_acl(Bucket="b01")) == [[LOGS, "READ"], [OWNER, "READ"], [OWNER, "WRITE_ACP"]]
    written = client.get_bucket_acl(Bucket="b01")
    del written["ResponseMetadata"]
    client.put_object_acl(Bucket="b01", Key="k", AccessControlPolicy=written)
    assert shown(client.get_object_acl(Bucket="b01", Key="k")) == shown(written)
    client.put_object_acl(Bucket="b01", Key="k", AccessControlPolicy=written | {"Grants": []})
    assert shown(client.get_object_acl(Bucket="b01", Key="k")) == []


@pytest.mark.parametrize(("block", "code"), [({}, "NotImplemented"), (BLOCKED, "AccessDenied"),
                                             ({"BlockPublicAcls": True}, "AccessDenied")])
def test_the_public_gets_nothing_that_would_count(s3: Harness, block: dict[str, bool], code: str) -> None:
    open_bucket(s3, block)
    for target in ("/b01/k", "/b01/k?acl", "/b01?acl"):
        for headers in ({"x-amz-acl": "public-read"}, {"x-amz-grant-read": f"uri={SIGNED}"}):
            assert s3.ask("PUT", target, headers).code == code
    assert s3.ask("PUT", "/b01?acl", body=owned(GROUP)).code == code
    assert shown(s3.client().get_bucket_acl(Bucket="b01")) == [ALL]


def owned(*grants: str, owner: str = OWNER) -> bytes:
    return policy(*grants).replace(b"<AccessControlList>", f"<Owner><ID>{owner}</ID></Owner><AccessControlList>".encode())


REFUSED: list[tuple[dict[str, str], bytes, str]] = [
    ({"x-amz-acl": "nonsense"}, b"", "InvalidArgument"), ({"x-amz-acl": "aws-exec-read"}, b"", "NotImplemented"),
    ({"x-amz-acl": "private", "x-amz-grant-read": f"id={OWNER}"}, b"", "InvalidRequest"),
    ({"x-amz-grant-read": "nobody"}, b"", "InvalidArgument"), ({"x-amz-grant-read": "id=x"}, b"", "InvalidArgument"),
    ({"x-amz-grant-read": "uri=http://x"}, b"", "InvalidArgument"),
    ({"x-amz-grant-read": 'emailAddress="a@b"'}, b"", "UnresolvableGrantByEmailAddress"),
    ({}, owned(grant("0" * 64)), "InvalidArgument"), ({}, owned(grant(permission="EVERYTHING")), "MalformedACLError"),
    ({}, owned(grant(), owner="0" * 64), "AccessDenied"), ({}, policy(grant()), "MalformedACLError"),
    ({}, owned(*[grant()] * 101), "MalformedACLError"), ({}, owned("<Grant/>"), "MalformedACLError"),
]


@pytest.mark.parametrize(("headers", "body", "code"), REFUSED)
def test_a_list_of_nobody_is_refused(s3: Harness, headers: dict[str, str], body: bytes, code: str) -> None:
    open_bucket(s3)
    for target in ("/b01?acl", "/b01/k?acl"):
        assert s3.ask("PUT", target, headers, body).code == code
    if headers:
        assert s3.ask("PUT", "/b01/k", headers, b"new").code == code
        assert s3.ask("GET", "/b01/k").body == b"data"


def test_a_new_bucket_can_have_a_list_that_is_not_public(s3: Harness) -> None:
    client = s3.client()
    client.create_bucket(Bucket="b02", ObjectOwnership="ObjectWriter", ACL="log-delivery-write")  # type: ignore[arg-type]
    assert shown(client.get_bucket_acl(Bucket="b02")) == CANNED["log-delivery-write"]
    writer = {"x-amz-object-ownership": "ObjectWriter"}
    public = s3.ask("PUT", "/b03", writer | {"x-amz-acl": "public-read"})
    assert (public.status, public.code) == (400, "InvalidBucketAclWithBlockPublicAccessError")
    assert s3.ask("PUT", "/b03", writer | {"x-amz-grant-read": "id=x"}).code == "InvalidArgument"
    assert s3.ask("PUT", "/b03", {"x-amz-grant-read": f"id={OWNER}"}).code == "InvalidBucketAclWithObjectOwnership"
    assert s3.ask("HEAD", "/b03").status == 404


def test_lists_are_switched_off_only_where_the_bucket_gives_others_nothing(s3: Harness) -> None:
    client = open_bucket(s3)
    client.put_object(Bucket="b01", Key="k", Body=b"data", ACL="public-read")
    client.put_bucket_acl(Bucket="b01", ACL="log-delivery-write")
    enforced = b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"
    assert s3.ask("PUT", "/b01?ownershipControls", body=enforced).code == "InvalidBucketAclWithObjectOwnership"
    client.put_bucket_acl(Bucket="b01", ACL="private")
    assert s3.ask("PUT", "/b01?ownershipControls", body=enforced).status == 200
    assert shown(client.get_object_acl(Bucket="b01", Key="k")) == [ALL]
    client.delete_bucket_ownership_controls(Bucket="b01")
    assert shown(client.get_object_acl(Bucket="b01", Key="k")) == CANNED["public-read"]
