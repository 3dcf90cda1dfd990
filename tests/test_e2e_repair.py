"""Disks that are replaced under a real server: it refills them by itself, over restarts and kills, and then others may go."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Callable

import pytest

from tests.conftest import MakeServer
from tests.e2e import MIB, read, shards
from tests.server import Server, empty, remove

PATIENCE = 60.0


def until(condition: Callable[[], bool], server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, server.stderr()[-4000:]
        time.sleep(0.05)


def whole_again(server: Server, slot: int) -> int:
    """How often the log says so."""
    return len(re.findall(rf"volume {slot} is whole again", server.stderr()))


def bodies(prefix: str, count: int) -> dict[str, bytes]:
    noise = random.Random(prefix)
    return {f"{prefix}{n:03}": noise.randbytes((100, 20_000, 70_000, MIB, 5 * MIB + 3)[n % 5]) for n in range(count)}


def store(server: Server, objects: dict[str, bytes]) -> None:
    s3 = server.client()
    for key, body in objects.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body)
    s3.close()


def check(server: Server, objects: dict[str, bytes]) -> None:
    s3 = server.client()
    for key, body in objects.items():
        assert read(s3, key) == body, key
    listed = [item["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket="bucket") for item in page["Contents"]]
    assert listed == sorted(objects)
    s3.close()


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """With a bucket; slot and number of a directory are the same."""
    server = make_server(4)
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")
    s3.close()
    return server


def test_a_lost_disk_is_replaced_and_refilled_and_then_another_may_go(server: Server) -> None:
    objects = bodies("before", 25)
    store(server, objects)
    assert server.stop() == 0
    shutil.rmtree(server.volumes[1])
    server.start()
    objects |= bodies("degraded", 10)
    store(server, bodies("degraded", 10))
    s3 = server.client()
    for key in ("before000", "before003", "degraded001"):
        s3.delete_object(Bucket="bucket", Key=key)
        del objects[key]
    s3.put_object(Bucket="bucket", Key="before004", Body=b"overwritten")
    objects["before004"] = b"overwritten"
    s3.close()
    assert server.stop() == 0
    server.volumes[1].mkdir()
    server.start()
    until(lambda: whole_again(server, 1) == 1, server)
    check(server, objects)
    assert server.stop() == 0
    for lost in (0, 2, 3):
        aside = remove(server.volumes[lost])
        server.start()
        check(server, objects)
        assert server.stop() == 0
        aside.rename(server.volumes[lost])
    server.start()
    assert whole_again(server, 1) == 1


def test_a_refill_that_is_killed_again_and_again_comes_to_its_end(server: Server) -> None:
    objects = bodies("object", 60)
    store(server, objects)
    assert server.stop() == 0
    empty(server.volumes[2])
    noise, kills = random.Random(4), 0
    server.start()
    while kills < 3:
        time.sleep(noise.uniform(0.1, 0.6))
        server.kill()
        kills += 1
        server.start()
    until(lambda: whole_again(server, 2) >= 1, server)
    check(server, objects)
    counts = [len(shards(volume)) for volume in server.volumes]
    until(lambda: len({len(shards(volume)) for volume in server.volumes}) == 1, server)
    assert len(shards(server.volumes[0])) == counts[0]
    assert server.stop() == 0
    remove(server.volumes[0])
    server.start()
    check(server, objects)


def test_what_a_kill_in_the_middle_of_uploads_leaves_is_gone_soon_after_the_start(server: Server) -> None:
    objects = bodies("kept", 5)
    store(server, objects)
    until(lambda: len({len(shards(volume)) for volume in server.volumes}) == 1, server)
    kept = [len(shards(volume)) for volume in server.volumes]
    server.kill()
    stray = shards(server.volumes[3])[0]
    name = stray.name[:12] + "0" * 18 + stray.name[-2:]
    shutil.copy(stray, stray.with_name(name))
    server.start()
    until(lambda: [len(shards(volume)) for volume in server.volumes] == kept, server)
    check(server, objects)
