"""docs/format.md is true: its example bytes are what the code writes, and its tables are those that the code makes."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
from blake3 import blake3

from abixio.codec.checksum import block_seed, block_sums
from abixio.store.inline import pack_shard
from abixio.store.record import Layout, Part, Record, pack, unpack
from abixio.volume import catalog_schema, identity, names
from abixio.volume.files import Files
from abixio.volume.formatting import format_volume
from abixio.volume.identity import Identity, Member
from abixio.volume.local import LocalVolume
from abixio.volume.shardfile import footer

DOCUMENT = Path(__file__).parent.parent / "docs" / "format.md"
DATA = b"hello, world\n"
WRITE_ID = bytes.fromhex("018bcfe568000102030405060708090a")
RECORD = Record(
    kind="object", space=bytes(range(16)), key=b"greeting", seq=1_700_000_000_000_000, w=1, modified=1_700_000_000_000,
    owner="root", size=13, etag="22c3683b094136c3398391ae71b20f04", layout=Layout(k=1, m=0, slots=(0,), chunk=4_194_304),
    parts=(Part(write_id=WRITE_ID, number=1, size=13, stored=13),), headers={"content-type": "text/plain"},
)
IDENTITY = Identity(
    deployment="0f" * 16, slot=0, volume="1e" * 16, epoch=1, created=1_700_000_000_000,
    members=(Member(0, "1e" * 16), Member(1, "2d" * 16, mount_point=True)),
)


def dump(data: bytes) -> str:
    """As `hexdump -C` without the last line."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        pairs = [row[:8].hex(" "), row[8:].hex(" ")]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {pairs[0]:<23}  {pairs[1]:<23}  |{text}|")
    return "\n".join(lines) + "\n"


def example(name: str) -> str:
    """The fenced block behind the comment `<!-- example: name -->`."""
    found = re.search(rf"<!-- example: {name} -->\n```\w*\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, name
    return found[1]


def test_the_record_of_the_document_is_what_the_code_writes() -> None:
    assert unpack(pack(RECORD)) == RECORD
    assert dump(pack(RECORD)) == example("record")


def test_the_shard_file_of_the_document_is_what_the_code_writes(tmp_path: Path) -> None:
    format_volume(str(tmp_path), IDENTITY)
    volume = LocalVolume.open(str(tmp_path))
    writer = volume.create_shard(WRITE_ID)
    writer.write([DATA])
    writer.finish(block_sums(DATA, block_seed(WRITE_ID, 1, 0)), pack(RECORD), blake3(DATA).digest(), True)
    volume.close()
    file = Path(names.shard(str(tmp_path), WRITE_ID))
    assert file.relative_to(tmp_path).as_posix() in DOCUMENT.read_text(encoding="utf-8")
    assert dump(file.read_bytes()) == example("shard")


def test_the_inline_shard_of_the_document_is_what_the_code_writes() -> None:
    assert dump(pack_shard(DATA, block_seed(WRITE_ID, 1, 0))) == example("inline")


def test_the_identity_of_the_document_is_what_the_code_writes(tmp_path: Path) -> None:
    assert identity.pack(IDENTITY).decode() == example("identity")
    (tmp_path / ".abixio").mkdir()
    (tmp_path / ".abixio" / "volume.json").write_text(example("identity"))
    assert identity.read(Files(), str(tmp_path)) == IDENTITY


def test_the_tables_of_the_document_are_those_that_the_code_makes() -> None:
    connection = apsw.Connection(":memory:")
    catalog_schema.create(connection, "uuid")
    made = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")]
    connection.close()
    assert ";\n\n".join(made) + ";\n" == example("tables")


def show() -> None:
    """Print the examples, to be pasted into the document: python -c 'from tests.test_volume_format import show; show()'."""
    seed = block_seed(WRITE_ID, 1, 0)
    checksums = block_sums(DATA, seed)
    print(dump(pack(RECORD)))
    print(dump(DATA + footer(WRITE_ID, len(DATA), checksums, pack(RECORD), blake3(DATA).digest())))
    print(dump(pack_shard(DATA, seed)))
    print(identity.pack(IDENTITY).decode())
