"""`LocalVolume` against the contract, and what it does beyond it: opening, recovery, full disks, failed syncs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from abixio.volume.interface import Volume
from abixio.volume.local import LocalVolume

from tests.volume_contract import VolumeContract
from tests.volume_fixtures import formatted


class TestContract(VolumeContract):
    @pytest.fixture
    def volume(self, tmp_path: Path) -> Iterator[Volume]:
        volume = LocalVolume.open(formatted(tmp_path / "volume"))
        yield volume
        volume.close()
