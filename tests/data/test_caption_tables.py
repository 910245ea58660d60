"""Captions that people wrote are matched with their videos, and every error is reported with its line."""

import json

import pytest

from longtake.data.captions.tables import TableError, find_table, read_table, read_text

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
    assert found.lines == {"a.mp4": 2, "in/b.mov": 4} and found.unused == ["mood"]


def test_a_jsonl_of_parts(tmp_path):
    lines = (
        '{"video": "a.mp4", "subject": ["a cat", "a dog"], "shot size": "wide"}\n\n{"path": "in\\\\b.mov", "text": "x"}'
    )
    found = table(tmp_path, "c.jsonl", lines)
    assert found.captions["a.mp4"][0][1].sentence() == "Wide shot: a cat and a dog."
    assert found.captions["in/b.mov"][0][1].text == "x" and found.lines["in/b.mov"] == 3


def test_a_video_may_have_captions_over_time(tmp_path):
    found = table(tmp_path, "c.csv", "file,start,caption\na.mp4,2.5,then\na.mp4,,first\nb.mov,1,late\n")
    assert [(start, said.text) for start, said in found.captions["a.mp4"]] == [(0, "first"), (2.5, "then")]
    assert [start for start, _ in found.captions["in/b.mov"]] == [1] and found.unused == []
    for start, words in (
        ("x", "start 'x' is not a time"),
        ("-1", "is not a time"),
        ("nan", "not a time"),
        ("2.50", "in line 2"),
    ):
        with pytest.raises(TableError, match=words):
            table(tmp_path, "c.csv", f"file,start,caption\na.mp4,2.5,then\na.mp4,{start},other\n")


def test_names_match_in_any_unicode_form(tmp_path):
    found = table(tmp_path, "c.csv", "file,caption\nu\u0308.mp4,decomposed\nelsewhere.mp4,x\n")
    assert found.captions["in/ü.mp4"][0][1].text == "decomposed" and found.unmatched == ["line 3: elsewhere.mp4"]


def test_all_errors_are_reported_at_once(tmp_path):
    content = (
        "file,caption,angle\na.mp4,,\nb.mov,x,sideways\nsame.mp4,x,\nin/b.mov,x,low\nin/b.mov,y,low\na.mp4,b\n,x,\n"
    )
    with pytest.raises(TableError) as error:
        table(tmp_path, "c.csv", content)
    for words in (
        "line 2: a.mp4 has an empty caption", "line 3: angle 'sideways' is not allowed", "line 4: several videos",
        "line 6: in/b.mov has a caption already, in line 5", "line 7: the row has 2 fields instead of 3",
        "line 8: the row names no file",
    ):  # fmt: skip
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.csv", "name,words\na,b\n", "must name the columns"),
        ("c.csv", "", "must name the columns"),
        ("c.csv", 'file,caption\na.mp4,"never closed\n', "line"),
        ("c.jsonl", "[1]\n", "line 1: the line is not an object"),
        ("c.jsonl", '{"file": "a.mp4"\n', "line 1: the line is not JSON"),
        ("c.jsonl", '{"file": "a.mp4", "caption": 3}', "text must be text"),
        ("c.xml", "<a/>", "is not a table of captions"),
        ("c.csv", "file,caption\na.mp4,caf\xe9\n".encode("latin-1"), "line 2 is not utf-8"),
    ],
)
def test_errors_of_a_whole_table(tmp_path, name, content, words):
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
    with pytest.raises(TableError, match="unknown text encoding"):
        read_text(tmp_path / "a.txt", "utf-99")
    (tmp_path / "b.txt").write_text(" \n")
    with pytest.raises(TableError, match="is empty"):
        read_text(tmp_path / "b.txt")


def test_two_tables_in_a_folder_are_refused(tmp_path):
    assert find_table(tmp_path) is None
    (tmp_path / "a.csv").touch()
    assert find_table(tmp_path) == tmp_path / "a.csv"
    (tmp_path / "video.csv").touch()  # belongs to a video
    assert find_table(tmp_path, ["video.mp4", "in/a.mp4"]) == tmp_path / "a.csv"
    (tmp_path / "b.jsonl").touch()
    with pytest.raises(TableError, match="--captions"):
        find_table(tmp_path)


# ---------------------------------------------------------------- as other trainers write them
@pytest.mark.parametrize("file", ["file", "video", "video_path", "media_path", "file_name", "path"])
@pytest.mark.parametrize("text", ["caption", "text", "prompt"])
def test_the_names_of_other_trainers_are_read(tmp_path, file, text):
    assert table(tmp_path, "c.csv", f"{file},{text}\na.mp4,a dog\n").captions["a.mp4"][0][1].text == "a dog"
    rows = json.dumps([{file: "a.mp4", text: "a dog"}])
    assert table(tmp_path, "metadata.json", rows).captions["a.mp4"][0][1].text == "a dog"


def test_paths_that_lead_into_the_folder_are_found(tmp_path, monkeypatch):
    videos = tmp_path / "videos"
    (videos / "in").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(videos)
    read = lambda path: read_table(path, VIDEOS, folder=videos)
    for written in (videos / "in" / "b.mov", link / "in" / "b.mov", "videos/in/b.mov", "in/../in/b.mov", "./in/b.mov"):
        (tmp_path / "c.csv").write_text(f"video_path,caption\n{written},a dog\n")
        assert list(read(tmp_path / "c.csv").captions) == ["in/b.mov"], written
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "c.csv").write_text("file,caption\nvideos/in/b.mov,a dog\n")
    monkeypatch.chdir(tmp_path)
    assert list(read(tmp_path / "lists" / "c.csv").captions) == ["in/b.mov"], "from the working directory"
    for elsewhere in ("/elsewhere/in/b.mov", tmp_path / "in" / "b.mov", "in/\0b.mov"):
        (tmp_path / "c.csv").write_text(f"file,caption\na.mp4,x\n{elsewhere},a dog\n")
        assert list(read(tmp_path / "c.csv").captions) == ["a.mp4"]


@pytest.mark.parametrize("name", ["prompt.txt", "prompts.txt"])
def test_a_list_of_videos_and_one_of_prompts(tmp_path, name):
    (tmp_path / "videos.txt").write_text("\ufeffa.mp4\n\nin/b.mov\n", encoding="utf-8")
    (tmp_path / name).write_text("a dog, wet\n\na cat\n")
    assert find_table(tmp_path, VIDEOS) == tmp_path / "videos.txt"
    found = read_table(tmp_path / "videos.txt", VIDEOS)
    assert {video: said[0][1].text for video, said in found.captions.items()} == {
        "a.mp4": "a dog, wet",
        "in/b.mov": "a cat",
    }
    (tmp_path / name).write_text("a dog\n")
    with pytest.raises(TableError, match=rf"videos\.txt has 3 lines and {name} 1"):
        read_table(tmp_path / "videos.txt", VIDEOS)
    (tmp_path / "c.csv").write_text("file,caption\n")
    with pytest.raises(TableError, match="several tables"):
        find_table(tmp_path, VIDEOS)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "c.csv",
            "file,caption\nz.mp4,x\ny.mp4,x\n",
            "none of its 2 rows names a video of this folder, such as 'line 2: z.mp4'",
        ),
        ("c.csv", "file,caption\n", "it has no rows"),
        ("c.jsonl", "", "it has no rows"),
        ("c.json", "{}", "is not a list"),
        ("c.json", "[" * 9999, "is not JSON"),
        ("c.json", "[1]", "line 1: it is not an object"),
        ("c.jsonl", "[" * 9999, "line 1"),
        ("c.jsonl", '{"file": "a.mp4", "caption": "x", "n": ' + "9" * 5000 + "}", "line 1: the line cannot be read"),
        ("videos.txt", "a.mp4\n", "is not a table of captions"),
    ],
)
def test_a_table_of_which_no_row_matches_is_an_error(tmp_path, name, content, words):
    with pytest.raises(TableError, match=words):
        table(tmp_path, name, content)
