"""`abixio fsck` as people and scripts call it: exit status, what is printed where, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from abixio.cli import main
from abixio.volume.local import LocalVolume
from tests.fsck_damage import OF_IDENTITIES, Damage, bit_of_the_data, head_deleted, is_found, large
from tests.fsck_pool import FEW, Pool, filled, name, reads_all
from tests.store_rig import noise
from tests.test_store_damage import flip

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def four_volumes(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return asyncio.run(filled(tmp_path_factory.mktemp("pool"), 4, content=FEW))


@pytest.fixture
def four(four_volumes: Pool, tmp_path: Path) -> Pool:
    return four_volumes.copy(tmp_path / "pool")


def fsck(pool: Pool, *flags: str) -> int:
    return main(["fsck", "--volumes", f"{pool.root}/v{{0...{pool.n - 1}}}", *flags])


def lose_catalog(pool: Pool, *slots: int) -> None:
    for slot in slots:
        for path in pool.path(slot).glob(".abixio/catalog.db*"):
            path.unlink()


def test_a_sound_pool_ends_with_0_and_says_how_much_was_read(four: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    assert fsck(four) == 0
    assert capsys.readouterr().out == "sound: 5 objects, 20 shards, 3.1 MiB read\n"


def test_damage_ends_with_1_also_when_it_was_repaired_and_with_0_after_that(
    four: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    bit_of_the_data(four)
    before = four.print()
    assert fsck(four) == 1
    assert "damage: slot 1: s3://photos/large: shard" in capsys.readouterr().out
    assert four.print() == before
    assert fsck(four, "--repair") == 1
    assert "after the repair all is well\nsound: 5 objects" in capsys.readouterr().out
    assert fsck(four) == 0
    asyncio.run(reads_all(four, without={0}))


def test_loss_is_named_and_left_as_it_is(four: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    for slot in (1, 2):
        flip(large(four, slot), 10)
    assert fsck(four, "--repair") == 1
    out = capsys.readouterr().out
    assert "lost: s3://photos/large: 2 of the 3 shards that it needs are sound" in out
    assert "not repaired: " in out and "after the repair this is left:" in out


def test_json_is_one_object_on_standard_output(four: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    head_deleted(four)
    assert fsck(four, "--repair", "--json") == 1
    content = json.loads(capsys.readouterr().out)
    assert content["clean"] is False
    assert content["found"]["counts"] == {"lost": 0, "damage": 1, "notice": 0}
    (finding,) = content["found"]["findings"]
    assert (finding["level"], finding["kind"], finding["slot"]) == ("damage", "head", 1)
    assert content["after"]["clean"] is True and content["failed"] == []


def test_a_pool_in_use_is_refused_with_2(four: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    volume = LocalVolume.open(four.paths[3])
    try:
        for flags in ([], ["--repair"], ["--rebuild-catalog", "auto"]):
            assert fsck(four, *flags) == 2
            assert "v3: another server uses this volume; stop it first" in capsys.readouterr().err
    finally:
        volume.close()


@pytest.mark.parametrize(("flags", "why"), [
    (["--rebuild-catalog", "two"], "'two' is neither `auto` nor a list of slots"),
    (["--rebuild-catalog", "1"], "slot 1: its catalog is sound, there is nothing to rebuild"),
    (["--rebuild-catalog", "7"], "slot 7: its volume is not here"),
    (["--without-peers"], "--without-peers goes with --rebuild-catalog"),
    (["--volumes", "/nowhere/at/all"], "/nowhere/at/all: is one too many, the pool has 4 volumes"),
])
def test_what_makes_no_sense_is_refused_with_2_and_nothing_is_touched(
    four: Pool, capsys: pytest.CaptureFixture[str], flags: list[str], why: str
) -> None:
    before = four.print()
    assert fsck(four, *flags) == 2
    assert why in capsys.readouterr().err
    assert four.print() == before


def test_lost_catalogs_are_rebuilt_by_auto_and_filled_by_repair(four: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    four.catalog(2).write_bytes(noise(10_000))
    assert fsck(four, "--rebuild-catalog", "auto", "--repair") == 1
    out = capsys.readouterr().out
    assert "the catalog of slot 2 is rebuilt: 6 versions from peers, 0 from what the old one still showed, 0 from" in out
    assert "the old catalog is kept in" in out and "after the repair all is well" in out
    assert fsck(four) == 0
    asyncio.run(reads_all(four, without={1}))


def test_what_cannot_be_known_is_printed(four: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    lose_catalog(four, 0, 1, 2, 3)
    assert fsck(four, "--rebuild-catalog", "auto") == 2
    assert "0 other catalogs are sound, 2 are needed to know what was deleted" in capsys.readouterr().err
    assert fsck(four, "--rebuild-catalog", "auto", "--without-peers", "--repair") == 1
    out = capsys.readouterr().out
    assert "bucket recovered-" in out
    told = [line for line in out.splitlines() if line.startswith("cannot be known: ")]
    assert len(told) == 4, told
    assert fsck(four) == 0


def test_files_that_a_rebuild_without_peers_could_not_use_are_kept(four: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    lose_catalog(four, 0, 1, 2, 3)
    for slot in (1, 2):
        flip(four.shards(slot)[0], 10)
    files = [path for slot in range(4) for path in four.shards(slot)]
    assert fsck(four, "--rebuild-catalog", "auto", "--without-peers", "--repair") == 1
    assert "files that no row names are kept" in capsys.readouterr().out
    assert all(path.exists() for path in files)


@pytest.mark.parametrize("damage", OF_IDENTITIES, ids=name)
@pytest.mark.parametrize("catalog", [True, False], ids=["catalog", "no catalog"])
def test_a_lost_volume_json_is_written_anew_from_its_peers(
    four: Pool, capsys: pytest.CaptureFixture[str], damage: Damage, catalog: bool
) -> None:
    before = json.loads((four.path(1) / ".abixio" / "volume.json").read_text())
    is_found(four, damage)
    if not catalog:
        lose_catalog(four, 1)
    flags = ["--repair"] if catalog else ["--repair", "--rebuild-catalog", "auto"]
    assert fsck(four, *flags) == 1
    assert "v1: volume.json is written anew: slot 1" in capsys.readouterr().out
    assert json.loads((four.path(1) / ".abixio" / "volume.json").read_text()) == before
    assert fsck(four) == 0
    asyncio.run(reads_all(four, without={2}))


def test_a_directory_that_proves_nothing_is_not_taken_for_a_member(four: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    (four.path(1) / ".abixio" / "volume.json").unlink()
    lose_catalog(four, 1)
    for path in four.shards(1):
        path.unlink()
    assert fsck(four, "--repair") == 1
    assert "v1: neither its catalog nor a shard file proves which of the missing slots it was" in capsys.readouterr().out
    assert not (four.path(1) / ".abixio" / "volume.json").exists()


def test_an_empty_directory_is_not_given_a_slot(four: Pool) -> None:
    for path in (four.path(1) / ".abixio").rglob("*"):
        if path.is_file():
            path.unlink()
    empty = four.path(1).rename(four.root / "away")
    four.path(1).mkdir()
    assert fsck(four, "--repair") == 1
    assert not any(four.path(1).iterdir()), "that is what a server is for"
    assert empty.exists()


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(four: Pool) -> None:
    command = [sys.executable, "-m", "abixio", "fsck", "--volumes", ",".join(four.paths)]
    plain = subprocess.run(command, capture_output=True, text=True, check=True)
    assert plain.stderr.splitlines() == ["catalogs", "directories", "objects"]
    master, slave = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 4096):
                shown += piece
        except OSError:  # Linux says so when the other end is closed
            pass
        assert process.stdout is not None
        assert process.stdout.read() == plain.stdout.encode()
    os.close(master)
    assert b"\x1b[" in shown and b"objects" in shown
