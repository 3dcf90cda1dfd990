"""Lifecycle configurations: what is taken and comes back as it was, what is refused and how, and what answers say of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from abixio.store.lifecycle_rules import DAY
from tests.s3_harness import Harness

EXPIRES = "<Expiration><Days>1</Days></Expiration>"
ALL = "<Filter/>"
ON = "<Status>Enabled</Status>"
HEADER = "x-amz-transition-default-minimum-object-size"


def rule(*parts: str) -> str:
    return f"<Rule>{''.join(parts)}</Rule>"


def filtered(*parts: str) -> str:
    return rule(ON, EXPIRES, f"<Filter>{''.join(parts)}</Filter>")


def tag(key: str, value: str = "v") -> str:
    return f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>"


def put(s3: Harness, *rules: str) -> Any:
    return s3.ask("PUT", "/b01?lifecycle", body=f"<LifecycleConfiguration>{''.join(rules)}</LifecycleConfiguration>".encode())


@pytest.fixture
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    yield harness
    harness.close()


# ---- what is kept ----------------------------------------------------------------------------------------------------
RULES: Any = [
    {"ID": "days", "Status": "Enabled", "Filter": {"Prefix": "a/"}, "Expiration": {"Days": 3}},
    {"ID": "date", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Date": datetime(2031, 5, 6, tzinfo=UTC)}},
    {"ID": "tag", "Status": "Enabled", "Filter": {"Tag": {"Key": "k", "Value": ""}}, "Expiration": {"Days": 2**31 - 1}},
    {"ID": "size", "Status": "Enabled", "Filter": {"ObjectSizeGreaterThan": 0}, "Expiration": {"Days": 1}},
    {"ID": "small", "Status": "Enabled", "Filter": {"ObjectSizeLessThan": 5}, "Expiration": {"Days": 1}},
    {"ID": "all", "Status": "Enabled", "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True},
     "NoncurrentVersionExpiration": {"NoncurrentDays": 4, "NewerNoncurrentVersions": 100},
     "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    {"ID": "and" + "x" * 252, "Status": "Enabled", "Expiration": {"ExpiredObjectDeleteMarker": False},
     "Filter": {"And": {"Prefix": "ü&<", "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}],
                        "ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 7}}},
]


def test_rules_come_back_as_they_were_put(s3: Harness) -> None:
    client = s3.client()
    client.put_bucket_lifecycle_configuration(Bucket="b01", LifecycleConfiguration={"Rules": RULES})
    assert client.get_bucket_lifecycle_configuration(Bucket="b01")["Rules"] == RULES


def test_the_older_form_comes_back_in_the_older_form(s3: Harness) -> None:
    client = s3.client()
    rules: Any = [{"ID": "a", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 3}},
                  {"ID": "b", "Status": "Enabled", "Prefix": "b/", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}]
    client.put_bucket_lifecycle(Bucket="b01", LifecycleConfiguration={"Rules": rules})
    assert client.get_bucket_lifecycle(Bucket="b01")["Rules"] == rules


def test_a_rule_without_an_id_gets_one_of_its_own(s3: Harness) -> None:
    assert put(s3, rule(ON, ALL, EXPIRES), rule("<ID></ID>", ON, ALL, EXPIRES)).status == 200
    first, second = s3.client().get_bucket_lifecycle_configuration(Bucket="b01")["Rules"]
    assert first["ID"] and second["ID"] and first["ID"] != second["ID"]


def test_new_rules_take_the_place_of_all_old_ones_until_they_are_deleted(s3: Harness) -> None:
    assert s3.ask("GET", "/b01?lifecycle").code == "NoSuchLifecycleConfiguration"
    assert s3.ask("DELETE", "/b01?lifecycle").status == 204
    put(s3, rule("<ID>one</ID>", ON, ALL, EXPIRES))
    put(s3, rule("<ID>two</ID>", ON, ALL, EXPIRES))
    assert [each["ID"] for each in s3.client().get_bucket_lifecycle_configuration(Bucket="b01")["Rules"]] == ["two"]
    assert s3.ask("DELETE", "/b01?lifecycle").status == 204
    answer = s3.ask("GET", "/b01?lifecycle")
    assert (answer.status, answer.code) == (404, "NoSuchLifecycleConfiguration")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_bucket_that_is_not_there_has_no_rules(s3: Harness, method: str) -> None:
    assert s3.ask(method, "/none?lifecycle", body=b"<x/>" if method == "PUT" else b"").code == "NoSuchBucket"


def test_the_least_size_for_transitions_is_kept_and_shown(s3: Harness) -> None:
    client = s3.client()
    rules: Any = {"Rules": RULES[:1]}
    answer = client.put_bucket_lifecycle_configuration(Bucket="b01", LifecycleConfiguration=rules)
    assert answer["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"
    client.put_bucket_lifecycle_configuration(
        Bucket="b01", LifecycleConfiguration=rules, TransitionDefaultMinimumObjectSize="varies_by_storage_class"
    )
    found = client.get_bucket_lifecycle_configuration(Bucket="b01")["TransitionDefaultMinimumObjectSize"]
    assert found == "varies_by_storage_class"
    body = f"<LifecycleConfiguration>{rule(ON, ALL, EXPIRES)}</LifecycleConfiguration>".encode()
    assert s3.ask("PUT", "/b01?lifecycle", {HEADER: "some"}, body).code == "InvalidArgument"


def test_a_thousand_rules_are_taken_and_one_more_is_not(s3: Harness) -> None:
    rules = [rule(f"<ID>{number}</ID>", ON, f"<Filter><Prefix>{number}/</Prefix></Filter>", EXPIRES) for number in range(1001)]
    assert put(s3, *rules[:1000]).status == 200
    assert put(s3, *rules).code == "InvalidRequest"
    assert len(s3.client().get_bucket_lifecycle_configuration(Bucket="b01")["Rules"]) == 1000


# ---- what is refused -------------------------------------------------------------------------------------------------
def move(*children: str, action: str = "Transition", to: str = "STANDARD_IA") -> str:
    return f"<{action}>{''.join(children)}{to and f'<StorageClass>{to}</StorageClass>'}</{action}>"


OLD = "NoncurrentVersionTransition"
TRANSITIONS: dict[str, tuple[list[str], str]] = {
    "to nowhere": ([move("<Days>30</Days>", to="")], "MalformedXML"),
    "to an unknown class": ([move("<Days>30</Days>", to="TAPE")], "MalformedXML"),
    "to the class of everything": ([move("<Days>30</Days>", to="STANDARD")], "MalformedXML"),
    "without a time": ([move()], "MalformedXML"),
    "with two times": ([move("<Days>30</Days><Date>2030-01-01</Date>")], "MalformedXML"),
    "too early": ([move("<Days>29</Days>")], "InvalidArgument"),
    "of old versions too early": ([move("<NoncurrentDays>29</NoncurrentDays>", action=OLD)], "InvalidArgument"),
    "before it was there": ([move("<Days>-1</Days>", to="GLACIER")], "InvalidArgument"),
    "after the end": (["<Expiration><Days>40</Days></Expiration>", move("<Days>40</Days>")], "InvalidArgument"),
    "twice": ([move("<Days>30</Days>"), move("<Days>60</Days>")], "InvalidRequest"),
    "by days and date": ([move("<Days>30</Days>"), move("<Date>2030-01-01</Date>", to="GLACIER")], "InvalidRequest"),
    "by date": ([move("<Date>2030-01-01</Date>")], "NotImplemented"),
}
BAD: dict[str, tuple[str, str]] = {
    "no rule": ("", "MalformedXML"),
    "no filter": (rule(ON, EXPIRES), "MalformedXML"),
    "no status": (rule(ALL, EXPIRES), "MalformedXML"),
    "another status": (rule("<Status>enabled</Status>", ALL, EXPIRES), "MalformedXML"),
    "two statuses": (rule(ON, ON, ALL, EXPIRES), "MalformedXML"),
    "an unknown element": (rule(ON, ALL, EXPIRES, "<Delete/>"), "MalformedXML"),
    "an unknown criterion": (filtered("<Suffix>x</Suffix>"), "MalformedXML"),
    "no action": (rule(ON, ALL), "InvalidRequest"),
    "a long id": (rule(f"<ID>{'x' * 256}</ID>", ON, ALL, EXPIRES), "InvalidArgument"),
    "one id twice": (rule("<ID>a</ID>", ON, ALL, EXPIRES) * 2, "InvalidArgument"),
    "both forms in one rule": (rule(ON, ALL, "<Prefix>a</Prefix>", EXPIRES), "InvalidRequest"),
    "both forms in two rules": (rule(ON, ALL, EXPIRES) + rule(ON, "<Prefix>a</Prefix>", EXPIRES), "InvalidRequest"),
    "a long prefix": (filtered(f"<Prefix>{'x' * 1025}</Prefix>"), "InvalidRequest"),
    "two criteria": (filtered("<Prefix>a</Prefix>", tag("k")), "MalformedXML"),
    "two tags without And": (filtered(tag("a"), tag("b")), "MalformedXML"),
    "an empty And": (filtered("<And></And>"), "MalformedXML"),
    "an And of one": (filtered("<And><Prefix>a</Prefix></And>"), "MalformedXML"),
    "a tag without a value": (filtered("<Tag><Key>a</Key></Tag>"), "MalformedXML"),
    "a tag without a key": (filtered(tag("")), "InvalidTag"),
    "a long key of a tag": (filtered(tag("k" * 129)), "InvalidTag"),
    "a long value of a tag": (filtered(tag("k", "v" * 257)), "InvalidTag"),
    "one tag twice": (filtered(f"<And>{tag('a')}{tag('a', 'w')}</And>"), "InvalidRequest"),
    "a size below 0": (filtered("<ObjectSizeGreaterThan>-1</ObjectSizeGreaterThan>"), "InvalidRequest"),
    "nothing is smaller than 0": (filtered("<ObjectSizeLessThan>0</ObjectSizeLessThan>"), "InvalidRequest"),
    "a size that is none": (filtered("<ObjectSizeLessThan>1k</ObjectSizeLessThan>"), "MalformedXML"),
    "sizes the wrong way round": (
        filtered("<And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>5</ObjectSizeLessThan></And>"),
        "InvalidRequest",
    ),
    "no days": (rule(ON, ALL, "<Expiration></Expiration>"), "MalformedXML"),
    "0 days": (rule(ON, ALL, "<Expiration><Days>0</Days></Expiration>"), "InvalidArgument"),
    "negative days": (rule(ON, ALL, "<Expiration><Days>-1</Days></Expiration>"), "InvalidArgument"),
    "days that are no number": (rule(ON, ALL, "<Expiration><Days>1.5</Days></Expiration>"), "MalformedXML"),
    "empty days": (rule(ON, ALL, "<Expiration><Days></Days></Expiration>"), "MalformedXML"),
    "huge days": (rule(ON, ALL, "<Expiration><Days>2147483648</Days></Expiration>"), "MalformedXML"),
    "enormous days": (rule(ON, ALL, f"<Expiration><Days>{'9' * 40}</Days></Expiration>"), "MalformedXML"),
    "days and a date": (
        rule(ON, ALL, "<Expiration><Days>1</Days><Date>2031-01-01T00:00:00Z</Date></Expiration>"), "MalformedXML"
    ),
    "days and markers": (
        rule(ON, ALL, "<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"),
        "MalformedXML",
    ),
    "a date that is none": (rule(ON, ALL, "<Expiration><Date>20310101</Date></Expiration>"), "MalformedXML"),
    "a day that is not there": (rule(ON, ALL, "<Expiration><Date>2031-02-30T00:00:00Z</Date></Expiration>"), "MalformedXML"),
    "a date at noon": (rule(ON, ALL, "<Expiration><Date>2031-01-01T12:00:00Z</Date></Expiration>"), "InvalidArgument"),
    "midnight elsewhere": (rule(ON, ALL, "<Expiration><Date>2031-01-01T00:00:00+01:00</Date></Expiration>"), "InvalidArgument"),
    "markers, perhaps": (
        rule(ON, ALL, "<Expiration><ExpiredObjectDeleteMarker>maybe</ExpiredObjectDeleteMarker></Expiration>"), "MalformedXML"
    ),
    "markers with tags": (
        rule(ON, f"<Filter>{tag('a')}</Filter>",
             "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"), "InvalidRequest",
    ),
    "0 noncurrent days": (
        rule(ON, ALL, "<NoncurrentVersionExpiration><NoncurrentDays>0</NoncurrentDays></NoncurrentVersionExpiration>"),
        "InvalidArgument",
    ),
    "newer versions without days": (
        rule(ON, ALL, "<NoncurrentVersionExpiration><NewerNoncurrentVersions>3</NewerNoncurrentVersions>"
             "</NoncurrentVersionExpiration>"), "MalformedXML",
    ),
    **{f"{many} newer versions": (
        rule(ON, ALL, "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>"
             f"{many}</NewerNoncurrentVersions></NoncurrentVersionExpiration>"), "InvalidArgument",
    ) for many in (0, -1, 101)},
    "newer versions without a filter": (
        rule(ON, "<Prefix></Prefix>", "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
             "<NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>"), "InvalidRequest",
    ),
    "uploads of 0 days": (
        rule(ON, ALL, "<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation>"
             "</AbortIncompleteMultipartUpload>"), "InvalidArgument",
    ),
    **{f"uploads by {what}": (
        rule(ON, f"<Filter>{criterion}</Filter>", "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation>"
             "</AbortIncompleteMultipartUpload>"), "InvalidRequest",
    ) for what, criterion in {"tag": tag("a"), "size": "<ObjectSizeLessThan>5</ObjectSizeLessThan>"}.items()},
    "a transition": (
        rule(ON, ALL, "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"), "NotImplemented"
    ),
    "a noncurrent transition besides": (
        rule(ON, ALL, EXPIRES, "<NoncurrentVersionTransition><NoncurrentDays>1</NoncurrentDays>"
             "<StorageClass>GLACIER</StorageClass></NoncurrentVersionTransition>"), "NotImplemented",
    ),
    **{f"a transition {what}": (rule(ON, ALL, *actions), code) for what, (actions, code) in TRANSITIONS.items()},
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_changes_nothing(s3: Harness, name: str) -> None:
    put(s3, rule("<ID>good</ID>", ON, ALL, EXPIRES))
    body, code = BAD[name]
    assert put(s3, body).code == code
    assert [each["ID"] for each in s3.client().get_bucket_lifecycle_configuration(Bucket="b01")["Rules"]] == ["good"]


def test_another_document_and_none_at_all_are_refused(s3: Harness) -> None:
    assert s3.ask("PUT", "/b01?lifecycle", body=b"<Lifecycle/>").code == "MalformedXML"
    assert s3.ask("PUT", "/b01?lifecycle", body=b"<LifecycleConfiguration>").code == "MalformedXML"
    assert s3.ask("PUT", "/b01?lifecycle").code == "MissingRequestBodyError"


# ---- what answers say ------------------------------------------------------------------------------------------------
def expiration(answer: Any) -> tuple[datetime, str] | None:
    text = answer.get("Expiration")
    if text is None:
        return None
    when, _, who = text.removeprefix('expiry-date="').partition('", rule-id="')
    return parsedate_to_datetime(when), who.removesuffix('"')


def test_an_object_says_on_every_way_when_the_first_rule_takes_it(s3: Harness) -> None:
    client = s3.client()
    s3.store.now = 20_000 * DAY + 1000
    assert "Expiration" not in client.put_object(Bucket="b01", Key="a/none")
    rules: Any = [
        {"ID": "late", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 9}},
        {"ID": "the first & soonest", "Status": "Enabled", "Filter": {"Prefix": "a/"}, "Expiration": {"Days": 2}},
        {"ID": "off", "Status": "Disabled", "Filter": {}, "Expiration": {"Days": 1}},
        {"ID": "other", "Status": "Enabled", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}},
    ]
    client.put_bucket_lifecycle_configuration(Bucket="b01", LifecycleConfiguration={"Rules": rules})
    soon = datetime.fromtimestamp(20_003 * 86_400, UTC), quote("the first & soonest").replace("%20", "+")
    assert expiration(client.put_object(Bucket="b01", Key="a/k", Body=b"data")) == soon
    assert expiration(client.head_object(Bucket="b01", Key="a/k")) == soon
    assert expiration(client.get_object(Bucket="b01", Key="a/k")) == soon
    assert expiration(client.get_object(Bucket="b01", Key="a/k", Range="bytes=1-2")) == soon
    assert expiration(client.copy_object(Bucket="b01", Key="a/c", CopySource="b01/a/k")) == soon
    late = datetime.fromtimestamp(20_010 * 86_400, UTC), "late"
    assert expiration(client.put_object(Bucket="b01", Key="b")) == late
    upload = client.create_multipart_upload(Bucket="b01", Key="a/m")
    assert "AbortDate" not in upload
    sent = client.upload_part(Bucket="b01", Key="a/m", UploadId=upload["UploadId"], PartNumber=1, Body=b"x")
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
    done = client.complete_multipart_upload(Bucket="b01", Key="a/m", UploadId=upload["UploadId"], MultipartUpload=parts)
    assert expiration(done) == soon
    with pytest.raises(ClientError, match="304"):
        client.get_object(Bucket="b01", Key="a/k", IfNoneMatch="*")
    assert expiration(client.head_object(Bucket="b01", Key="a/k", VersionId="null")) is None
    client.delete_bucket_lifecycle(Bucket="b01")
    assert expiration(client.head_object(Bucket="b01", Key="a/k")) is None


def test_only_objects_that_fit_say_when_they_go(s3: Harness) -> None:
    client = s3.client()
    rules: Any = [{"ID": "r", "Status": "Enabled", "Expiration": {"Date": datetime(2031, 5, 6, tzinfo=UTC)},
                   "Filter": {"And": {"Prefix": "a", "Tags": [{"Key": "k", "Value": "v"}], "ObjectSizeGreaterThan": 3}}}]
    client.put_bucket_lifecycle_configuration(Bucket="b01", LifecycleConfiguration={"Rules": rules})
    good: Any = {"Key": "a", "Tagging": "k=v&x=y", "Body": b"1234"}
    assert expiration(client.put_object(Bucket="b01", **good)) == (datetime(2031, 5, 6, tzinfo=UTC), "r")
    for other in ({"Key": "b"}, {"Tagging": "k=w"}, {"Body": b"123"}):
        assert expiration(client.put_object(Bucket="b01", **(good | other))) is None


def test_an_upload_says_when_it_will_be_aborted(s3: Harness) -> None:
    client = s3.client()
    s3.store.now = 20_000 * DAY + 1000
    rules: Any = [{"ID": "up", "Status": "Enabled", "Filter": {"Prefix": "a"},
                   "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}]
    client.put_bucket_lifecycle_configuration(Bucket="b01", LifecycleConfiguration={"Rules": rules})
    upload = client.create_multipart_upload(Bucket="b01", Key="a")
    listed = client.list_parts(Bucket="b01", Key="a", UploadId=upload["UploadId"])
    for answer in (upload, listed):
        assert (answer["AbortDate"], answer["AbortRuleId"]) == (datetime.fromtimestamp(20_002 * 86_400, UTC), "up")
    assert "AbortDate" not in client.create_multipart_upload(Bucket="b01", Key="b")
    assert expiration(client.put_object(Bucket="b01", Key="a")) is None
