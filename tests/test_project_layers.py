"""Each layer imports only downward, and some things are done in one place only: read off the syntax trees."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "abixio"
SOURCES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(), path) for path in sorted(PACKAGE.rglob("*.py"))}

Check = Callable[[], Iterator[tuple[str, int, str]]]
LEAVES = {"errors", "config", "message"}
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "message": {"errors"},
    "transport": {"http"} | LEAVES,
    "http": {"_http"} | LEAVES,
    "s3": {"_sign", "store", "codec"} | LEAVES,
    "store": {"codec", "volume", "_shared"} | LEAVES,
    "codec": {"_blocks", "_gf256", "_md5"} | LEAVES,
    "volume": {"_catalog", "_sqlio", "_shared"} | LEAVES,
}
"""What each may import besides itself and the package's version. Whatever is not named here puts the layers together."""

FOREIGN = {
    "http": {"asyncio", "selectors", "socket", "ssl", "uvloop"},
    "s3": {"httptools", "mmap", "socket", "ssl", "uvloop"},
    "store": {"apsw", "defusedxml", "httptools", "socket", "ssl", "uvloop", "xml"},
    "codec": {"asyncio", "mmap", "os", "uvloop"},
    "volume": {"asyncio", "uvloop"},
    "transport": {"apsw", "defusedxml", "xml"},
}
"""What a layer must not know: libraries that it therefore does not import."""

FILE_LIBRARIES = {"aiofiles", "fcntl", "glob", "io", "mmap", "pathlib", "shutil", "tempfile"}
FILE_CALLS = {"open", "ctypes.CDLL", "ctypes.PyDLL"}
FILE_MODULES = "volume/file*.py"
"""files.py, and the maps that it hands out."""
MEMORY_COPIER = "transport/guarded.py"
"""Has the kernel copy memory of this process; no file."""
HARMLESS_OS = {
    "_exit", "cpu_count", "environ", "fsdecode", "fsencode", "fspath", "getpid", "path", "pathsep", "strerror", "urandom",
}
HARMLESS_PATH = {"abspath", "basename", "commonpath", "dirname", "isabs", "join", "normpath", "split", "splitext"}
"""Of os and os.path: what touches no file."""

CATALOG_MODULES = "volume/catalog*.py"
SQL = re.compile(
    r"\b(SELECT\b.*\bFROM|INSERT (OR \w+ )?INTO|REPLACE INTO|UPDATE \w+ SET|DELETE FROM|(CREATE|DROP|ALTER) (TABLE|INDEX)"
    r"|PRAGMA \w+|BEGIN (IMMEDIATE|EXCLUSIVE)|ON CONFLICT)\b",
    re.DOTALL,
)


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, wherever: also in functions and for type checking only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{name.name}") for name in node.names)


def layer(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def violations(found: Iterator[tuple[str, int, str]]) -> list[str]:
    return [f"abixio/{name}:{line}: {what}" for name, line, what in found]


def upward_imports() -> Iterator[tuple[str, int, str]]:
    for name, tree in SOURCES.items():
        own = layer(name)
        for line, target in imports(tree):
            parts = target.split(".")
            if parts[0] == "" or (parts[0] == "abixio" and own in LAYERS and parts[1] not in LAYERS[own] | {own, "__version__"}):
                yield name, line, f"imports {target}"


def foreign_imports() -> Iterator[tuple[str, int, str]]:
    for name, tree in SOURCES.items():
        for line, target in imports(tree):
            if target.split(".")[0] in FOREIGN.get(layer(name), set()) and not allowed_map(name, target):
                yield name, line, f"imports {target}"


def allowed_map(name: str, target: str) -> bool:
    """Anonymous memory is no file: the stripe buffers are made of it."""
    return name == "store/buffers.py" and target.split(".")[0] == "mmap"


def file_accesses() -> Iterator[tuple[str, int, str]]:
    for name, tree in SOURCES.items():
        if fnmatch(name, FILE_MODULES):
            continue
        for line, target in imports(tree):
            library, _, rest = target.partition(".")
            touches = library in FILE_LIBRARIES or (library == "os" and bool(rest) and not harmless(rest.split(".")))
            if touches and not allowed_map(name, target):
                yield name, line, f"imports {target}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and dotted(node)[:1] == ["os"] and not harmless(dotted(node)[1:]):
                yield name, node.lineno, f"uses {'.'.join(dotted(node))}"
            elif isinstance(node, ast.Call) and ".".join(dotted(node.func)) in FILE_CALLS and name != MEMORY_COPIER:
                yield name, node.lineno, f"calls {'.'.join(dotted(node.func))}"


def dotted(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [*dotted(node.value), node.attr]
    return [node.id] if isinstance(node, ast.Name) else ["?"]


def harmless(parts: list[str]) -> bool:
    """Of what stands behind `os`."""
    return parts[0] in HARMLESS_OS and (parts[0] != "path" or len(parts) == 1 or parts[1] in HARMLESS_PATH)


def docstrings(tree: ast.AST) -> set[int]:
    """The ids of the nodes that are strings standing alone: documentation."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def sql() -> Iterator[tuple[str, int, str]]:
    for name, tree in SOURCES.items():
        if fnmatch(name, CATALOG_MODULES):
            continue
        for line, target in imports(tree):
            if target.split(".")[0] in {"apsw", "sqlite3"}:
                yield name, line, f"imports {target}"
        documentation = docstrings(tree)
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in documentation else None
            if isinstance(node, ast.Constant) and isinstance(text, str) and SQL.search(text):
                yield name, node.lineno, "holds SQL"


def error_mappings() -> Iterator[tuple[str, int, str]]:
    """Handlers that catch an error of ours and answer with an S3 code of their own choice. They may only say that it was
    an argument of the request that was wrong, which nobody below can know."""
    errors = {node.name for node in SOURCES["errors.py"].body if isinstance(node, ast.ClassDef)}
    for name, tree in SOURCES.items():
        if name == "s3/errors.py" or layer(name) != "s3":
            continue
        for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type):
            caught = {node.id for node in ast.walk(handler.type or handler) if isinstance(node, ast.Name)} & errors
            calls = [node for node in ast.walk(handler) if isinstance(node, ast.Call) and dotted(node.func)[-1] == "S3Error"]
            codes = [(call.lineno, ast.literal_eval(call.args[0])) for call in calls if isinstance(call.args[0], ast.Constant)]
            yield from ((name, line, f"maps {caught} to {code}") for line, code in codes if caught and code != "InvalidArgument")


def bare_handlers() -> Iterator[tuple[str, int, str]]:
    for name, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                yield name, node.lineno, "bare except"


@pytest.mark.parametrize("check", [upward_imports, foreign_imports, file_accesses, sql, error_mappings, bare_handlers])
def test_nothing_breaks_the_rule(check: Check) -> None:
    assert violations(check()) == []


def test_every_layer_of_the_table_is_there() -> None:
    unlisted = {"_blocks", "_catalog", "_gf256", "_http", "_md5", "_shared", "_sign", "_sqlio"}
    assert {layer(name) for name in SOURCES} >= LAYERS.keys() - unlisted


@pytest.mark.parametrize(
    ("name", "source", "check"),
    [
        ("http/x.py", "from abixio.s3 import errors", upward_imports),
        ("http/x.py", "def f():\n    import abixio.store.types", upward_imports),
        ("volume/x.py", "from abixio import codec", upward_imports),
        ("codec/x.py", "from .. import errors", upward_imports),
        ("http/x.py", "import asyncio", foreign_imports),
        ("store/x.py", "from os import open", file_accesses),
        ("store/x.py", "import os\nos.path.exists('x')", file_accesses),
        ("app.py", "import os\nos.unlink('x')", file_accesses),
        ("app.py", "open('x')", file_accesses),
        ("store/x.py", "import mmap", file_accesses),
        ("volume/x.py", "import ctypes\nctypes.CDLL(None)", file_accesses),
        ("store/x.py", "q = 'SELECT a FROM b'", sql),
        ("store/x.py", "q = f'delete {1} from' + 'DELETE FROM row'", sql),
        ("volume/x.py", "import apsw", sql),
        ("s3/x.py", "try:\n    f()\nexcept NoSuchKey:\n    raise S3Error('NoSuchKey')", error_mappings),
        ("s3/x.py", "try:\n    f()\nexcept:\n    pass", bare_handlers),
    ],
)
def test_a_breach_would_be_found(name: str, source: str, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SOURCES", {"errors.py": SOURCES["errors.py"], name: ast.parse(source)})
    assert [line for line in violations(check()) if line.startswith(f"abixio/{name}:")]
