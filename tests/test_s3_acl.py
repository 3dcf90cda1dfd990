"""Access control lists: the one that there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from abixio.s3.call import root_owner
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
     ({}, b"<Other/>", "MalformedXML"), ({}, b"<AccessControlPolicy/>", "MalformedACLError"),
     ({}, policy("<Grant><Permission>READ</Permission></Grant>"), "MalformedACLError")],
)
def test_every_other_request_has_its_error(s3: Harness, headers: dict[str, str], body: bytes, code: str) -> None:
    assert s3.ask("PUT", "/b01?acl", headers, body).code == code
