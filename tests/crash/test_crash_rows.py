"""No way to change the store is without a row in the matrix, and no call to the operating system goes past the layer."""

from __future__ import annotations

import inspect

from abixio.store.api import StoreAPI
from abixio.store.store import Store
from abixio.volume.files import Files
from tests.crash.layer_files import NOT_OF_VOLUMES, LayerFiles
from tests.crash.rows import NOT_OPERATIONS, READS, ROWS


def operations(api: type) -> set[str]:
    """The public methods of the store."""
    return {name for name, _ in inspect.getmembers(api, inspect.isfunction) if not name.startswith("_")} - NOT_OPERATIONS


def test_every_method_that_changes_the_store_has_a_row() -> None:
    covered = frozenset[str]().union(*(row.methods for row in ROWS))
    missing = (operations(Store) | operations(StoreAPI)) - READS - covered
    assert not missing, f"rows.py has no row for {sorted(missing)}; write one, or name it in READS if it changes nothing"


def test_what_is_said_to_be_read_or_no_operation_is_there() -> None:
    there = {name for api in (Store, StoreAPI) for name, _ in inspect.getmembers(api, inspect.isfunction)}
    assert there >= READS
    assert {row.name for row in ROWS} and len({row.name for row in ROWS}) == len(ROWS)


def test_every_call_to_the_operating_system_goes_through_the_layer() -> None:
    own = {name for name, _ in inspect.getmembers(Files, inspect.isfunction) if not name.startswith("_")}
    missing = {name for name in own - NOT_OF_VOLUMES if name not in vars(LayerFiles)}
    assert not missing, f"LayerFiles lets {sorted(missing)} through uncounted"
