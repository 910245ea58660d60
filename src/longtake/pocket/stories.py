"""Stories: sequences of prompts for a long video, one for each clip, to train on changes or to use as a script.

    python -m longtake.pocket.stories --count 500 -o stories.txt                          stories of the pocket world
    python -m longtake.pocket.stories --source words.toml --count 1 -o script.txt         stories from your templates
    python -m longtake.pocket.stories --source my_module:write --count 500 -o stories.txt stories of your language model

A file has one prompt per line and an empty line between stories. You write it once, read it and correct it, and name it in
the config of a training run. Templates (.toml) hold a `pattern` with {names}, a list of words for each name, and `keep`,
the names whose words stay the same throughout a story. A language model is a plug-in: a function (rng, length) that
returns `length` prompts.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from longtake.core.errors import InputError
from longtake.core.files import read_text, read_toml
from longtake.core.process.standard_streams import protect_streams
from longtake.pocket.captions import UNSAID, caption, parse
from longtake.pocket.facts import JUDGED, TABLES, Facts, change_facts, sample_facts, visible
from longtake.pocket.vocabulary import WORDS

StoryWriter = Callable[[random.Random, int], Sequence[str]]  # rng and number of prompts -> prompts


class StoryError(InputError):
    """A story that cannot be written or parsed; the message says where and what to do."""


# ---------------------------------------------------------------- writing
def pocket_story(rng: random.Random, length: int) -> list[str]:
    """Write a story of the pocket world in which something changes from prompt to prompt, most often the motion."""
    facts = [sample_facts(rng)]
    while len(facts) < length:
        facts.append(change_facts(facts[-1], rng))
    return [caption(each, rng) for each in facts]


def from_templates(words: Mapping[str, Any]) -> StoryWriter:
    """Return a writer that fills a pattern from lists of words; words of `keep` stay, one of the others or more change.

    Raises StoryError if the pattern has no names, or a name no list.
    """
    pattern, keep = words.get("pattern"), words.get("keep", [])
    names = re.findall(r"{(\w+)}", pattern) if isinstance(pattern, str) else []
    lists = {name: words.get(name) for name in names}
    if not names or any(not isinstance(each, list) or not each for each in lists.values()):
        raise StoryError(
            f'the pattern {pattern!r} cannot be filled: write one such as "{{who}} {{does}} {{where}}", '
            "and a list of words for each name in it"
        )
    free = [name for name in names if name not in keep and len(set(lists[name] or ())) > 1]

    def write(rng: random.Random, length: int) -> list[str]:
        chosen = {name: rng.choice(lists[name] or ()) for name in names}
        story = [str(pattern).format(**chosen)]
        while len(story) < length:
            for name in rng.sample(free, rng.randint(1, len(free))) if free else ():
                chosen[name] = rng.choice([word for word in lists[name] or () if word != chosen[name]])
            story.append(str(pattern).format(**chosen))
        return story

    return write


def story_writer(name: str) -> StoryWriter:
    """Return the writer called "pocket", that of a .toml file of templates, or a plug-in, module:function.

    Raises StoryError if it is none of these.
    """
    if name == "pocket":
        return pocket_story
    if name.endswith(".toml"):
        try:
            return from_templates(read_toml(Path(name)))
        except (OSError, ValueError) as error:
            raise StoryError(f"{name}: {error}") from error
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise StoryError(
            f"{name!r} writes no stories ({error}): give pocket, a .toml file, or a function as module:name"
        ) from error


def write_stories(writer: StoryWriter, count: int, length: int, seed: int = 0) -> list[list[str]]:
    """Write `count` stories. Raises StoryError if the writer returns anything but `length` lines of text."""
    stories = [list(writer(random.Random(f"story {seed} {n}"), length)) for n in range(count)]
    for story in stories:
        if len(story) != length or not all(isinstance(p, str) and p.strip() and "\n" not in p for p in story):
            raise StoryError(f"the writer returned {story}: a story is {length} prompts, each a line of text")
    return stories


# ---------------------------------------------------------------- parsing, in the pocket world
def parse_stories(text: str) -> list[list[Facts]]:
    """Return the facts of every prompt of every story. A fact that a prompt does not mention stays as it was.

    Raises StoryError for a first line of a story that does not state every fact.
    """
    stories: list[list[Facts]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            stories.append([])
        elif not line.startswith("#"):
            stories[-1].append(_parse_line(line, stories[-1], number))
    return [story for story in stories if story]


def _parse_line(line: str, before: Sequence[Facts], number: int) -> Facts:
    stated = parse(line)
    previous = {name: getattr(before[-1], name) for name in TABLES} if before else {}
    if previous and not any(phrase in line.lower() for phrase in WORDS["motion"]["still"]):
        stated = {name: value for name, value in stated.items() if (name, value) not in UNSAID.items()}
    missing = [name for name in JUDGED if name not in {**previous, **stated}]
    if missing:
        raise StoryError(f"line {number} begins a story and does not state the {' or the '.join(missing)}: {line!r}")
    return visible(Facts(**{**previous, **stated}), random.Random(line))


def transitions(path: str, sha256: str) -> list[tuple[Facts, Facts]]:
    """Return the facts of every prompt of a file and of the next prompt. Raises StoryError if the file has changed."""
    if digest(path) != sha256:
        raise StoryError(f"{path} has changed since its clips were encoded: choose another folder for the latents")
    return _transitions(path, sha256)


@cache
def _transitions(path: str, sha256: str) -> list[tuple[Facts, Facts]]:
    found = [pair for story in parse_stories(read_text(Path(path))) for pair in pairwise(story)]
    if not found:
        raise StoryError(f"{path} holds no story of two prompts: write one with `python -m longtake.pocket.stories`")
    return found


def digest(path: str) -> str:
    """Return the SHA-256 of a file of stories. Raises StoryError if it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise StoryError(f"cannot read the stories {path}: {error.strerror}") from error


# ---------------------------------------------------------------- command
def main(arguments: Sequence[str] | None = None) -> int:
    """Write stories to a file. Returns the exit status: 2, with a sentence on stderr, if they cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m longtake.pocket.stories", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--source",
        default="pocket",
        help="Writer of the stories: pocket, a .toml file of templates, or module:function.",
    )
    parser.add_argument("--count", type=int, default=1, help="Number of stories.")
    parser.add_argument("--length", type=int, default=8, help="Number of prompts of a story.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the random choices.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="File to write.")
    args = parser.parse_args(arguments)
    try:
        stories = write_stories(story_writer(args.source), args.count, args.length, args.seed)
        args.output.write_text(
            "\n\n".join("\n".join(story) for story in stories) + "\n", encoding="utf-8", newline="\n"
        )
    except (StoryError, OSError) as error:
        print(f"longtake: {error}", file=sys.stderr)
        return 2
    print(f"Wrote {args.count} stories of {args.length} prompts to {args.output}.")
    return 0


if __name__ == "__main__":
    protect_streams()
    sys.exit(main())
