"""volume.json and the credentials file: round trips, what is refused and how the refusal reads."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from abixio.errors import StartupError, VolumeFull
from abixio.volume import identity, names
from abixio.volume.files import Files
from abixio.volume.identity import Look, Member
from tests.volume_fixtures import FaultyFiles, formatted, new_identity

FILES = Files()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".abixio").mkdir()
    return tmp_path


def edit(path: Path, change: dict[str, Any]) -> None:
    file = path / ".abixio" / "volume.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def test_an_identity_comes_back_as_it_was_written(home: Path) -> None:
    written = replace(new_identity(2, 4), epoch=7, pool=1, compat=("new-thing",))
    identity.write(FILES, str(home), written)
    assert identity.read(FILES, str(home)) == written


def test_the_file_is_for_people_too(home: Path) -> None:
    identity.write(FILES, str(home), new_identity())
    text = (home / ".abixio" / "volume.json").read_text()
    assert text.startswith('{\n  "magic": "abixio volume",\n')
    assert text.endswith("}\n")
    assert "unknown" not in text


def test_fields_of_a_newer_version_are_carried_along(home: Path) -> None:
    written = new_identity(0, 2)
    identity.write(FILES, str(home), written)
    content = json.loads((home / ".abixio" / "volume.json").read_text())
    content["members"][1]["rack"] = "b"
    edit(home, {"nodes": [1, {"x": None}], "members": content["members"]})
    read = identity.read(FILES, str(home))
    assert (read.volume, read.epoch) == (written.volume, written.epoch)
    identity.write(FILES, str(home), replace(read, epoch=2))
    again = json.loads((home / ".abixio" / "volume.json").read_text())
    assert again["nodes"] == [1, {"x": None}]
    assert again["members"][1]["rack"] == "b"
    assert again["epoch"] == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"), (b"{", "damaged"), (b"\xff\xfe", "damaged"), (b"[]", "not from abixio"), (b"{}", "not from abixio"),
        (b'{"magic": "something else"}', "not from abixio"), (b'{"magic": "abixio volume", "format": 1}', "damaged"),
    ],
)
def test_a_file_that_is_not_ours_or_damaged_is_refused_by_name(home: Path, content: bytes, says: str) -> None:
    (home / ".abixio" / "volume.json").write_bytes(content)
    with pytest.raises(StartupError, match=says) as caught:
        identity.read(FILES, str(home))
    assert str(home) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 2"), ({"format": "1"}, "format '1'"), ({"incompat": ["zstd"]}, "zstd"),
        ({"ro_compat": ["x"]}, "needs x"),
        ({"slot": "zero"}, "damaged"), ({"members": 5}, "damaged"), ({"members": [5]}, "damaged"), ({"volume": None}, "damaged"),
    ],
)
def test_what_this_version_does_not_understand_is_refused(home: Path, change: dict[str, Any], says: str) -> None:
    identity.write(FILES, str(home), new_identity())
    edit(home, change)
    with pytest.raises(StartupError, match=says):
        identity.read(FILES, str(home))


def test_a_missing_file_is_refused_by_name(home: Path) -> None:
    with pytest.raises(StartupError, match=r"volume\.json: cannot be read"):
        identity.read(FILES, str(home))


def test_a_failed_write_leaves_the_old_identity(home: Path) -> None:
    old = new_identity()
    identity.write(FILES, str(home), old)
    files = FaultyFiles()
    for step in ("create", "writev", "rename"):
        files.faults = {step: errno.ENOSPC}
        with pytest.raises(VolumeFull):
            identity.write(files, str(home), replace(old, epoch=9))
        assert identity.read(FILES, str(home)) == old


def test_a_member_is_found_by_slot() -> None:
    who = new_identity(1, 3)
    assert who.member(2) == who.members[2]
    assert who.member(3) is None
    assert who.member(1) == Member(1, who.volume)


def test_looking_tells_what_stands_at_a_path(tmp_path: Path) -> None:
    def look(name: str) -> Look:
        return identity.look(FILES, str(tmp_path / name))

    assert look("missing") is Look.MISSING
    (tmp_path / "empty" / "lost+found").mkdir(parents=True)
    assert look("empty") is Look.EMPTY
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "photo.jpg").touch()
    assert look("foreign") is Look.FOREIGN
    formatted(tmp_path / "volume")
    assert look("volume") is Look.FORMATTED
    (tmp_path / "volume" / ".abixio" / "volume.json").unlink()
    assert look("volume") is Look.FOREIGN
    (tmp_path / "volume" / ".abixio" / "formatting").touch()
    assert look("volume") is Look.HALF


def test_a_directory_that_does_not_answer_is_not_called_empty(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be read"):
        identity.look(FILES, str(tmp_path / ("x" * 300)))


def test_credentials_are_for_the_owner_only_and_come_back(home: Path) -> None:
    assert identity.read_credentials(FILES, str(home)) is None
    before = os.umask(0)
    try:
        identity.write_credentials(FILES, str(home), b"secret")
    finally:
        os.umask(before)
    assert identity.read_credentials(FILES, str(home)) == b"secret"
    assert Path(names.credentials(str(home))).stat().st_mode & 0o777 == 0o600
