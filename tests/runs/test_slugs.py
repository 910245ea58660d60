"""Names made from prompts: of any language, short, and safe on every file system."""

import re

import pytest

from longtake.runs.slugs import slug


@pytest.mark.parametrize("prompt, name", [
    ("A red_ball, rolls!", "a-red-ball-rolls"),
    ("../ёж/..", "ёж"),
    ("红球 滚动", "红球-滚动"),
    ("लाल गेंद", "लाल-गेंद"),
    ("كرة حمراء", "كرة-حمراء"),
    ("Ｆｕｌｌ　ｗｉｄｔｈ №5", "full-width-no5"),
    ("e\u0301te\u0301", "été"),
    ("🎈", "video"),
    ("-o --help $(rm) `x` \"y\" 'z'\n", "o-help-rm-x-y-z"),
])  # fmt: skip
def test_letters_and_digits_stay(prompt, name):
    assert slug(prompt) == name


@pytest.mark.parametrize("prompt", ["a very long prompt about a red ball " * 40, "word" * 200, "球" * 500, "é" * 500])
def test_long_prompts_give_short_names(prompt):
    name = slug(prompt)
    assert 1 < len(name) <= 48 and len(name.encode()) <= 120
    assert re.fullmatch(r"[^\W_]+(-[^\W_]+)*", name)
