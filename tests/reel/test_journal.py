"""A journal cut off at any byte reads as its whole lines, is repaired by opening it, and goes on."""

import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.reel import ReelError, journal
from longtake.reel.journal import Entry, Journal
from longtake.reel.layout import segment_name

NOTES = st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(st.text(max_size=8), st.integers(), st.none()))


def entries(lengths: list[int]) -> list[Entry]:
    return [Entry(i, sum(lengths[:i]), n, segment_name(i), 1000 + i, f"{i:064x}") for i, n in enumerate(lengths)]


def write(path: Path, lengths: list[int], notes: list[dict] = ()) -> None:
    book = Journal(path)
    for i, entry in enumerate(entries(lengths)):
        for note in notes[i : i + 1]:
            book.append("note", note)
        book.add(entry)
    book.close()


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
        assert path.read_bytes() == whole[:cut]  # reading changes nothing
        Journal(path).close()
        assert whole.startswith(path.read_bytes()) and list(journal.lines(path)) == left
        have = list(journal.segments(path))
        book = Journal(path)
        for entry in entries(lengths)[len(have) :]:
            book.add(entry)
        book.close()
        assert list(journal.segments(path)) == entries(lengths)


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=40))
def test_rubbish_at_the_end_is_dropped(rubbish):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        write(path, [5, 5])
        whole = path.read_bytes()
        path.write_bytes(whole + b"\xff" + rubbish.replace(b"\n", b"\0"))
        Journal(path).close()
        assert path.read_bytes() == whole


BROKEN = {
    "altered": lambda lines: [lines[0], b"{oops\n", *lines[2:]],
    "not a line of ours": lambda lines: [lines[0], b'["a"]\n', *lines[2:]],
    "one missing": lambda lines: [lines[0], *lines[2:]],
    "one twice": lambda lines: [lines[0], *lines],
    "out of order": lambda lines: [*lines[1:], lines[0]],
    "another file": lambda lines: [lines[0], lines[1].replace(b"s000001.m4s", b"../../other"), *lines[2:]],
}


@pytest.mark.parametrize("how", BROKEN)
def test_damage_in_the_middle_is_refused_and_can_be_cut_away(tmp_path, how):
    path = tmp_path / "journal.jsonl"
    write(path, [5, 5, 5, 5])
    path.write_bytes(b"".join(BROKEN[how](path.read_bytes().splitlines(keepends=True))))
    for read in (lambda: list(journal.segments(path)), lambda: Journal(path)):
        with pytest.raises(ReelError, match=r"damaged at line \d: .*--repair"):
            read()
    kept = path.read_bytes()[: journal.sound(path, strict=False)]
    path.write_bytes(kept)
    assert list(journal.segments(path)) == entries([5, 5, 5, 5])[: kept.count(b"\n")]


def test_segments_are_read_from_any_number_on(tmp_path):
    path = tmp_path / "journal.jsonl"
    assert list(journal.segments(path)) == []
    write(path, [3, 4, 5], [{"a": "ü"}])
    assert list(journal.segments(path, start=1)) == entries([3, 4, 5])[1:]
    assert list(journal.notes(path, "note")) == [{"kind": "note", "a": "ü"}]
    assert journal.init(path) is None and journal.published(path) is None
    assert asdict(entries([3])[0])["file"] == "s000000.m4s"
