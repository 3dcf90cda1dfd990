"""Operations on buckets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from abixio.s3.call import root_owner
from tests.s3_harness import Harness
from tests.s3_wire import ACCESS


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.close()


@pytest.fixture
def eu() -> Iterator[Harness]:
    harness = Harness(region="eu-west-1")
    yield harness
    harness.close()


def configuration(region: str) -> bytes:
    return f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>".encode()


def test_buckets_are_listed_by_name_with_their_owner(s3: Harness) -> None:
    client = s3.client()
    for name in ("zoo", "abc", "mid-dle"):
        client.create_bucket(Bucket=name)
    found = client.list_buckets()
    assert [bucket["Name"] for bucket in found["Buckets"]] == ["abc", "mid-dle", "zoo"]
    assert found["Owner"]["ID"] == root_owner(ACCESS).id
    assert len(found["Owner"]["ID"]) == 64
    assert ACCESS not in str(found)


def test_buckets_come_in_pages_by_prefix_and_region(s3: Harness) -> None:
    client = s3.client()
    for number in range(5):
        client.create_bucket(Bucket=f"page-{number}")
    client.create_bucket(Bucket="other")
    first = client.list_buckets(MaxBuckets=3, Prefix="page-")
    assert [bucket["Name"] for bucket in first["Buckets"]] == ["page-0", "page-1", "page-2"]
    second = client.list_buckets(MaxBuckets=3, Prefix="page-", ContinuationToken=first["ContinuationToken"])
    assert [bucket["Name"] for bucket in second["Buckets"]] == ["page-3", "page-4"]
    assert "ContinuationToken" not in second
    assert client.list_buckets(BucketRegion="eu-west-1")["Buckets"] == []
    assert s3.ask("GET", "/?max-buckets=0").code == "InvalidArgument"
    assert s3.ask("GET", "/?max-buckets=10001").code == "InvalidArgument"
    assert s3.ask("GET", "/?continuation-token=x").code == "InvalidArgument"


def test_create_head_delete(s3: Harness) -> None:
    assert s3.ask("HEAD", "/abc").status == 404
    created = s3.ask("PUT", "/abc")
    assert (created.status, created.headers["location"]) == (200, "/abc")
    head = s3.ask("HEAD", "/abc/")
    assert (head.status, head.body, head.headers["x-amz-bucket-region"]) == (200, b"", "us-east-1")
    assert s3.ask("DELETE", "/abc").status == 204
    assert s3.ask("DELETE", "/abc").code == "NoSuchBucket"


def test_a_missing_bucket_is_named_in_the_error(s3: Harness) -> None:
    answer = s3.ask("GET", "/not-there/key")
    assert answer.code == "NoSuchBucket"
    assert b"<BucketName>not-there</BucketName>" in answer.body


@pytest.mark.parametrize(
    "name", ["ab", "Upper", "under_score", "-dash", "dash-", "a..b", "a.-b", "a-.b", "127.0.0.1", "x" * 64, "xn--abc"]
)
def test_names_that_s3_would_not_create(s3: Harness, name: str) -> None:
    assert s3.ask("PUT", f"/{name}").code == "InvalidBucketName"


def test_a_bucket_with_objects_is_not_deleted_but_open_uploads_do_not_count(s3: Harness) -> None:
    client = s3.client()
    client.create_bucket(Bucket="abc")
    client.put_object(Bucket="abc", Key="k", Body=b"")
    answer = s3.ask("DELETE", "/abc")
    assert (answer.status, answer.code) == (409, "BucketNotEmpty")
    client.delete_object(Bucket="abc", Key="k")
    client.create_multipart_upload(Bucket="abc", Key="k")
    client.delete_bucket(Bucket="abc")
    assert client.list_buckets()["Buckets"] == []


def test_creating_ones_own_bucket_again_succeeds_in_the_first_region_only(s3: Harness, eu: Harness) -> None:
    for harness in (s3, eu):
        assert harness.ask("PUT", "/abc").status == 200
    assert s3.ask("PUT", "/abc").status == 200
    answer = eu.ask("PUT", "/abc")
    assert (answer.status, answer.code) == (409, "BucketAlreadyOwnedByYou")
    assert b"<BucketName>abc</BucketName>" in answer.body


def test_somebody_elses_bucket_cannot_be_created_again(s3: Harness) -> None:
    s3.ask("PUT", "/abc")
    contents = s3.store.contents["abc"]
    contents.bucket = dataclasses.replace(contents.bucket, owner="f" * 64)
    assert s3.ask("PUT", "/abc").code == "BucketAlreadyExists"


def test_location(s3: Harness, eu: Harness) -> None:
    eu.client().create_bucket(Bucket="abc", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert eu.client().get_bucket_location(Bucket="abc")["LocationConstraint"] == "eu-west-1"
    assert eu.client().head_bucket(Bucket="abc")["BucketRegion"] == "eu-west-1"
    s3.client().create_bucket(Bucket="abc")
    assert s3.client().get_bucket_location(Bucket="abc")["LocationConstraint"] is None


def located(signed: str, asked: str, **settings: Any) -> tuple[str, str]:
    """Error code and, where there is none, location of a bucket that a client of that region creates with that constraint."""
    harness = Harness(**settings)
    try:
        made = harness.ask("PUT", "/abc", body=configuration(asked) if asked else b"", region=signed)
        if made.status != 200:
            return made.code, ""
        place = harness.ask("HEAD", "/abc", region=signed).headers["x-amz-bucket-region"]
        shown = b"" if place == "us-east-1" else place.encode()
        assert b'/">%s</LocationConstraint>' % shown in harness.ask("GET", "/abc?location", region=signed).body
        return "", place
    finally:
        harness.close()


@pytest.mark.parametrize(
    ("signed", "asked", "expected"),
    [
        ("us-east-1", "", ("", "us-east-1")), ("us-east-1", "us-east-1", ("", "us-east-1")),
        ("us-east-1", "EU", ("", "eu-west-1")),
        ("us-east-1", "eu-west-1", ("", "eu-west-1")), ("eu-west-1", "eu-west-1", ("", "eu-west-1")),
        ("eu-west-1", "", ("", "us-east-1")), ("garage", "garage", ("", "garage")),
        ("eu-west-1", "us-west-2", ("IllegalLocationConstraintException", "")),
        ("us-east-1", "mars", ("InvalidLocationConstraint", "")), ("eu-west-1", "mars-1", ("InvalidLocationConstraint", "")),
    ],
)
def test_a_bucket_is_where_its_creator_wants_it(signed: str, asked: str, expected: tuple[str, str]) -> None:
    assert located(signed, asked) == expected


@pytest.mark.parametrize(
    ("signed", "asked", "expected"),
    [
        ("eu-west-1", "eu-west-1", ("", "eu-west-1")), ("eu-west-1", "", ("IllegalLocationConstraintException", "")),
        ("eu-west-1", "us-west-2", ("IllegalLocationConstraintException", "")),
        ("us-east-1", "eu-west-1", ("AuthorizationHeaderMalformed", "")),
    ],
)
def test_a_strict_region_is_the_only_one(signed: str, asked: str, expected: tuple[str, str]) -> None:
    assert located(signed, asked, region="eu-west-1", strict_region=True) == expected


def test_an_empty_configuration_asks_for_nothing(s3: Harness) -> None:
    assert s3.ask("PUT", "/abc", body=b"<CreateBucketConfiguration/>").status == 200


@pytest.mark.parametrize(
    "body", [b"nonsense", b"<Other/>", b"<CreateBucketConfiguration>", b"<!DOCTYPE a><CreateBucketConfiguration/>"]
)
def test_a_configuration_that_cannot_be_read(s3: Harness, body: bytes) -> None:
    assert s3.ask("PUT", "/abc", body=body).code == "MalformedXML"


def test_a_configuration_that_is_too_large_is_not_read(s3: Harness) -> None:
    answer = s3.ask("PUT", "/abc", body=b" " * 70_000)
    assert answer.code == "MaxMessageLengthExceeded"
    assert s3.unread == 70_000


@pytest.mark.parametrize(
    ("headers", "code"),
    [({"x-amz-acl": "public-read"}, "InvalidBucketAclWithObjectOwnership"), ({"x-amz-acl": "nonsense"}, "InvalidArgument"),
     ({"x-amz-grant-read": "id=x"}, "InvalidBucketAclWithObjectOwnership")],
)
def test_a_bucket_cannot_be_for_others(s3: Harness, headers: dict[str, str], code: str) -> None:
    assert s3.ask("PUT", "/abc", headers).code == code
    assert s3.ask("HEAD", "/abc").status == 404


TAGS = [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": ""}]


def test_a_bucket_can_be_created_with_tags(s3: Harness) -> None:
    client = s3.client()
    client.create_bucket(Bucket="abc", CreateBucketConfiguration={"Tags": TAGS})
    assert client.get_bucket_tagging(Bucket="abc")["TagSet"] == TAGS
    client.put_bucket_tagging(Bucket="abc", Tagging={"TagSet": TAGS[:1]})
    assert client.get_bucket_tagging(Bucket="abc")["TagSet"] == TAGS[:1]
    client.delete_bucket_tagging(Bucket="abc")
    assert s3.ask("GET", "/abc?tagging").code == "NoSuchTagSet"
    assert s3.store.contents["abc"].bucket.settings == {"region": "us-east-1"}


@pytest.mark.parametrize("tags", ["<Tag><Key>a</Key></Tag>", "<Tag><Key>aws:a</Key><Value/></Tag>", "<Other/>"])
def test_a_bucket_is_not_created_with_wrong_tags(s3: Harness, tags: str) -> None:
    body = f"<CreateBucketConfiguration><Tags>{tags}</Tags></CreateBucketConfiguration>"
    assert s3.ask("PUT", "/abc", body=body.encode()).code in ("MalformedXML", "InvalidTag")
    assert s3.ask("HEAD", "/abc").status == 404


def test_a_bucket_can_be_created_with_its_own_fault_tolerance(s3: Harness) -> None:
    assert s3.ask("PUT", "/abc", {"x-amz-meta-ec-ftt": "3"}).status == 200
    assert s3.store.contents["abc"].bucket.settings == {"region": "us-east-1", "ftt": "3"}
    for value in ("4", "-1", "x", "", "1.0", "00000000001"):
        assert s3.ask("PUT", "/abd", {"x-amz-meta-ec-ftt": value}).code == "InvalidArgument"


def test_the_expected_owner_is_checked(s3: Harness) -> None:
    client = s3.client()
    client.create_bucket(Bucket="abc")
    client.head_bucket(Bucket="abc", ExpectedBucketOwner=root_owner(ACCESS).id)
    with pytest.raises(ClientError) as caught:
        client.get_bucket_location(Bucket="abc", ExpectedBucketOwner="111122223333")
    assert caught.value.response["Error"]["Code"] == "AccessDenied"
    with pytest.raises(ClientError):
        client.delete_bucket(Bucket="abc", ExpectedBucketOwner="111122223333")
    client.head_bucket(Bucket="abc")


def test_every_answer_about_a_bucket_has_its_arn(s3: Harness) -> None:
    client: Any = s3.client()
    arns = [client.create_bucket(Bucket="named")["BucketArn"], client.head_bucket(Bucket="named")["BucketArn"]]
    arns += [each["BucketArn"] for each in client.list_buckets(Prefix="named")["Buckets"]]
    assert arns == ["arn:aws:s3:::named"] * 3


def test_a_location_that_is_named_and_empty_is_none(s3: Harness) -> None:
    body = b"<CreateBucketConfiguration><LocationConstraint/></CreateBucketConfiguration>"
    assert s3.ask("PUT", "/nowhere", body=body).code == "InvalidLocationConstraint"
    assert s3.ask("PUT", "/nowhere", body=b"<CreateBucketConfiguration/>").status == 200


def test_there_is_one_namespace(s3: Harness) -> None:
    assert s3.ask("PUT", "/spaced", {"x-amz-bucket-namespace": "account-regional"}).code == "NotImplemented"
    assert s3.ask("PUT", "/spaced", {"x-amz-bucket-namespace": "global"}).status == 200
