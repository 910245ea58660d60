"""Run directories with flipped bits and wrong things in them: named by `verify`, and refused or made whole by `resume`."""

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from longtake.cli import run
from tests.fuzz.harness import SPECIAL, Case, cut, flipped, judge, special

KEPT = ("run.json", "journal.jsonl", "index.m3u8", "media/init.mp4", "media/s000000.m4s", "media/s000001.m4s")


@cache
def finished() -> Path:
    """A finished run of 2 seconds."""
    out = Path(mkdtemp()) / "run"
    assert run(["generate", "a", "--model", "clock", "--seconds", "2", "-o", str(out)]) == 0
    return out


@cache
def stopped() -> Path:
    """A run that was stopped: its journal ends after two of four segments, and it has a snapshot."""
    import longtake.cli.progress as progress
    from longtake.core.platform import Stopped
    from longtake.runs import SegmentWritten

    out, saw = Path(mkdtemp()) / "run", progress.LineOutput.show

    def stop(self, event):
        saw(self, event)
        if isinstance(event, SegmentWritten) and event.index == 3:
            raise Stopped(2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.LineOutput, "show", stop)
        words = ["--strategy", "sliding", "--window", "33", "--overlap", "9", "--steps", "2", "--seconds", "6"]
        assert run(["generate", "a", "--model", "clock", *words, "-o", str(out)]) == 130
    return out


def on(source, change, *words):
    """Call a command on a copy of a run that `change` (folder, rng) has spoilt; the copy is the output."""

    def make(folder, rng):
        copy = shutil.copytree(source(), folder.parent / "out")
        change(copy, rng)
        return [*words[:1], copy, *words[1:]]

    return make


def spoil(name, how):
    def change(copy, rng):
        files = sorted(copy.glob(name))
        file = rng.choice(files)
        data = file.read_bytes()
        file.write_bytes(cut(data, rng) if how == "cut" else flipped(data, rng))

    return change


def put(name, kind):
    def change(copy, rng):
        if (copy / name).is_dir():
            shutil.rmtree(copy / name)
        else:
            (copy / name).unlink()
        special(copy / name, kind)

    return change


def text(name, data):
    return lambda copy, rng: (copy / name).write_text(data)


def setting(key, value):
    def change(copy, rng):
        whole = json.loads((copy / "run.json").read_text())
        (copy / "run.json").write_text(json.dumps({**whole, key: value}))

    return change


def damaged():
    """Damage that `verify` finds."""
    for name in (*KEPT, "video.mp4"):
        code = -1 if name == "run.json" else 1  # one that is no JSON ends in 2: there is no run to check
        for i in range(6):
            yield Case(
                f"verify {name} flipped {i}", on(finished, spoil(name, "flip"), "verify", "--no-regenerate"), code
            )
        yield Case(f"verify {name} cut", on(finished, spoil(name, "cut"), "verify", "--no-regenerate"), code)
    for i in range(6):
        yield Case(
            f"verify snapshot flipped {i}", on(stopped, spoil("snapshots/*", "flip"), "verify", "--no-regenerate"), 1
        )


def refused():
    """Run directories that cannot be resumed."""
    texts = ("", "{", "[]", "3", "null", "{}", "[" * 100000, '{"schema": 1}', '{"schema": "x"}', '{"schema": 1e999}')
    for command in ("resume", "verify"):
        for i, data in enumerate(texts):
            yield Case(f"{command} run.json {i}", on(stopped, text("run.json", data), command))
        for kind in SPECIAL:
            yield Case(f"{command} run.json is a {kind}", on(stopped, put("run.json", kind), command))
        for kind in SPECIAL[:-1]:
            yield Case(f"{command} journal is a {kind}", on(stopped, put("journal.jsonl", kind), command), -1)
    for kind in SPECIAL[1:-1]:
        for name in ("LOCK", "snapshots", "media"):
            yield Case(f"resume {name} is a {kind}", on(stopped, put(name, kind), "resume"))
    for key in ("schema", "settings", "weights", "fps", "size", "frames", "segment", "numerics"):
        for i, value in enumerate((None, -1, "x", [], {}, 1e308)):
            yield Case(f"resume {key} {i}", on(stopped, setting(key, value), "resume"))


@cache
def unbroken() -> bytes:
    """The video of the stopped run, resumed without damage."""
    copy = shutil.copytree(stopped(), Path(mkdtemp()) / "run")
    assert run(["resume", str(copy)]) == 0
    return (copy / "video.mp4").read_bytes()


def whole(out: Path) -> None:
    """The video has the bytes of a run that was never damaged."""
    assert (out / "video.mp4").read_bytes() == unbroken()


def resumed():
    """Changed bits, after which a resume is refused or ends with the whole video."""
    for i in range(30):
        name = (*KEPT[:5], "snapshots/*")[i % 6]
        yield Case(f"resume {name} flipped {i}", on(stopped, spoil(name, "flip"), "resume"), None, whole=whole)


@pytest.mark.long
@pytest.mark.parametrize("case", [*damaged(), *refused(), *resumed()], ids=str)
def test_a_damaged_run_is_named(case, tmp_path):
    judge(case, tmp_path)
