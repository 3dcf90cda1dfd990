"""The key file: made once, kept on every volume or where it was told to be, put together again, never made anew over a loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abixio.cli import main
from abixio.errors import StartupError
from abixio.flags import parse_key_names
from abixio.keys import DEFAULT_KMS, MASTER, Key, KeyRing, complete, generate, keep, pack, stored, unpack
from abixio.volume.files import Files

FILES = Files()


@pytest.fixture
def volumes(tmp_path: Path) -> list[str]:
    for number in range(3):
        (tmp_path / f"v{number}/.abixio").mkdir(parents=True)
    return [str(tmp_path / f"v{number}") for number in range(3)]


def held(volume: str) -> Path:
    return Path(volume) / ".abixio/keys.json"


def test_the_first_start_makes_a_master_key_and_those_that_were_named() -> None:
    ring = complete(KeyRing([]), ["finance"])
    assert {key.name for key in ring.keys} == {MASTER, DEFAULT_KMS, "finance"}
    assert len({key.secret for key in ring.keys}) == 3
    assert pack(complete(ring, ["finance"])) == pack(ring)


def test_every_volume_has_it_and_one_that_lost_it_gets_it_back(volumes: list[str]) -> None:
    ring = complete(KeyRing([]), [])
    keep(FILES, volumes, None, ring)
    held(volumes[0]).unlink()
    held(volumes[1]).write_bytes(b"rotten")
    again = stored(FILES, volumes, None)
    keep(FILES, volumes, None, again)
    assert {held(volume).read_bytes() for volume in volumes} == {pack(ring)}
    assert {held(volume).stat().st_mode & 0o777 for volume in volumes} == {0o600}


def test_what_volumes_hold_is_put_together(volumes: list[str]) -> None:
    ring = complete(KeyRing([]), [])
    keep(FILES, volumes[:2], None, ring)
    newer = generate(MASTER, ring.keys)
    keep(FILES, volumes[2:], None, KeyRing([newer]))
    both = stored(FILES, volumes, None)
    assert both.newest(MASTER) == (newer.id, newer.secret)
    assert all(both.find(key.id) == key.secret for key in ring.keys)


def test_no_new_keys_are_made_where_the_old_ones_are_damaged(volumes: list[str]) -> None:
    for volume in volumes:
        held(volume).write_bytes(b"{}")
    with pytest.raises(StartupError, match="is not a key file, or damaged"):
        stored(FILES, volumes, None)


def test_a_key_file_of_its_own_keeps_them_off_the_volumes(volumes: list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "keys")
    ring = complete(stored(FILES, volumes, path), [])
    keep(FILES, volumes, path, ring)
    assert not any(held(volume).exists() for volume in volumes)
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert pack(stored(FILES, volumes, path)) == pack(ring)
    Path(path).chmod(0o640)
    with pytest.raises(StartupError, match="others may read it"):
        stored(FILES, volumes, path)


def test_keys_on_the_volumes_that_the_file_lacks_stop_the_start(volumes: list[str], tmp_path: Path) -> None:
    ring = complete(KeyRing([]), [])
    keep(FILES, volumes, None, ring)
    with pytest.raises(StartupError, match="lacks keys that the volumes hold"):
        stored(FILES, volumes, str(tmp_path / "keys"))
    held(volumes[0]).rename(tmp_path / "keys")
    for volume in volumes[1:]:
        held(volume).unlink()
    assert pack(stored(FILES, volumes, str(tmp_path / "keys"))) == pack(ring)


def test_keys_that_no_volume_takes_are_not_used(tmp_path: Path) -> None:
    assert not keep(FILES, [str(tmp_path / "none")], None, complete(KeyRing([]), []))
    assert not keep(FILES, [], None, complete(KeyRing([]), []))


def test_a_place_that_cannot_be_written_stops_the_start(volumes: list[str], tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be written"):
        keep(FILES, volumes, str(tmp_path / "none/keys"), complete(KeyRing([]), []))


@pytest.mark.parametrize(
    "change",
    [{"magic": "x"}, {"format": 2}, {"keys": None}, {"keys": [{}]},
     {"keys": [{"id": 1, "name": "", "created": 1, "key": "AAAA"}]},
     {"keys": [{"id": "a", "name": "", "created": 1, "key": "%"}]}],
)
def test_a_file_that_is_none_is_refused_without_showing_it(change: dict[str, object]) -> None:
    ring = complete(KeyRing([]), [])
    content = json.loads(pack(ring)) | change
    with pytest.raises(StartupError) as error:
        unpack(json.dumps(content).encode(), "place")
    assert str(error.value).startswith("place: is ")
    assert not any(each["key"] in str(error.value) for each in json.loads(pack(ring))["keys"])


def test_no_representation_shows_a_key() -> None:
    key = Key("id", "name", 1, b"0123456789abcdef0123456789abcdef")
    assert "0123456789" not in repr(key) + str(key) + repr(KeyRing([key]))


def test_names_of_keys() -> None:
    assert parse_key_names(["a,b/c", "a"]) == ("a", "b/c")
    for wrong in ("", "a,,b", "x" * 257, "a b", "arn:aws:kms:r:1:key/x"):
        with pytest.raises(ValueError, match="is not a name for a key"):
            parse_key_names([wrong])


def test_rotating_a_key_that_is_not_there_is_an_error(volumes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--volumes", ",".join(volumes)]
    assert main(["keys", "rotate", *place]) == 2
    assert "there is no key yet" in capsys.readouterr().err
    keep(FILES, volumes, None, complete(KeyRing([]), []))
    assert main(["keys", "rotate", "--kms-key-id", "none", *place]) == 2
    assert "there is no key 'none'" in capsys.readouterr().err
