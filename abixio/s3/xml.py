"""XML in and out: a builder that makes answers by joining strings, and a parser that takes nothing but plain elements.

Answers are built from fragments, `document("ListBucketResult", text("Name", name), node("Contents", ...))`, which is
several times faster than a tree for a page of 1,000 keys. Requests are read by defusedxml: no DTD, no entities, no
reference to anything outside, UTF-8 only, and limits for depth, number of elements and length of a tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NewType, cast
from xml.etree.ElementTree import ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from abixio.config import KIB, MAX_PARTS

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
SCHEMA_INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance"

MAX_DEPTH: Final = 16
"""The deepest request of S3 (a lifecycle rule) nests 7 elements; the rest is room for what S3 may add."""
MAX_ELEMENTS: Final = 16 * MAX_PARTS
"""The largest request of S3 completes 10,000 parts, each of which may name a number, an ETag and every checksum."""

SLICE: Final = 16 * KIB
"""What the parser gets at once. A tag or comment that is not over after two slices is refused: it is no part of any request,
and a tag of 8 MiB with a million attributes costs seconds without the interpreter lock, and 260 MiB."""

Fragment = NewType("Fragment", str)
"""Markup that is already escaped."""


class MalformedDocument(ValueError):
    """The bytes are not a document that S3 would read."""


# ---- writing ---------------------------------------------------------------------------------------------------------
SPECIAL: Final = re.compile("[&<>\"\r\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
"""Markup, carriage return (a parser would read it as a line feed), and what XML 1.0 forbids or discourages."""
UNREADABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What XML 1.0 cannot carry, not even as a reference."""
NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escape(value: str) -> str:
    """`value` as character data. Keys may hold characters that XML 1.0 cannot carry; they become references like `&#x1;`,
    as Amazon sends them. Strict parsers refuse those, which is why clients ask for `encoding-type=url`."""
    return SPECIAL.sub(_reference, value)


def _reference(match: re.Match[str]) -> str:
    character = match[0]
    return NAMED.get(character) or f"&#x{ord(character):x};"


def readable(value: str) -> str:
    """`value` with a replacement character for each that strict parsers refuse: an error that merely quotes what the client
    sent is better read than exact."""
    return UNREADABLE.sub("\ufffd", value)


def text(name: str, value: str | int | None) -> Fragment:
    """One element with character data; nothing at all for None. Booleans are written `true` and `false`."""
    if value is None:
        return Fragment("")
    if isinstance(value, bool):
        value = "true" if value else "false"
    return Fragment(f"<{name}>{escape(str(value))}</{name}>")


def node(name: str, *children: Fragment, attributes: str = "") -> Fragment:
    """One element around others. `attributes` is markup that begins with a space."""
    return Fragment(f"<{name}{attributes}>{''.join(children)}</{name}>")


def document(name: str, *children: Fragment, namespace: str = NAMESPACE) -> bytes:
    """A whole answer. S3 puts its namespace on every root except that of an error."""
    attributes = f' xmlns="{namespace}"' if namespace else ""
    root = node(name, *children, attributes=attributes)
    # A lone surrogate cannot come from a key, which is UTF-8, but a message may quote a header.
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{root}'.encode("utf-8", "xmlcharrefreplace")


# ---- reading ---------------------------------------------------------------------------------------------------------
class Node:
    """One element of a request: its name without namespace, its character data, and the elements in it."""

    __slots__ = ("children", "name", "value")

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = ""
        self.children: list[Node] = []

    def all(self, name: str) -> Iterator[Node]:
        """The children of that name, in order."""
        return (child for child in self.children if child.name == name)

    def find(self, name: str) -> Node | None:
        """The first child of that name."""
        return next(self.all(name), None)

    def text(self, name: str) -> str | None:
        """The character data of the first child of that name, exactly as sent; None when there is no such child."""
        child = self.find(name)
        return None if child is None else child.value


class Builder(TreeBuilder):
    """What the parser calls. Stops at the limits, drops namespaces, and keeps character data only where no elements are."""

    def __init__(self) -> None:
        self._open: list[Node] = []
        self._text: list[str] = []
        self._elements = 0
        self._root: Node | None = None
        self._calls = 0
        self._seen = 0
        self._stuck = 0

    def start(self, tag: str, attrs: dict[str, str]) -> None:  # type: ignore[override]
        self._elements += 1
        self._calls += 1
        if len(self._open) >= MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise MalformedDocument("too many elements")
        element = Node(tag.rpartition("}")[2])
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)
        self._text.clear()

    def data(self, data: str) -> None:
        self._calls += 1
        self._text.append(data)

    def end(self, tag: str) -> None:  # type: ignore[override]
        self._calls += 1
        element = self._open.pop()
        if not element.children:
            element.value = "".join(self._text)
        self._text.clear()

    def check_progress(self) -> None:
        """Called after each slice: MalformedDocument when nothing came of it nor of the one before."""
        self._stuck = self._stuck + 1 if self._calls == self._seen else 0
        self._seen = self._calls
        if self._stuck > 1:
            raise MalformedDocument("a tag or comment without an end")

    def close(self) -> Node:  # type: ignore[override]
        if self._root is None:
            raise MalformedDocument("no element")
        return self._root


def parse(data: bytes, root: str | None = None) -> Node:
    """The root element of a request. MalformedDocument for all that S3 would not read, also when the root is not `root`.

    `S3Error("MalformedXML")` is made of it by `abixio.s3.documents`, which handlers should prefer.
    """
    builder = Builder()
    parser = XMLParser(target=builder, encoding="utf-8", forbid_dtd=True)
    try:
        for at in range(0, len(data), SLICE):
            parser.feed(data[at : at + SLICE])
            builder.check_progress()
        element = cast(Node, parser.close())
    except (ParseError, DefusedXmlException, MalformedDocument) as error:
        raise MalformedDocument(str(error)) from error
    if root is not None and element.name != root:
        raise MalformedDocument(f"{element.name} instead of {root}")
    return element
