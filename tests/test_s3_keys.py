"""Derived signing keys."""

from __future__ import annotations

from abixio.s3.keys import signing_key
from tests.s3_wire import SECRET, derive


def test_the_key_is_derived_by_four_hmacs() -> None:
    assert signing_key(SECRET, "20130524", "eu-west-1") == derive(SECRET, "20130524/eu-west-1/s3/aws4_request")


def test_keys_differ_by_secret_date_and_region() -> None:
    made = {
        signing_key(secret, date, region)
        for secret in ("a", "b") for date in ("20130524", "20130525") for region in ("us-east-1", "eu-west-1")
    }
    assert len(made) == 8


def test_a_key_is_derived_once() -> None:
    first = signing_key("once", "20130524", "us-east-1")
    assert signing_key("once", "20130524", "us-east-1") is first
