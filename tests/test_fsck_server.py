"""fsck between two lives of a real server: killed, hurt in every way that its fault tolerance covers, repaired, read with
volumes removed."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from abixio.cli import main
from tests.conftest import MakeServer
from tests.server import Server
from tests.store_rig import noise
from tests.test_store_damage import flip

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.timeout(120)

MULTIPART = 9 << 20
KEYS = {"small": noise(900), "large": noise(2_000_000, 3), "dir/many": noise(MULTIPART, 17), "empty": b""}


def fill(client: S3Client) -> None:
    client.create_bucket(Bucket="photos")
    for key in KEYS:
        client.put_object(Bucket="photos", Key=key, Body=b"older")
        client.upload_fileobj(io.BytesIO(KEYS[key]), "photos", key)
    for number in range(30):
        client.put_object(Bucket="photos", Key=f"gone/{number}", Body=noise(40_000 if number % 2 else 400, number))
        client.delete_object(Bucket="photos", Key=f"gone/{number}")


def reads_all(server: Server) -> None:
    client = server.client()
    listed = [item["Key"] for item in client.list_objects_v2(Bucket="photos").get("Contents", [])]
    assert listed == sorted(KEYS)
    for key, data in KEYS.items():
        assert client.get_object(Bucket="photos", Key=key)["Body"].read() == data, key
    client.close()


def catalog_and_files(volume: Path) -> None:
    """The catalog gone, one shard file gone, another rotten."""
    for path in volume.glob(".abixio/catalog.db*"):
        path.unlink()
    first, second, *_ = sorted(volume.glob("shards/*/*"))
    first.unlink()
    flip(second, 1000)


def every_shard(volume: Path) -> None:
    """A bit of each file."""
    for path in volume.glob("shards/*/*"):
        flip(path, 5)


def identity_and_catalog(volume: Path) -> None:
    (volume / ".abixio" / "volume.json").write_text("{")
    (volume / ".abixio" / "catalog.db").write_bytes(noise(50_000))


@pytest.mark.parametrize("hurt", [catalog_and_files, every_shard, identity_and_catalog], ids=lambda hurt: hurt.__name__)
def test_a_killed_server_is_repaired_to_the_last_byte(
    make_server: MakeServer, capsys: pytest.CaptureFixture[str], hurt: Callable[[Path], None]
) -> None:
    server = make_server(4)
    fill(server.client())
    server.kill()
    volumes = ",".join(map(str, server.volumes))
    assert main(["fsck", "--volumes", volumes]) == 0, capsys.readouterr().out
    hurt(server.volumes[2])
    assert main(["fsck", "--volumes", volumes, "--repair", "--rebuild-catalog", "auto"]) == 1
    assert "after the repair all is well" in capsys.readouterr().out
    assert main(["fsck", "--volumes", volumes]) == 0, capsys.readouterr().out
    assert sum(1 for volume in server.volumes for _ in volume.glob("shards/*/*")) == 4 * 3, "a file and two parts"
    shutil.rmtree(server.volumes[0])
    server.start()
    reads_all(server)
