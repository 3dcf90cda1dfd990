"""A catalog's statements without the interpreter: SQLite's own interface, on the connections that apsw has opened.

A statement of apsw gives up the GIL and has to win it back, and a change is made of many. Here a whole transaction is one call
that is without it from its beginning to its end. _catalog.h says how SQLite's functions are had, _catalog_write.h what is
done with them. The statements come from the modules of the catalog.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apsw

WRITES: tuple[str, ...]
"""What the statements of a transaction are called, in the order in which they are given."""
READS: tuple[str, ...]
"""The same of those that look something up."""
CLOSED: int
IN_USE: int
"""Codes of errors that are not SQLite's."""

def load(connection: apsw.Connection, sql: str, version: int) -> None:
    """Have SQLite hand its functions to this module, for the life of the process, and `check` them."""

def check(connection: apsw.Connection, sql: str, version: int) -> None:
    """ImportError unless this SQLite has that version number and its functions are where they are expected. `sql` asks for
    its four parameters. The connection must be one that nobody else uses."""

class Statements:
    """Those of one connection, made when they are first needed. For one thread at a time: `fail` makes the error to raise from a
    code of SQLite, or one of the above, and a text."""

    def __init__(self, connection: apsw.Connection, fail: Callable[[int, str], Exception], texts: Iterable[str]) -> None: ...
    def close(self) -> None:
        """Before the connection. Closing twice is harmless."""

class Transactions(Statements):
    """Of the connection that writes. It has SQLite's WAL hook of that connection."""

    def __init__(
        self, connection: apsw.Connection, fail: Callable[[int, str], Exception], texts: Iterable[str],
        kinds: tuple[type, type, type, type, type, type], refusal: Callable[[Any, Any], Any], no_room: Callable[[str], Any],
    ) -> None:
        """`kinds`: the classes Insert, Mark, Drop, Settle, Head, Note, whose fields stand as in volume/interface.py. `refusal`
        makes the answer of a change that is refused, from its Insert and the seq and rev of the newest row, where that is
        what it comes too late for; `no_room` that of one for which there is no room, from the reason."""

    def pages(self) -> int:
        """In the WAL after the connection's last commit."""

    def emptied(self) -> None:
        """No pages are in the WAL."""

    def transact(self, changes: Sequence[Sequence[Any]], full: str | None) -> list[Any]:
        """All changes in one transaction; with a reason for `full`, but those that store new data. None or a refusal for each.
        Whatever they point to is held meanwhile. Bytes that somebody changes while they are read are stored as they were at
        some moment, or at several."""

class Lookups(Statements):
    """Of a connection that reads. With `wait` the GIL is given up, and a disk may be waited for; without, neither."""

    def __init__(
        self, connection: apsw.Connection, fail: Callable[[int, str], Exception], texts: Iterable[str],
        blocked: Callable[[], Exception], row: type, row_id: type, states: Iterable[Any],
    ) -> None:
        """`blocked`: makes the error to raise where a disk would have to be waited for. `row`, `row_id`: the named tuples Row and
        RowId, whose fields stand as in volume/interface.py. `states`: by their numbers; a row that has another is given the
        first one, and an empty record."""

    def rows(self, space: bytes, key: bytes, limit: int, wait: bool) -> list[Any]:
        """The first `limit` rows of a key."""

    def newest(self, space: bytes, key: bytes, shard: bool) -> tuple[Any, bytes | None] | None:
        """The first one, and its inline shard where that is asked for, if it has one. Does not wait."""

    def inline(self, where: int, wait: bool) -> bytes | None:
        """The inline shard of that id."""
