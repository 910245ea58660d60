"""The header Range: exact bytes or nothing, and no cost that grows with the header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.server.delivery.ranges import Span, UnsatisfiableRangeError, requested_span


@pytest.mark.parametrize(
    ("header", "span"),
    [("bytes=0-", Span(0, 99)), ("bytes=0-0", Span(0, 0)), ("bytes=10-19", Span(10, 19)), ("bytes=90-500", Span(90, 99)),
     ("bytes=-10", Span(90, 99)), ("bytes=-500", Span(0, 99)), (" bytes=5- ", Span(5, 99))],
)  # fmt: skip
def test_one_range(header, span):
    assert requested_span(header, 100) == span


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=9-3",
        "bytes=0-1,5-6",
        "items=0-1",
        "bytes=a-b",
        "bytes=0-1,",
        "bytes=٣-",
        "bytes 0-1",
    ],
)
def test_several_and_invalid_ranges_are_ignored(header):
    assert requested_span(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=999999999999999999-"])
def test_a_range_behind_the_end(header):
    with pytest.raises(UnsatisfiableRangeError):
        requested_span(header, 100)


def test_thousands_of_ranges_cost_nothing():
    """Starlette CVE-2025-62727: merging many ranges took quadratic time."""
    assert requested_span("bytes=" + ",".join(f"{i}-{i}" for i in range(100_000)), 100) is None


@given(st.text(alphabet="bytes=0123456789-, ", max_size=30), st.integers(0, 1000))
def test_any_header_gives_bytes_that_exist(header, size):
    try:
        span = requested_span(header, size)
    except UnsatisfiableRangeError:
        return
    assert span is None or 0 <= span.first <= span.last < size
