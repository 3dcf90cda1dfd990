"""What a document may hold: a grammar of elements, the check against it, and the way back to markup.

A settings document is kept as the markup of what was understood of it, so what is read is what was put. What the grammar does not
know is MalformedXML: an element that nobody looks at would be a promise that nobody keeps.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from abixio.s3.errors import S3Error
from abixio.s3.xml import Fragment, Node, node, text


@dataclass(frozen=True, slots=True)
class Field:
    """An element inside another: how often it may come, and what is in it."""

    name: str
    form: Form
    least: int = 1
    most: int = 1


Form = tuple[Field, ...] | re.Pattern[str] | frozenset[str]
"""Elements; text that matches; or one of these words, with any white space around it."""

ANY: Final = re.compile(r"(?s).*")
SOME: Final = re.compile(r"(?s).+")
FLAG: Final = frozenset({"true", "false"})
NUMBER: Final = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")
EMPTY: Final[tuple[Field, ...]] = ()
MANY: Final = 1000
"""More than any list of a settings document may have; what has a limit of its own is checked for that."""


def one(name: str, form: Form) -> Field:
    """Exactly one."""
    return Field(name, form)


def maybe(name: str, form: Form) -> Field:
    """One or none."""
    return Field(name, form, 0)


def some(name: str, form: Form, least: int = 0) -> Field:
    """A list without an element around it."""
    return Field(name, form, least, MANY)


def check(element: Node, form: Form) -> None:
    """MalformedXML unless the element has that form."""
    if not isinstance(form, tuple):
        if element.children or not _fits(element.value, form):
            raise S3Error("MalformedXML")
        return
    if element.value.strip():
        raise S3Error("MalformedXML")
    fields = {field.name: field for field in form}
    counts = dict.fromkeys(fields, 0)
    for child in element.children:
        if child.name not in fields:
            raise S3Error("MalformedXML")
        counts[child.name] += 1
        check(child, fields[child.name].form)
    if any(not field.least <= counts[name] <= field.most for name, field in fields.items()):
        raise S3Error("MalformedXML")


def _fits(value: str, form: re.Pattern[str] | frozenset[str]) -> bool:
    return value.strip() in form if isinstance(form, frozenset) else form.fullmatch(value) is not None


def inner(element: Node) -> str:
    """The markup of what is in an element that was checked."""
    return "".join(_markup(child) for child in element.children)


def _markup(element: Node) -> Fragment:
    if element.children:
        return node(element.name, *(_markup(child) for child in element.children))
    return text(element.name, element.value)


def word(element: Node | None, name: str) -> str:
    """The text of a child without white space around it; empty when there is none."""
    return "" if element is None else (element.text(name) or "").strip()


def has(element: Node, names: Collection[str]) -> bool:
    """Whether it has a child of one of those names."""
    return any(child.name in names for child in element.children)
