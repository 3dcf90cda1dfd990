"""The admin surface of a real server: what is broken is seen, healed and re-encoded, and clients notice nothing of it."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from abixio.admin.client import Client, Refused
from abixio.credentials import Credentials
from tests.e2e import MIB, shards
from tests.server import ACCESS, SECRET, Server, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import MakeServer

BODY = random.Random("admin").randbytes(5 * MIB + 123)


def client_of(server: Server) -> Client:
    return Client(server.url, Credentials(ACCESS, SECRET))


def done(admin: Client, path: str, content: dict[str, Any], state: str = "done") -> dict[str, Any]:
    """Start a job, wait for its end, and see that it ended so."""
    number = admin.post(path, content)["job"]
    deadline = time.monotonic() + 60
    while (job := admin.get(f"jobs/{number}"))["ended"] is None:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    assert job["state"] == state, job
    return job


class Site:
    """A bucket with objects in it on the shared server, for a test to break."""

    def __init__(self, server: Server, s3: S3Client, bucket: str) -> None:
        self.server, self.s3, self.bucket, self.admin = server, s3, bucket, client_of(server)
        s3.put_object(Bucket=bucket, Key="large", Body=BODY)
        s3.put_object(Bucket=bucket, Key="dir/small", Body=b"small")
        s3.put_object(Bucket=bucket, Key="dir/large", Body=BODY[: 2 * MIB])

    def newest(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.admin.get("inspect", bucket=self.bucket, key=key)["versions"][0]
        return found

    def states(self, key: str) -> dict[int, str]:
        """State of the shard in each slot."""
        return {shard["slot"]: shard["state"] for shard in self.newest(key)["shards"]}

    def files(self, slot: int, *keys: str) -> list[Path]:
        ids = {shard["write_id"] for key in keys for shard in self.newest(key)["shards"] if shard["where"] == "file"}
        return [path for path in shards(self.server.volumes[slot]) if path.name in ids]

    def read(self, key: str) -> bytes:
        with self.s3.get_object(Bucket=self.bucket, Key=key)["Body"] as body:
            return body.read()

    def settle(self) -> None:
        """Wait until every volume is known to have everything: until then the journal would put back what is taken away."""
        deadline = time.monotonic() + 30
        while sum(volume["unsettled"] for volume in self.admin.get("status")["repair"]["volumes"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def done(self, path: str, **content: Any) -> dict[str, Any]:
        return done(self.admin, path, {"bucket": self.bucket, **content})


@pytest.fixture
def site(server: Server, s3: S3Client, bucket: str) -> Site:
    return Site(server, s3, bucket)


def test_whole_objects_are_whole_and_status_is_well(site: Site) -> None:
    found = site.admin.get("inspect", bucket=site.bucket, key="large")
    assert found["directories"] == {str(slot): str(path) for slot, path in enumerate(site.server.volumes)}
    (version,) = found["versions"]
    assert (version["whole"], version["readable"], version["size"], version["k"], version["m"]) == (True, True, len(BODY), 3, 1)
    assert set(version["row_states"].values()) <= {"pending", "committed"}
    assert site.states("dir/small") == dict.fromkeys(range(4), "ok")
    assert [volume["state"] for volume in site.admin.get("status")["repair"]["volumes"]] == ["up"] * 4


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_bad_shard_is_seen_in_its_volume_and_healed(site: Site, damage: str) -> None:
    site.settle()
    for path in site.files(2, "large", "dir/large"):
        if damage == "missing":
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    assert site.states("large") == {0: "ok", 1: "ok", 2: damage, 3: "ok"}
    assert (site.newest("large")["readable"], site.newest("large")["whole"]) == (True, False)
    counts = site.done("heal", key="large")["counts"]
    assert (counts["rebuilt_shards"], counts["examined_shards"], counts["failed"]) == (1, 4, 0)
    assert site.newest("large")["whole"]
    assert not site.newest("dir/large")["whole"]
    counts = site.done("heal", prefix="dir/")["counts"]
    assert (counts["objects"], counts["changed"]) == (2, 1)
    assert site.newest("dir/large")["whole"]
    assert done(site.admin, "heal", {"all": True})["counts"]["objects"] >= 3


def test_a_scan_finds_and_heals_what_nobody_read(site: Site) -> None:
    site.settle()
    (path,) = site.files(3, "large")
    path.unlink()
    job = done(site.admin, "scan", {})
    assert (job["counts"]["changed"], job["counts"]["failed"]) == (1, 0)
    assert job["scan"]["finished"] >= job["started"]
    assert site.newest("large")["whole"]
    assert site.admin.get("status")["repair"]["scan"]["repaired"] == 1


def test_what_cannot_be_healed_is_named_and_not_hidden(site: Site) -> None:
    site.settle()
    for path in site.files(1, "large", "dir/large") + site.files(2, "large", "dir/large"):
        path.unlink()
    job = site.done("heal", prefix="")
    assert (job["counts"]["objects"], job["counts"]["failed"]) == (3, 2)
    assert sorted(failure["key"] for failure in job["failures"]) == ["dir/large", "large"]
    assert not site.newest("large")["readable"]
    for key in ("large", "dir/large"):
        site.s3.delete_object(Bucket=site.bucket, Key=key)


def test_a_volume_that_is_away_is_shown_so(make_server: MakeServer) -> None:
    server = make_server(4, "--durability", "page-cache")
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="large", Body=BODY)
    server.stop()
    remove(server.volumes[3])
    server.start()
    admin = client_of(server)
    status = admin.get("status")
    assert [volume["state"] for volume in status["repair"]["volumes"]] [:3] == ["up"] * 3
    assert status["repair"]["volumes"][3]["state"] != "up"
    assert status["directories"].keys() == {"0", "1", "2"}
    (version,) = admin.get("inspect", bucket="bucket", key="large")["versions"]
    assert sorted(shard["state"] for shard in version["shards"]) == ["ok", "ok", "ok", "volume down"]
    assert (version["readable"], version["whole"]) == (True, False)
    s3.close()


@pytest.mark.parametrize("ftt", [0, 2, 3])
def test_ftt_is_another_one_afterwards_and_nothing_else_is(site: Site, ftt: int) -> None:
    before = site.s3.head_object(Bucket=site.bucket, Key="large")
    counts = site.done("ftt", prefix="", ftt=ftt)["counts"]
    assert (counts["changed"], counts["failed"]) == (3, 0)
    assert (site.newest("large")["m"], site.newest("large")["whole"]) == (ftt, True)
    after = site.s3.head_object(Bucket=site.bucket, Key="large")
    for told in (before, after):
        told.pop("ResponseMetadata")  # type: ignore[misc]
    assert after == before
    assert site.read("large") == BODY
    assert site.done("ftt", prefix="", ftt=ftt)["counts"]["changed"] == 0


def test_readers_notice_nothing_of_a_job(site: Site) -> None:
    stop, wrong = threading.Event(), []

    def reader() -> None:
        while not stop.is_set():
            try:
                if site.read("large") != BODY:
                    wrong.append("other bytes")
            except Exception as error:
                wrong.append(repr(error))

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        for ftt in (2, 1, 3, 1):
            site.done("ftt", prefix="", ftt=ftt)
            site.done("heal", prefix="")
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_a_job_does_not_keep_the_server_from_ending(make_server: MakeServer) -> None:
    server = make_server(4, "--durability", "page-cache")
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")
    for number in range(300):
        s3.put_object(Bucket="bucket", Key=f"{number}", Body=b"x" * 20_000)
    s3.close()
    client_of(server).post("ftt", {"bucket": "bucket", "prefix": "", "ftt": 2})
    started = time.monotonic()
    assert server.stop() == 0, server.stderr()
    assert time.monotonic() - started < 8
    assert "Traceback" not in server.stderr()
    server.start()
    admin = client_of(server)
    done(admin, "ftt", {"bucket": "bucket", "prefix": "", "ftt": 2})
    keys = [f"{number}" for number in range(0, 300, 37)]
    assert {admin.get("inspect", bucket="bucket", key=key)["versions"][0]["m"] for key in keys} == {2}


def test_no_bucket_has_the_name_of_the_admin_surface(site: Site) -> None:
    with pytest.raises(Refused, match="NoSuchBucket"):
        site.admin.get("inspect", bucket="_admin", key="v1/status")
