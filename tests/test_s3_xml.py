"""Documents out and in."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from abixio.s3.xml import MAX_ELEMENTS, MalformedDocument, document, escape, node, parse, readable, text

XML_CHARACTERS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff", include_characters="\t\n\r")
)


def test_a_document_has_a_declaration_and_the_namespace_of_s3() -> None:
    assert document("A", text("B", "c"), node("D", text("E", 1), text("F", True), text("G", None))) == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<A xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<B>c</B><D><E>1</E><F>true</F></D></A>"
    )
    assert document("A", namespace="").endswith(b"<A></A>")


@given(XML_CHARACTERS)
def test_what_xml_can_carry_comes_back_exactly(value: str) -> None:
    made = document("A", text("Key", value))
    assert (ET.fromstring(made)[0].text or "") == value
    assert parse(made).text("Key") == value


def test_what_xml_cannot_carry_becomes_a_reference() -> None:
    assert escape("\x01\x1f\r\uffff") == "&#x1;&#x1f;&#xd;&#xffff;"
    assert escape("a<b>&\"c'") == "a&lt;b&gt;&amp;&quot;c'"


@given(st.text(st.characters()))
@example("\ud800")
def test_every_string_can_be_written(value: str) -> None:
    made = document("A", text("Key", value))
    assert made.startswith(b"<?xml")
    assert b"\x00" not in made


def test_elements_are_found_by_name_with_or_without_a_namespace() -> None:
    body = "<Delete{}><Quiet>true</Quiet><Object><Key> a </Key></Object><Object><Key>b&amp;c</Key></Object></Delete>"
    for namespace in ("", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', ' xmlns="urn:other"'):
        root = parse(body.format(namespace).encode(), "Delete")
        assert root.text("Quiet") == "true"
        assert [found.text("Key") for found in root.all("Object")] == [" a ", "b&c"]
        assert root.find("Object") is root.children[1]
        assert root.find("Missing") is None
        assert root.text("Missing") is None


def test_character_data_is_whole_when_the_parser_sees_it_in_pieces() -> None:
    value = "line\nline &lt;&#13;<![CDATA[<x>]]><!-- no -->end"
    assert parse(f"<A><B>{value}</B></A>".encode()).text("B") == "line\nline <\r<x>end"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not xml",
        b"<A>",
        b"<A></B>",
        b"<A/><B/>",
        b"<A>\xff</A>",
        b"<A>&#1;</A>",
        b"<A>\x00</A>",
        b"<A>&unknown;</A>",
        b"<!DOCTYPE A><A/>",
        b'<!DOCTYPE A SYSTEM "http://127.0.0.1/x.dtd"><A/>',
        b'<!DOCTYPE A [<!ENTITY e "x">]><A>&e;</A>',
        b'<!DOCTYPE A [<!ENTITY e SYSTEM "file:///etc/passwd">]><A>&e;</A>',
        b'<!DOCTYPE A [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><A/>',
        b'<?xml version="1.0" encoding="latin-1"?><A>\xe9</A>',
        b"<A>" * 17 + b"</A>" * 17,
        b"<A>" * 100_000,
    ],
)
def test_what_s3_would_not_read_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedDocument):
        parse(data)


def test_a_bomb_of_entities_is_refused_at_its_declaration() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    with pytest.raises(MalformedDocument, match="DTDForbidden"):
        parse(f'<!DOCTYPE A [<!ENTITY e0 "boom">{entities}]><A>&e9;</A>'.encode())


def test_more_elements_than_any_request_has_are_refused() -> None:
    with pytest.raises(MalformedDocument, match="too many"):
        parse(b"<A>" + b"<B/>" * MAX_ELEMENTS + b"</A>")


def test_another_root_than_expected_is_refused() -> None:
    with pytest.raises(MalformedDocument, match="Other instead of Delete"):
        parse(b"<Other/>", "Delete")


@pytest.mark.parametrize(
    "data",
    [b"<a " + b" ".join(b'a%x=">"' % number for number in range(20_000)) + b"/>", b"<a><!--" + b"-x" * 50_000 + b"--></a>",
     b"<a b='" + b"x" * 100_000 + b"'/>", b"<a><?b " + b"x" * 100_000 + b"?></a>"],
)
def test_a_tag_or_comment_longer_than_any_request_has_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedDocument, match="without an end"):
        parse(data)


def test_long_character_data_and_many_slices_are_read_whole() -> None:
    value = "x\n&amp;<![CDATA[é]]>" * 20_000
    found = parse(f"<a><b>{value}</b><c>{'y' * 60_000}</c></a>".encode())
    assert found.text("b") == "x\n&é" * 20_000
    assert found.text("c") == "y" * 60_000


def test_an_error_can_be_read_by_strict_parsers() -> None:
    assert readable("a\x00\x0b\ufffe\t\n\x85é") == "a\ufffd\ufffd\ufffd\t\n\x85é"
