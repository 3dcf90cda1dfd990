"""Heal, ftt and scan jobs over many keys: each is met once, what fails is named, and the rest goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from abixio.admin import work
from abixio.errors import DataLost, NoSuchKey, Unavailable
from abixio.store.health import Healed
from tests.admin_kit import AdminHarness, RepairableFake, told
from tests.s3_harness import Answer

MANY = [f"many/{number:05}" for number in range(work.PAGE * 2 + 500)]


@pytest.fixture
def admin() -> Iterator[AdminHarness]:
    harness = AdminHarness(RepairableFake())
    harness.run(harness.store.add("photos", "a", "a/b", "a/c", "b"))
    harness.run(harness.store.add("other", "a", "z"))
    yield harness
    harness.close()


@pytest.mark.parametrize(
    ("ask", "keys"),
    [
        ({"bucket": "photos", "key": "a"}, ["photos/a"]),
        ({"bucket": "photos", "prefix": "a"}, ["photos/a", "photos/a/b", "photos/a/c"]),
        ({"bucket": "photos", "prefix": "a/"}, ["photos/a/b", "photos/a/c"]),
        ({"bucket": "photos", "prefix": ""}, ["photos/a", "photos/a/b", "photos/a/c", "photos/b"]),
        ({"bucket": "photos", "prefix": "nothing"}, []),
        ({"all": True}, ["other/a", "other/z", "photos/a", "photos/a/b", "photos/a/c", "photos/b"]),
    ],
)
def test_heal_meets_the_keys_that_are_meant_once_each(admin: AdminHarness, ask: dict[str, object], keys: list[str]) -> None:
    job = admin.job("heal", ask)
    assert (job["kind"], job["target"], job["state"], job["counts"]["objects"]) == ("heal", ask, "done", len(keys))
    assert sorted(admin.store.healed.elements()) == keys


def test_pages_follow_one_another(admin: AdminHarness) -> None:
    admin.run(admin.store.add("photos", *MANY))
    job = admin.job("heal", {"bucket": "photos", "prefix": "many/"})
    assert job["counts"]["objects"] == len(MANY)
    assert admin.store.healed == dict.fromkeys([f"photos/{key}" for key in MANY], 1)
    assert admin.store.most_at_once == work.AT_ONCE


def test_what_healing_did_is_added_up(admin: AdminHarness) -> None:
    admin.store.trouble = {"a/b": Healed(8, 2, 300), "a/c": Healed(4, 0, 0, rows=1), "b": Healed(4, 1, 50, 0, ("part 2: gone",))}
    job = admin.job("heal", {"bucket": "photos", "prefix": ""})
    assert job["counts"] == {
        "objects": 4, "changed": 3, "examined_shards": 20, "rebuilt_shards": 3, "bytes": 350, "failed": 1,
    }
    assert job["failures"] == [{"bucket": "photos", "key": "b", "error": "part 2: gone"}]


@pytest.mark.parametrize("error", [DataLost("2 of 3 shards"), Unavailable("too few"), RuntimeError("a defect")])
def test_a_key_that_fails_is_named_and_the_rest_goes_on(
    admin: AdminHarness, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    admin.store.trouble = {"a/b": error}
    for kind, more in (("heal", {}), ("ftt", {"ftt": 2})):
        job = admin.job(kind, {"bucket": "photos", "prefix": "", **more})
        assert (job["state"], job["counts"]["objects"], job["counts"]["failed"]) == ("done", 4, 1)
        assert [failure["key"] for failure in job["failures"]] == ["a/b"]
        assert "defect" not in json.dumps(job)
    assert ("Traceback" in caplog.text) is isinstance(error, RuntimeError)


def test_a_key_that_was_deleted_meanwhile_is_no_failure_but_one_that_was_named_is(admin: AdminHarness) -> None:
    admin.store.trouble = {"b": NoSuchKey("b")}
    assert admin.job("heal", {"bucket": "photos", "prefix": ""})["counts"]["failed"] == 0
    admin.run(admin.store.add("photos", "b"))
    assert admin.job("heal", {"bucket": "photos", "key": "b"})["counts"]["failed"] == 1


def test_a_bucket_that_goes_meanwhile_ends_the_job(admin: AdminHarness) -> None:
    admin.run(admin.store.add("photos", *MANY))
    admin.store.gate.clear()
    number = told(start(admin, "heal", {"bucket": "photos", "prefix": ""}))["job"]
    admin.run(asyncio.sleep(0.01))
    del admin.store.contents["photos"]
    admin.store.gate.set()
    admin.run(asyncio.sleep(0.2))
    assert admin.jobs.get(number).state == "done"


def test_a_stopped_job_touches_no_further_key(admin: AdminHarness) -> None:
    admin.store.gate.clear()
    admin.run(admin.store.add("other", *MANY))
    number = told(start(admin, "heal", {"all": True}))["job"]
    admin.run(asyncio.sleep(0.01))
    before = admin.store.listed
    admin.ask("DELETE", f"/_admin/v1/jobs/{number}")
    admin.store.gate.set()
    admin.run(asyncio.sleep(0.05))
    assert admin.jobs.get(number).state == "cancelled"
    assert sum(admin.store.healed.values()) <= work.AT_ONCE
    assert admin.store.listed == before


@pytest.mark.parametrize("ftt", [2, "2"])
def test_ftt_reencodes_what_has_another_one(admin: AdminHarness, ftt: object) -> None:
    job = admin.job("ftt", {"bucket": "photos", "prefix": "a/", "ftt": ftt})
    assert (job["target"], job["counts"]["changed"]) == ({"bucket": "photos", "prefix": "a/", "ftt": 2}, 2)
    assert admin.store.reencoded == {"photos/a/b": "2", "photos/a/c": "2"}


def test_ftt_of_a_key_that_is_not_there_fails(admin: AdminHarness) -> None:
    job = admin.job("ftt", {"bucket": "photos", "key": "nothing", "ftt": 1})
    assert [failure["error"].split(":")[0] for failure in job["failures"]] == ["NoSuchKey"]


def test_scan_is_one_pass_and_what_it_left_is_a_failure(admin: AdminHarness) -> None:
    job = admin.job("scan", {})
    assert (job["state"], job["counts"]["objects"], job["counts"]["changed"], job["counts"]["failed"]) == ("done", 6, 2, 1)
    assert (job["scan"]["bytes"], job["scan"]["orphans"], admin.store.scans) == (1000, 1, 1)


def test_a_scan_tells_how_far_it_is_and_is_ended_by_cancel(admin: AdminHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "LOOK", 0.01)
    admin.store.gate.clear()
    number = told(start(admin, "scan", {}))["job"]
    admin.run(asyncio.sleep(0.05))
    job = told(admin.ask("GET", f"/_admin/v1/jobs/{number}"))
    assert (job["state"], job["counts"]["objects"], job["scan"]["running"]) == ("running", 5, True)
    admin.ask("DELETE", f"/_admin/v1/jobs/{number}")
    admin.run(asyncio.sleep(0.05))
    assert admin.jobs.get(number).state == "cancelled"


def start(admin: AdminHarness, path: str, content: object) -> Answer:
    return admin.ask("POST", f"/_admin/v1/{path}", body=json.dumps(content).encode())
