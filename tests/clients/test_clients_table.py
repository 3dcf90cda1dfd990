"""docs/clients.md says what the tests show: a row per client, a column per operation."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.clients.kit import OPERATIONS
from tests.server import ROOT

HERE = Path(__file__).parent


_NAME = re.compile("test_({0})(?:_and_({0}))?(?:_|$)".format("|".join(OPERATIONS)))
"""`test_put`, `test_put_of_a_stream`, `test_put_and_get`: a test says first which operations it is of."""


def covered() -> dict[str, set[str]]:
    """Of each client, the operations that its module has a test of."""
    found = {}
    for path in HERE.glob("test_client_*.py"):
        body = ast.parse(path.read_text()).body
        functions = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        names = [match for function in functions if (match := _NAME.match(function)) is not None]
        client = path.stem.removeprefix("test_client_")
        found[client] = {operation for match in names for operation in match.groups() if operation}
    return found


def documented() -> tuple[list[str], dict[str, dict[str, str]]]:
    """The columns of the table, and its rows by the module that the first cell links to."""
    lines = [line for line in (ROOT / "docs" / "clients.md").read_text().splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    columns = table[0][1:]
    modules = [row[0].partition("test_client_")[2].partition(".py")[0] for row in table[2:]]
    cells = [dict(zip(columns, row[1:], strict=True)) for row in table[2:]]
    return columns, dict(zip(modules, cells, strict=True))


def test_the_columns_are_the_operations() -> None:
    assert documented()[0] == [operation.replace("_", " ") for operation in OPERATIONS]


def test_every_client_has_a_row_and_every_yes_a_test() -> None:
    rows = documented()[1]
    said = {client: {name.replace(" ", "_") for name, cell in row.items() if cell == "yes"} for client, row in rows.items()}
    assert said == covered()


def test_a_cell_that_is_not_a_yes_has_its_reason() -> None:
    assert {cell for row in documented()[1].values() for cell in row.values()} == {"yes", "n/a"}
    page = (ROOT / "docs" / "clients.md").read_text().partition("## What a client has not")[2].partition("\n## ")[0]
    for client, row in documented()[1].items():
        assert ("n/a" in row.values()) is (f"**{client}**" in page), client
