"""Bad scripts and flags, generated."""

import re

import pytest

from longtake.cli.app import parser
from longtake.cli.registry import COMMANDS
from tests.fuzz.harness import IMPOSTORS, SPECIAL, Case, cut, flipped, judge, special

CLOCK = ["--model", "clock", "-o", "{out}"]
GOOD = """image = "none.png"
[[scene]]
prompt = "a red ball rolls"
seconds = 1.0
cut = "hard"
"""
HEAD = '[[scene]]\nprompt = "a"\n'
VALUES = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "1e308",
    "1e23",
    "true",
    '"text"',
    "[]",
    "[1]",
    "{}",
    "1979-05-27",
    '""',
    "9" * 400,
)
KEYS = ("prompt", "seconds", "at", "cut", "lora")
FITS = {("prompt", '"text"'), ("prompt", '""'), ("cut", "true"), ("lora", "{}"), ("lora", "[]")}


def script(text: bytes | str, name: str = "s.toml"):
    def make(folder, rng):
        data = text(rng) if callable(text) else text
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return ["generate", "--script", folder / name, *CLOCK]

    return make


def scripts():
    """Bad scripts."""
    for key in KEYS:
        for value in VALUES:
            if (key, value) not in FITS:
                head = "[[scene]]\n" if key == "prompt" else HEAD
                yield Case(f"script {key} = {value[:12]}", script(f"{head}{key} = {value}\n"))
    for name, data in IMPOSTORS.items():
        if name not in ("text", "html", "lfs"):
            yield Case(f"script is {name}", script(data))
    texts = {
        "unknown key": HEAD + "promt = 1", "no scene": "abrupt = 0.5", "scene is text": 'scene = "a"', "scene is a table": "[scene]\nprompt = 'a'",
        "deep": HEAD + "lora = " + "[" * 5000 + "]" * 5000, "twice": HEAD + 'prompt = "b"', "at backwards": HEAD + '[[scene]]\nat=4\nprompt="b"\n[[scene]]\nat=2\nprompt="c"',
        "empty list": "scene = []", "latin-1": b'[[scene]]\nprompt = "caf\xe9"', "abrupt is text": 'abrupt = "x"\n' + HEAD,
        "abrupt is nan": "abrupt = nan\n" + HEAD, "image is a number": "image = 3\n" + HEAD, "large": HEAD + "#" + "x" * (2 << 20),
    }  # fmt: skip
    yield from (Case(f"script {name}", script(text)) for name, text in texts.items())
    for i in range(12):
        yield Case(f"script cut {i}", script(lambda rng: cut(GOOD.encode(), rng)), None)
        yield Case(f"script flipped {i}", script(lambda rng: flipped(GOOD.encode(), rng, 3)), None)
    for kind in SPECIAL:
        yield Case(
            f"script is a {kind}",
            lambda folder, rng, kind=kind: ["generate", "--script", special(folder / "s.toml", kind), *CLOCK],
        )


NUMBERS = ("nan", "inf", "-1", "1e30", "text", "9" * 30)


def number_flags():
    """The names of the flags of `generate` that take a number."""
    for argument in parser("generate", COMMANDS["generate"]).assemble_argument_collection(parse_docstring=True):
        if {"int", "float"} & set(re.findall(r"\w+", str(argument.hint))):
            yield argument.name


def flag(name, value):
    length = [] if name in ("--seconds", "--num-frames") else ["--seconds", "0.1"]
    return lambda folder, rng: ["generate", "a", f"{name}={value}", *length, *CLOCK]


HARMLESS = {  # values that a user may want, or that change nothing here; LTX-Video itself shifts by 1e8
    *(("--seed", value) for value in ("9" * 30, "-1")), ("--guidance-scale", "-1"), ("--ar-step", "9" * 30),
    *((name, value) for name in ("--image-cond-blur", "--image-cond-noise-scale", "--shift") for value in ("1e30", "9" * 30)),
}  # fmt: skip


def flags():
    """Bad values of flags."""
    for name in number_flags():
        for value in NUMBERS:
            yield Case(f"{name} {value}", flag(name, value), 0 if (name, value) in HARMLESS else 2)


@pytest.mark.long
@pytest.mark.parametrize("case", [*scripts()], ids=str)
def test_a_bad_script_is_refused(case, tmp_path):
    judge(case, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("case", [*flags()], ids=str)
def test_a_bad_flag_is_refused(case, tmp_path):
    judge(case, tmp_path)
