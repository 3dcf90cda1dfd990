"""The volume that the tests of the data path use is a volume."""

from __future__ import annotations

import pytest

from tests.store_memvolume import MemVolume
from tests.volume_contract import VolumeContract


class TestMemVolume(VolumeContract):
    @pytest.fixture
    def volume(self) -> MemVolume:
        return MemVolume(0)
