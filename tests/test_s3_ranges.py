"""The Range header."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abixio.s3.errors import S3Error
from abixio.s3.ranges import Span, content_range, parse, parse_copy


@pytest.mark.parametrize(
    ("header", "size", "span"),
    [
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=0-9", 10, (0, 10)),
        ("bytes=0-10", 10, (0, 10)),
        ("bytes=3-", 10, (3, 7)),
        ("bytes=9-", 10, (9, 1)),
        ("bytes=-3", 10, (7, 3)),
        ("bytes=-10", 10, (0, 10)),
        ("bytes=-11", 10, (0, 10)),
        ("bytes=2-99999999999999999999999999", 10, (2, 8)),
        ("bytes=-" + "9" * 5000, 10, (0, 10)),
        ("Bytes=1-2", 10, (1, 2)),
        (" bytes = 1 - 2 ", 10, (1, 2)),
        ("bytes=0001-0002", 10, (1, 2)),
    ],
)
def test_one_range(header: str, size: int, span: tuple[int, int]) -> None:
    assert parse(header, size) == span


@pytest.mark.parametrize(
    "header",
    ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1-2,4-5", "bytes=0-0,", "items=0-1", "bytes=5-4", "bytes=1--2",
     "bytes=+1-2", "bytes=1-2;", "0-5", "bytes=٣-٤"],
)
def test_malformed_and_several_ranges_mean_the_whole_object(header: str) -> None:
    assert parse(header, 10) is None
    assert parse(header, 0) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=10-", 10), ("bytes=10-20", 10), ("bytes=" + "9" * 5000 + "-", 10), ("bytes=-0", 10), ("bytes=0-", 0),
     ("bytes=0-0", 0), ("bytes=-1", 0)],
)
def test_a_range_without_a_byte_is_416_and_says_the_size(header: str, size: int) -> None:
    with pytest.raises(S3Error) as caught:
        parse(header, size)
    error = caught.value
    assert (error.code, error.status) == ("InvalidRange", 416)
    assert error.headers == [("Content-Range", f"bytes */{size}")]
    assert error.fields == {"RangeRequested": header, "ActualObjectSize": size}


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 40))
def test_a_range_is_the_slice_that_python_would_take(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    expected = data[first : last + 1]
    try:
        span = parse(f"bytes={first}-{last}", size)
    except S3Error:
        assert not expected
        assert first <= last
        return
    if span is None:
        assert last < first
    else:
        assert data[span.start : span.start + span.length] == expected


@given(st.integers(1, 30), st.integers(1, 40))
def test_a_suffix_is_the_slice_that_python_would_take(size: int, count: int) -> None:
    data = bytes(range(size))
    span = parse(f"bytes=-{count}", size)
    assert span is not None
    assert data[span.start : span.start + span.length] == data[-count:]


@given(st.text(max_size=40), st.integers(0, 2**40))
def test_no_header_can_break_the_parser(header: str, size: int) -> None:
    span = None
    with contextlib.suppress(S3Error):
        span = parse("bytes=" + header, size)
    assert span is None or (span.start >= 0 and span.length > 0 and span.start + span.length <= size)


def test_content_range() -> None:
    assert content_range(Span(3, 4), 10) == "bytes 3-6/10"


def test_a_copy_range_is_strict() -> None:
    assert parse_copy("bytes=2-5", 10) == (2, 4)
    for header in ("bytes=2-", "bytes=-2", "2-5", "bytes=5-2", "bytes=2-10", "bytes=2-5,7-8", " bytes=2-5", "bytes=0-0 "):
        with pytest.raises(S3Error) as caught:
            parse_copy(header, 10)
        assert caught.value.code == "InvalidArgument"
        assert caught.value.fields["ArgumentName"] == "x-amz-copy-source-range"
