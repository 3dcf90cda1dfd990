"""Everything that can go wrong on one volume of a pool, done by hand, and what fsck has to call it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from abixio.fsck.findings import Level
from tests.fsck_pool import Pool, found, texts
from tests.store_rig import noise
from tests.test_store_damage import flip

LARGE = "SELECT space, key, seq, rev FROM row WHERE key = CAST('large' AS BLOB)"
MINE = "space = ?1 AND key = ?2 AND seq = ?3 AND rev = ?4"


def large(pool: Pool, slot: int) -> Path:
    """That volume's shard of the object `large`."""
    (write_id,) = pool.sql(slot, "SELECT ref.write_id FROM ref WHERE key = CAST('large' AS BLOB)")[0]
    return pool.path(slot) / "shards" / f"{write_id[-1]:02x}" / write_id.hex()


def bit_of_the_data(pool: Pool) -> None:
    flip(large(pool, 1), 100_000)


def bit_of_the_footer(pool: Pool) -> None:
    flip(large(pool, 1), -20)


def bit_of_a_checksum(pool: Pool) -> None:
    flip(large(pool, 1), -400)


def shard_cut_short(pool: Pool) -> None:
    os.truncate(large(pool, 1), 1000)


def shard_deleted(pool: Pool) -> None:
    large(pool, 1).unlink()


def shard_of_another_volume(pool: Pool) -> None:
    shutil.copy(large(pool, 2), large(pool, 1))


def inline_shard_rotten(pool: Pool) -> None:
    pool.sql(1, "UPDATE inline SET shard = zeroblob(length(shard)) WHERE id = (SELECT max(id) FROM inline)")


def inline_shard_deleted(pool: Pool) -> None:
    pool.sql(1, "DELETE FROM inline WHERE id = (SELECT max(id) FROM inline)")


def record_rotten(pool: Pool) -> None:
    pool.sql(1, "UPDATE row SET record = CAST(substr(record, 1, 50) || x'00' || substr(record, 52) AS BLOB) "
             "WHERE key = CAST('large' AS BLOB)")


def row_deleted(pool: Pool) -> None:
    (id,) = pool.sql(1, LARGE)
    for table in ("row", "ref"):
        pool.sql(1, f"DELETE FROM {table} WHERE {MINE}", *id)
    pool.sql(1, "DELETE FROM head WHERE space = ? AND key = ?", *id[:2])
    (pool.path(1) / large(pool, 0).relative_to(pool.path(0))).unlink()


def row_in_no_state(pool: Pool) -> None:
    pool.sql(1, "UPDATE row SET state = 7 WHERE key = CAST('large' AS BLOB)")


def head_deleted(pool: Pool) -> None:
    pool.sql(1, "DELETE FROM head WHERE key = CAST('large' AS BLOB)")


def head_of_nothing(pool: Pool) -> None:
    pool.sql(1, "INSERT INTO head SELECT space, x'00', seq, rev FROM head LIMIT 1")


def ref_deleted(pool: Pool) -> None:
    pool.sql(1, "DELETE FROM ref WHERE key = CAST('small' AS BLOB)")


def ref_of_nothing(pool: Pool) -> None:
    pool.sql(1, "INSERT INTO ref SELECT write_id, space, key, seq + 1, rev, part, inline FROM ref LIMIT 1")


def inline_of_nothing(pool: Pool) -> None:
    pool.sql(1, "INSERT INTO inline VALUES (1, x'00')")


def journal_of_nothing(pool: Pool) -> None:
    pool.sql(1, "INSERT INTO unsettled SELECT space, key, seq + 1, rev FROM row LIMIT 1")


def shard_on_its_way_out(pool: Pool) -> None:
    pool.sql(1, "INSERT INTO garbage SELECT write_id FROM ref WHERE inline IS NULL LIMIT 1")


def counter_behind(pool: Pool) -> None:
    pool.sql(1, "UPDATE note SET value = 1 WHERE name = 'seq'")


def row_not_settled(pool: Pool) -> None:
    pool.sql(1, "UPDATE row SET state = 0 WHERE key = CAST('large' AS BLOB)")


def file_that_no_row_names(pool: Pool) -> None:
    path = pool.path(1) / "shards" / "07" / ("00" * 15 + "07")
    shutil.copy(large(pool, 1), path)


def directory_deleted(pool: Pool) -> None:
    shutil.rmtree(next(path for path in (pool.path(1) / "shards").iterdir() if not any(path.iterdir())))


def table_dropped(pool: Pool) -> None:
    pool.sql(1, "DROP TABLE head")


def catalog_deleted(pool: Pool) -> None:
    for path in pool.path(1).glob(".abixio/catalog.db*"):
        path.unlink()


def catalog_page_rotten(pool: Pool) -> None:
    pool.sql(1, "PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = pool.sql(1, "SELECT rootpage FROM sqlite_schema WHERE name = 'row'")[0]
    with pool.catalog(1).open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(noise(4096))


def free_pages_miscounted(pool: Pool) -> None:
    """Nothing that a query would meet."""
    pool.sql(1, "PRAGMA wal_checkpoint(TRUNCATE)")
    with pool.catalog(1).open("r+b") as file:
        file.seek(36)
        file.write((7777).to_bytes(4, "big"))


def catalog_of_another_volume(pool: Pool) -> None:
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(f"{pool.catalog(2)}{suffix}", f"{pool.catalog(1)}{suffix}")


def no_database(pool: Pool) -> None:
    catalog_deleted(pool)
    pool.catalog(1).write_bytes(noise(8192))


def identity_rotten(pool: Pool) -> None:
    flip(pool.path(1) / ".abixio" / "volume.json", 0)


def identity_deleted(pool: Pool) -> None:
    (pool.path(1) / ".abixio" / "volume.json").unlink()


def older_than_its_peers_know(pool: Pool) -> None:
    pool.sql(1, "UPDATE note SET value = 3 WHERE name = 'commits'")


Damage = Callable[[Pool], None]
DAMAGES: dict[Damage, list[str]] = {
    bit_of_the_data: ["shard"], bit_of_the_footer: ["shard"], bit_of_a_checksum: ["shard"], shard_cut_short: ["shard"],
    shard_deleted: ["shard"], shard_of_another_volume: ["shard"], inline_shard_rotten: ["shard"], inline_shard_deleted: ["shard"],
    record_rotten: ["record"], row_deleted: ["row"], row_in_no_state: ["journal", "row"], head_deleted: ["head"],
    head_of_nothing: ["head"],
    ref_deleted: ["ref"], ref_of_nothing: ["ref"], inline_of_nothing: ["inline"], journal_of_nothing: ["journal"],
    shard_on_its_way_out: ["garbage"], counter_behind: ["note"], row_not_settled: ["journal"], file_that_no_row_names: ["orphan"],
    directory_deleted: ["volume"], table_dropped: ["catalog"], catalog_deleted: ["catalog"], catalog_page_rotten: ["catalog"],
    free_pages_miscounted: ["catalog"],
    catalog_of_another_volume: ["catalog"], no_database: ["catalog"], identity_rotten: ["identity", "volume"],
    identity_deleted: ["identity", "volume"], older_than_its_peers_know: ["age"],
}
"""What each of them is called in the report."""

IN_PLACE = [damage for damage, kinds in DAMAGES.items() if not {"catalog", "identity"} & set(kinds)]
OF_CATALOGS = [damage for damage, kinds in DAMAGES.items() if kinds == ["catalog"]]
OF_IDENTITIES = [damage for damage, kinds in DAMAGES.items() if "identity" in kinds]


def is_found(pool: Pool, damage: Damage) -> None:
    """Do it; the check finds it for what it is and nothing else, and changes no byte."""
    damage(pool)
    before = pool.print()
    report = pool.check()
    assert sorted(set(found(report))) == DAMAGES[damage], texts(report)
    assert all(finding.slot in (1, None) or finding.kind == "row" for finding in report.findings), texts(report)
    assert report.counts[Level.LOST] == 0, texts(report)
    assert pool.print() == before, "the check changed something"
