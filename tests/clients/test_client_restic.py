"""restic: backups over the MinIO SDK for Go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.clients.kit import BIG, ODD, SMALL, Tool, credentials, program
from tests.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow


BUCKET = "restic"
DATA = {"small": SMALL, "big": BIG}


@pytest.fixture(scope="module")
def restic(server: Server, s3: S3Client, home: Path) -> Tool:
    """With a repository that holds one snapshot of `data`. One for all tests: its keys take a second to derive."""
    s3.create_bucket(Bucket=BUCKET)
    (home / "data").mkdir()
    for name, content in DATA.items():
        (home / "data" / name).write_bytes(content)
    where = {"RESTIC_REPOSITORY": f"s3:{server.url}/{BUCKET}/repository", "RESTIC_PASSWORD": "x"}
    restic = Tool([program("restic")], home, **where, **credentials(server))
    restic("init")
    restic("backup", "data")
    return restic


def count(s3: S3Client) -> int:
    return len(s3.list_objects_v2(Bucket=BUCKET, Prefix="repository/")["Contents"])


def test_put_of_a_backup_that_checks_out(restic: Tool) -> None:
    restic("check", "--read-data")


def test_get_of_a_backup(restic: Tool, tmp_path: Path) -> None:
    restic("restore", "latest", "--target", tmp_path)
    assert {name: (tmp_path / "data" / name).read_bytes() for name in DATA} == DATA


def test_range_of_a_pack_for_one_file(restic: Tool) -> None:
    assert restic("dump", "latest", "data/small") == SMALL


def test_list_and_delete_of_snapshots(restic: Tool, s3: S3Client) -> None:
    restic("backup", "data/small")
    assert len(restic("list", "snapshots").split()) == 2
    before = count(s3)
    restic("forget", "--group-by", "", "--keep-last", "1", "--prune")
    assert len(restic("list", "snapshots").split()) == 1
    assert count(s3) < before


def test_delete_leaves_a_repository_that_checks_out(restic: Tool) -> None:
    restic("check")


def test_odd_keys_of_a_repository(restic: Tool, server: Server, s3: S3Client) -> None:
    # Its paths are cleaned as those of files are: without dots and empty segments.
    path = ODD["escapes"].replace("/..%2F.", "/%2F") + "é😀&=;:@$,!()~"
    elsewhere = ("-r", f"s3:{server.url}/{BUCKET}/{quote(path)}")
    restic(*elsewhere, "init")
    restic(*elsewhere, "backup", "data/small")
    assert restic(*elsewhere, "dump", "latest", "data/small") == SMALL
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{path}/")["KeyCount"] > 0
