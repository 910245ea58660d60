"""Prompt streams: stories of several prompts, one for every clip of a long video, for training on changes and as scripts.

    python -m longtake.world.stories --count 500 -o stories.txt                        the pocket world's own
    python -m longtake.world.stories --source words.toml --count 1 -o script.txt       from your templates
    python -m longtake.world.stories --source my_module:tell --count 500 -o stories.txt    from a language model of yours

A file has a prompt per line, and an empty line between stories. It is written once, can be read and mended, and is what a
training run names. Templates (.toml) are lists of words: `pattern` with a {name} for each of them, and `keep`, the names of
those that stay throughout a story. A language model is a plug-in: a function of a `random.Random` and the number of prompts
that gives as many prompts.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from longtake.world.captions import UNSAID, caption, parse
from longtake.world.clip import Clip, Scene
from longtake.world.facts import JUDGED, TABLES, Facts, change_facts, sample_facts, visible
from longtake.world.words import WORDS

Tell = Callable[[random.Random, int], Sequence[str]]  # chance and length -> prompts


class StoryError(ValueError):
    """A story that cannot be told or understood; the message says where and what to do."""


# ---------------------------------------------------------------- telling
def pocket(rng: random.Random, length: int) -> list[str]:
    """A story of the pocket world: from prompt to prompt something changes, most often the motion."""
    facts = [sample_facts(rng)]
    while len(facts) < length:
        facts.append(change_facts(facts[-1], rng))
    return [caption(each, rng) for each in facts]


def from_templates(words: Mapping[str, Any]) -> Tell:
    """Stories of a pattern and lists of words; names in `keep` stay, of the others at least one changes every time."""
    pattern, keep = words.get("pattern"), words.get("keep", [])
    names = re.findall(r"{(\w+)}", pattern) if isinstance(pattern, str) else []
    lists = {name: words.get(name) for name in names}
    if not names or any(not isinstance(each, list) or not each for each in lists.values()):
        raise StoryError(
            'templates have a pattern such as "{who} {does} {where}" and a list of words for each name in it'
        )
    free = [name for name in names if name not in keep and len(set(lists[name] or ())) > 1]

    def tell(rng: random.Random, length: int) -> list[str]:
        said = {name: rng.choice(lists[name] or ()) for name in names}
        story = [str(pattern).format(**said)]
        while len(story) < length:
            for name in rng.sample(free, rng.randint(1, len(free))) if free else ():
                said[name] = rng.choice([word for word in lists[name] or () if word != said[name]])
            story.append(str(pattern).format(**said))
        return story

    return tell


def source(name: str) -> Tell:
    """What tells stories: "pocket", a .toml file of templates, or a plug-in, module:function. StoryError if it is none."""
    if name == "pocket":
        return pocket
    if name.endswith(".toml"):
        try:
            return from_templates(tomllib.loads(Path(name).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise StoryError(f"{name}: {error}") from error
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise StoryError(f"{name} is neither pocket, a .toml file, nor a function as module:name ({error})") from error


def told(tell: Tell, count: int, length: int, seed: int = 0) -> list[list[str]]:
    """`count` stories. StoryError if a plug-in gives something else than so many lines of text."""
    stories = [list(tell(random.Random(f"story {seed} {n}"), length)) for n in range(count)]
    for story in stories:
        if len(story) != length or not all(isinstance(p, str) and p.strip() and "\n" not in p for p in story):
            raise StoryError(f"a story has {length} prompts, each a line of text; this one is {story}")
    return stories


# ---------------------------------------------------------------- understanding, in the pocket world
def read(text: str) -> list[list[Facts]]:
    """The facts of every prompt of every story. What a prompt leaves out stays as it was.

    StoryError names a line that begins a story and leaves something out.
    """
    stories: list[list[Facts]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            stories.append([])
        elif not line.startswith("#"):
            stories[-1].append(_understood(line, stories[-1], number))
    return [story for story in stories if story]


def _understood(line: str, before: Sequence[Facts], number: int) -> Facts:
    said = parse(line)
    known = {name: getattr(before[-1], name) for name in TABLES} if before else {}
    if known and not any(phrase in line.lower() for phrase in WORDS["motion"]["still"]):
        said = {name: value for name, value in said.items() if (name, value) not in UNSAID.items()}
    missing = [name for name in JUDGED if name not in {**known, **said}]
    if missing:
        raise StoryError(f"line {number} begins a story and does not say the {' or the '.join(missing)}: {line!r}")
    return visible(Facts(**{**known, **said}), random.Random(line))


def passages(path: str, sha256: str) -> list[tuple[Facts, Facts]]:
    """The facts of a prompt and of the one after it, for all prompts of a file. StoryError if it is another file by now."""
    if digest(path) != sha256:
        raise StoryError(f"{path} is no longer what the clips were made from: use another folder for latents")
    return _passages(path, sha256)


@cache
def _passages(path: str, sha256: str) -> list[tuple[Facts, Facts]]:
    found = [pair for story in read(Path(path).read_text(encoding="utf-8")) for pair in pairwise(story)]
    if not found:
        raise StoryError(
            f"{path} holds no story of two prompts or more: write one with python -m longtake.world.stories"
        )
    return found


def digest(path: str) -> str:
    """SHA-256 of a file of stories. StoryError if there is none."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise StoryError(f"cannot read the stories {path}: {error.strerror}") from error


def passage(rng: random.Random, before: Facts, after: Facts) -> Clip:
    """A clip that begins with a frame of one prompt and goes over to the next one."""
    scenes = (Scene(before),) if before == after else (Scene(before), Scene(after, 1))
    return Clip(scenes, rng.randrange(1 << 30))


# ---------------------------------------------------------------- command
def main(arguments: Sequence[str] | None = None) -> int:
    """Write stories; 2 and a sentence if they cannot be told."""
    parser = argparse.ArgumentParser(prog="python -m longtake.world.stories", description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="pocket", help="pocket, a .toml file of templates, or module:function")
    parser.add_argument("--count", type=int, default=1, help="stories")
    parser.add_argument("--length", type=int, default=8, help="prompts of a story")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        stories = told(source(given.source), given.count, given.length, given.seed)
        given.output.write_text("\n\n".join("\n".join(story) for story in stories) + "\n", encoding="utf-8")
    except (StoryError, OSError) as error:
        print(f"longtake: {error}", file=sys.stderr)
        return 2
    print(f"written: {given.output}, {given.count} stories of {given.length} prompts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
