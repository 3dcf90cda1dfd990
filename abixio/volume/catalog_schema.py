"""The catalog's tables, and the checks that a file is a catalog of this volume. docs/format.md explains the tables."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import apsw

from abixio.errors import CatalogCorrupt

APPLICATION_ID: Final = 0x61627869
"""`abxi`; `file catalog.db` shows it."""
USER_VERSION: Final = 1
"""The format of the tables."""
PAGE_SIZE: Final = 4096
"""A commit of one small object writes about six pages to the WAL, whatever their size; 8 KiB doubles that."""

_SETTINGS: Final = f"""
PRAGMA page_size = {PAGE_SIZE};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {USER_VERSION};
"""

ROW_KEY: Final = "sqlite_autoindex_row_1"
"""SQLite's name for the order of table `row` itself, in which the newest row of a key comes first: for those that must not be
given the order of another index, or what a rotten one says."""
_INDEXES: Final = """
CREATE INDEX row_age ON row (space, seq);

CREATE INDEX row_amended ON row (space, seq + rev) WHERE rev > 0;
"""
"""In which order rows were made: lifecycle rules look at the old ones. Others than these tables' own keys are no part of
the format: one that is missing is made when the catalog is opened."""
_TABLES: Final = f"""
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE note (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE row (
  space BLOB NOT NULL,
  key BLOB NOT NULL,
  seq INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  state INTEGER NOT NULL,
  mask INTEGER NOT NULL,
  record BLOB NOT NULL,
  inline INTEGER,
  PRIMARY KEY (space, key, seq DESC, rev DESC)
) WITHOUT ROWID, STRICT;

CREATE TABLE head (
  space BLOB NOT NULL,
  key BLOB NOT NULL,
  seq INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  PRIMARY KEY (space, key)
) WITHOUT ROWID, STRICT;

CREATE TABLE inline (
  id INTEGER PRIMARY KEY,
  shard BLOB NOT NULL
) STRICT;

CREATE TABLE ref (
  write_id BLOB NOT NULL,
  space BLOB NOT NULL,
  key BLOB NOT NULL,
  seq INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  part INTEGER NOT NULL,
  inline INTEGER,
  PRIMARY KEY (write_id, space, key, seq, rev)
) WITHOUT ROWID, STRICT;

CREATE TABLE unsettled (
  space BLOB NOT NULL,
  key BLOB NOT NULL,
  seq INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  PRIMARY KEY (space, key, seq, rev)
) WITHOUT ROWID, STRICT;

CREATE TABLE garbage (
  write_id BLOB PRIMARY KEY
) WITHOUT ROWID, STRICT;

{_INDEXES}
INSERT INTO note VALUES ('commits', 0), ('inline', 0), ('seq', 0);
"""
_NAMES: Final = {"meta", "note", "row", "head", "inline", "ref", "unsettled", "garbage"}


def create(connection: apsw.Connection, volume: str) -> None:
    """Lay out an empty catalog for the volume with that uuid."""
    connection.execute(_SETTINGS)
    connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        connection.execute(_TABLES)
        connection.execute("INSERT INTO meta VALUES ('volume', ?)", (volume,))


def complete(connection: apsw.Connection) -> None:
    """Make the indexes that a catalog of an older version lacks: a second for a million rows. One on a disk that takes no more
    stays without, and so cannot be asked what they are for."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    missing = [sql for sql in _INDEXES.split(";") if sql.strip() and sql.split()[2] not in there]
    if not missing or connection.readonly("main"):
        return
    with suppress(apsw.FullError, apsw.ReadOnlyError), connection:
        for sql in missing:
            connection.execute(sql)


def check(connection: apsw.Connection, where: str, volume: str) -> None:
    """CatalogCorrupt, naming the directory, unless this is the catalog of that volume, in a format known here."""
    application = connection.pragma("application_id")
    if application != APPLICATION_ID:
        raise CatalogCorrupt(f"{where}: is a database, but not from abixio (application id {application:#x})")
    version = connection.pragma("user_version")
    if version != USER_VERSION:
        raise CatalogCorrupt(f"{where}: has format {version}, this version of abixio knows {USER_VERSION}")
    missing = _NAMES - {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if missing:
        raise CatalogCorrupt(f"{where}: lacks the tables {', '.join(sorted(missing))}")
    owner = connection.execute("SELECT value FROM meta WHERE name = 'volume'").get
    if owner != volume:
        raise CatalogCorrupt(f"{where}: belongs to volume {owner}, volume.json says {volume}; one of the two was copied here")
