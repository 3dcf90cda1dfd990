"""The root credentials: made once, kept on every volume for the owner only, shown nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abixio.credentials import Credentials, generate, keep, stored
from abixio.errors import StartupError
from abixio.volume.files import Files


@pytest.fixture
def volumes(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"v{number}" for number in range(3)]
    for path in paths:
        (path / ".abixio").mkdir(parents=True)
    return [str(path) for path in paths]


def file_of(volume: str) -> Path:
    return Path(volume) / ".abixio/credentials.json"


def test_what_was_kept_is_found_again(volumes: list[str]) -> None:
    made = generate()
    assert stored(Files(), volumes) is None
    assert keep(Files(), volumes, made) == volumes[0]
    assert stored(Files(), volumes[2:]) == made


def test_only_the_owner_may_read_them(volumes: list[str]) -> None:
    keep(Files(), volumes, generate())
    assert [file_of(volume).stat().st_mode & 0o777 for volume in volumes] == [0o600] * 3


def test_generated_ones_differ_and_are_long(volumes: list[str]) -> None:
    made = {generate().secret_key for _ in range(100)}
    assert len(made) == 100
    assert {len(secret) for secret in made} == {40}


def test_the_secret_is_in_no_representation() -> None:
    made = generate()
    assert made.secret_key not in f"{made} {made!r}"


def test_a_volume_without_them_gets_them(volumes: list[str]) -> None:
    made = generate()
    keep(Files(), volumes[:1], made)
    keep(Files(), volumes, made)
    assert stored(Files(), volumes[1:]) == made


def test_two_that_differ_are_refused(volumes: list[str]) -> None:
    keep(Files(), volumes[:2], generate())
    keep(Files(), volumes[2:], generate())
    with pytest.raises(StartupError, match=r"v2: holds other credentials than .*v0"):
        stored(Files(), volumes)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"access_key": "x"}', b'{"access_key": "a", "secret_key": "xxxxxxxx"}'])
def test_a_damaged_file_is_written_again_from_its_peers(volumes: list[str], content: bytes) -> None:
    made = generate()
    keep(Files(), volumes, made)
    file_of(volumes[0]).write_bytes(content)
    assert stored(Files(), volumes) == made
    keep(Files(), volumes, made)
    assert stored(Files(), volumes[:1]) == made


def test_damaged_files_alone_are_refused_rather_than_replaced(volumes: list[str]) -> None:
    file_of(volumes[1]).write_text('{"access_key": "somebody", "secret_key": "tell-no')
    with pytest.raises(StartupError, match=r"v1: .*is damaged") as caught:
        stored(Files(), volumes)
    assert "tell-no" not in str(caught.value)
    assert caught.value.__cause__ is None


class Sick(Files):
    """The first volume fails."""

    def read(self, path: str) -> bytes:
        if "/v0/" in path:
            raise OSError(5, "Input/output error")
        return super().read(path)

    def exists(self, path: str) -> bool:
        return "/v0/" in path or super().exists(path)


def test_a_sick_disk_does_not_matter(volumes: list[str]) -> None:
    made = Credentials("somebody", "something")
    assert keep(Sick(), volumes, made) == volumes[1]
    assert stored(Sick(), volumes) == made
    assert json.loads(file_of(volumes[1]).read_text()) == {"access_key": "somebody", "secret_key": "something"}
