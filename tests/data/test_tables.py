"""Captions that people wrote are matched with their videos, and every fault is told with its line."""

import pytest

from longtake.data.tables import TableError, find_table, read_table, read_text

VIDEOS = ["a.mp4", "in/b.mov", "in/ü.mp4", "one/same.mp4", "two/same.mp4"]


def table(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(tmp_path / name, VIDEOS)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_csv_of_captions(tmp_path, mark):
    rows = [
        ("file", "caption", "mood"),
        ("a.mp4", '"a dog, wet\nand cold"', "x"),
        ("b.mov", "a  cat", ""),
        ("", "", ""),
    ]
    found = table(tmp_path, "c.csv", "\r\n".join(mark.join(row) for row in rows))
    assert {name: [(start, caption.text) for start, caption in said] for name, said in found.captions.items()} == {
        "a.mp4": [(0, "a dog, wet and cold")], "in/b.mov": [(0, "a cat")],
    }  # fmt: skip
    assert found.lines == {"a.mp4": 2, "in/b.mov": 4} and found.ignored == ["mood"]


def test_a_jsonl_of_parts(tmp_path):
    lines = (
        '{"video": "a.mp4", "subject": ["a cat", "a dog"], "shot size": "wide"}\n\n{"path": "in\\\\b.mov", "text": "x"}'
    )
    found = table(tmp_path, "c.jsonl", lines)
    assert found.captions["a.mp4"][0][1].sentence() == "Wide shot: a cat and a dog."
    assert found.captions["in/b.mov"][0][1].text == "x" and found.lines["in/b.mov"] == 3


def test_a_video_may_have_a_caption_for_every_time(tmp_path):
    found = table(tmp_path, "c.csv", "file,start,caption\na.mp4,2.5,then\na.mp4,,first\nb.mov,1,late\n")
    assert [(start, said.text) for start, said in found.captions["a.mp4"]] == [(0, "first"), (2.5, "then")]
    assert [start for start, _ in found.captions["in/b.mov"]] == [1] and found.ignored == []
    for start, words in (
        ("x", "start 'x' is no time"),
        ("-1", "is no time"),
        ("nan", "no time"),
        ("2.50", "in line 2"),
    ):
        with pytest.raises(TableError, match=words):
            table(tmp_path, "c.csv", f"file,start,caption\na.mp4,2.5,then\na.mp4,{start},other\n")


def test_names_match_in_any_spelling_of_their_letters(tmp_path):
    found = table(tmp_path, "c.csv", "file,caption\nu\u0308.mp4,decomposed\nelsewhere.mp4,x\n")
    assert found.captions["in/ü.mp4"][0][1].text == "decomposed" and found.strangers == ["line 3: elsewhere.mp4"]


def test_all_faults_are_told_at_once(tmp_path):
    content = (
        "file,caption,angle\na.mp4,,\nb.mov,x,sideways\nsame.mp4,x,\nin/b.mov,x,low\nin/b.mov,y,low\na.mp4,b\n,x,\n"
    )
    with pytest.raises(TableError) as said:
        table(tmp_path, "c.csv", content)
    for words in (
        "line 2: a.mp4 has an empty caption", "line 3: angle 'sideways' is not known", "line 4: several videos",
        "line 6: in/b.mov has a caption already, in line 5", "line 7: it has 2 fields instead of 3",
        "line 8: it names no file",
    ):  # fmt: skip
        assert words in str(said.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.csv", "name,words\na,b\n", "must name the columns"),
        ("c.csv", "", "must name the columns"),
        ("c.csv", 'file,caption\na.mp4,"never closed\n', "line"),
        ("c.jsonl", "[1]\n", "line 1: it is no object"),
        ("c.jsonl", '{"file": "a.mp4"\n', "line 1: it is not JSON"),
        ("c.jsonl", '{"file": "a.mp4", "caption": 3}', "text must be text"),
        ("c.xml", "<a/>", "no table of captions"),
        ("c.csv", "file,caption\na.mp4,caf\xe9\n".encode("latin-1"), "line 2 is not utf-8"),
    ],
)
def test_faults_of_a_whole_table(tmp_path, name, content, words):
    with pytest.raises(TableError, match=words):
        table(tmp_path, name, content)


def test_encodings(tmp_path):
    assert (
        table(tmp_path, "c.csv", "file,caption\na.mp4,café\n".encode("utf-16")).captions["a.mp4"][0][1].text == "café"
    )
    (tmp_path / "a.txt").write_bytes("café\n au lait".encode("cp1252"))
    assert read_text(tmp_path / "a.txt", "cp1252").text == "café au lait"
    with pytest.raises(TableError, match="--encoding"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(TableError, match="no text encoding"):
        read_text(tmp_path / "a.txt", "utf-99")
    (tmp_path / "b.txt").write_text(" \n")
    with pytest.raises(TableError, match="is empty"):
        read_text(tmp_path / "b.txt")


def test_two_tables_in_a_folder_are_one_too_many(tmp_path):
    assert find_table(tmp_path) is None
    (tmp_path / "a.csv").touch()
    assert find_table(tmp_path) == tmp_path / "a.csv"
    (tmp_path / "video.csv").touch()  # belongs to a video
    assert find_table(tmp_path, ["video.mp4", "in/a.mp4"]) == tmp_path / "a.csv"
    (tmp_path / "b.jsonl").touch()
    with pytest.raises(TableError, match="--captions"):
        find_table(tmp_path)
