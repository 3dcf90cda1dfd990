"""OPTIONS, before there are CORS rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3_harness import Harness

ASKS = {"origin": "https://example.com", "access-control-request-method": "PUT", "access-control-request-headers": "x-amz-date"}


@pytest.fixture(scope="module")
def s3() -> Iterator[Harness]:
    harness = Harness()
    harness.ask("PUT", "/b01")
    harness.ask("PUT", "/b01/k", body=b"data")
    yield harness
    harness.close()


@pytest.mark.parametrize("target", ["/", "/b01", "/b01/k", "/none", "/none/k", "/b01/k?tagging"])
def test_no_origin_may_do_anything_and_nothing_is_told(s3: Harness, target: str) -> None:
    answer = s3.send("OPTIONS", target, ASKS)
    assert (answer.status, answer.code) == (403, "AccessForbidden")
    assert b"CORSResponse: CORS is not enabled for this bucket." in answer.body
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "https://example.com"}, {"access-control-request-method": "PUT"},
                ASKS | {"access-control-request-method": "PATCH"}],
)
def test_what_no_browser_asks_is_an_invalid_request(s3: Harness, headers: dict[str, str]) -> None:
    answer = s3.send("OPTIONS", "/b01/k", headers)
    assert (answer.status, answer.code) == (400, "BadRequest")


def test_an_answer_to_another_origin_does_not_let_it_read(s3: Harness) -> None:
    answer = s3.ask("GET", "/b01/k", {"origin": "https://example.com"})
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control-")]
