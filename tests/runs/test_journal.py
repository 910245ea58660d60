"""A journal cut off at any byte reads as its complete lines, is repaired by opening it, and can be appended to."""

import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.runs import RunError
from longtake.runs.files import journal
from longtake.runs.files.journal import Journal, SegmentEntry
from longtake.runs.files.layout import segment_name
from longtake.runs.files.schema import SchemaError

NOTES = st.fixed_dictionaries(
    {
        "differences": st.lists(st.one_of(st.text(max_size=8), st.integers(), st.none())),
        "run_sha256": st.text("0123456789abcdef", min_size=3),
    }
)


def entries(lengths: list[int]) -> list[SegmentEntry]:
    return [SegmentEntry(i, sum(lengths[:i]), n, segment_name(i), 1000 + i, f"{i:064x}") for i, n in enumerate(lengths)]


def write(path: Path, lengths: list[int], notes: list[dict] = ()) -> None:
    opened = Journal(path)
    for i, entry in enumerate(entries(lengths)):
        for note in notes[i : i + 1]:
            opened.append("differences_allowed", note)
        opened.append_segment(entry)
    opened.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 99), max_size=6), st.lists(NOTES, max_size=6), st.data())
def test_cut_off_anywhere(lengths, notes, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        write(path, lengths, notes)
        whole = path.read_bytes()
        before = list(journal.lines(path))
        cut = data.draw(st.integers(0, len(whole)), label="cut")
        path.write_bytes(whole[:cut])
        left = list(journal.lines(path))
        assert left == before[: len(left)] and len(left) == whole[:cut].count(b"\n")
        assert path.read_bytes() == whole[:cut]  # reading does not change the file
        Journal(path).close()
        assert whole.startswith(path.read_bytes()) and list(journal.lines(path)) == (left or before[:1])
        have = list(journal.segments(path))
        opened = Journal(path)
        for entry in entries(lengths)[len(have) :]:
            opened.append_segment(entry)
        opened.close()
        assert list(journal.segments(path)) == entries(lengths)


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=40))
def test_an_incomplete_last_line_is_dropped(rubbish):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        write(path, [5, 5])
        whole = path.read_bytes()
        path.write_bytes(whole + b"\xff" + rubbish.replace(b"\n", b"\0"))
        Journal(path).close()
        assert path.read_bytes() == whole


BROKEN = {
    "altered": lambda lines: [*lines[:2], b"{oops\n", *lines[3:]],
    "not an object": lambda lines: [*lines[:2], b'["a"]\n', *lines[3:]],
    "unknown kind": lambda lines: [*lines[:2], b'{"kind":"note"}\n', *lines[3:]],
    "a kind of another type": lambda lines: [*lines[:2], b'{"kind":[]}\n', *lines[3:]],
    "nested too deep": lambda lines: [*lines[:2], b"[" * 100_000 + b"\n", *lines[3:]],
    "unknown key": lambda lines: [*lines[:2], lines[2].replace(b'"bytes"', b'"size"'), *lines[3:]],
    "one missing": lambda lines: [*lines[:2], *lines[3:]],
    "one twice": lambda lines: [*lines[:2], *lines[1:]],
    "out of order": lambda lines: [lines[0], *lines[2:], lines[1]],
    "another file": lambda lines: [*lines[:2], lines[2].replace(b"s000001.m4s", b"../../other"), *lines[3:]],
    "header altered": lambda lines: [b"{oops\n", *lines[1:]],
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_damaged_line_is_refused_and_can_be_cut_away(tmp_path, how):
    path = tmp_path / "journal.jsonl"
    write(path, [5, 5, 5, 5])
    path.write_bytes(b"".join(BROKEN[how](path.read_bytes().splitlines(keepends=True))))
    for read in (lambda: list(journal.segments(path)), lambda: Journal(path)):
        with pytest.raises(RunError, match=r"damaged at line \d: .*--repair"):
            read()
    kept = path.read_bytes()[: journal.sound_length(path, strict=False)]
    path.write_bytes(kept)
    assert list(journal.segments(path)) == entries([5, 5, 5, 5])[: max(0, kept.count(b"\n") - 1)]


def test_segments_are_read_from_any_number_on(tmp_path):
    path = tmp_path / "journal.jsonl"
    assert list(journal.segments(path)) == []
    write(path, [3, 4, 5], [{"differences": ["ü"], "run_sha256": "ab"}])
    assert list(journal.segments(path, start=1)) == entries([3, 4, 5])[1:]
    assert list(journal.lines_of_kind(path, "differences_allowed")) == [
        {"kind": "differences_allowed", "differences": ["ü"], "run_sha256": "ab"}
    ]
    assert journal.init_digest(path) is None and journal.last_video(path) is None
    assert asdict(entries([3])[0])["file"] == "s000000.m4s"


def test_the_first_line_names_the_schema(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, [3])
    assert path.read_bytes().startswith(b'{"kind":"journal","schema":2,"run_sha256":"","check":"')
    path.write_bytes(b'{"kind":"segment","index":0}\n')
    with pytest.raises(RunError, match=r"was made by longtake 0\.1; finish it with that version$"):
        list(journal.lines(path))


def test_lines_have_exactly_the_keys_of_their_kind(tmp_path):
    opened = Journal(tmp_path / "journal.jsonl")
    for facts in ({}, {"bytes": 1}, {"bytes": 1, "sha256": "", "more": 2}, {"bytes": True, "sha256": ""}):
        with pytest.raises(SchemaError):
            opened.append("init", facts)
    opened.close()
    assert len(list(journal.lines(tmp_path / "journal.jsonl"))) == 1
