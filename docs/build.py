"""Write the pages of docs/reference, the list in docs/strategies.md and its pictures, from the code.

    python docs/build.py            write them
    python docs/build.py --check    exit with 1 and name the pages that differ from the code

`make docs` runs the check before it builds the site.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import longtake
from longtake.cli import run
from longtake.cli.app import parser
from longtake.cli.failures import EXIT_CODES
from longtake.cli.registry import COMMANDS
from longtake.core.flat_config import field_docs, places, summary
from longtake.core.options import SamplingOptions, declared
from longtake.pipelines.settings.request import Inputs, Length
from longtake.planning.strategies.options import SCHEDULE_OPTIONS
from longtake.planning.strategies.registry import STRATEGIES
from longtake.runs.event_schema import EVENTS, SCHEMA_ROW, STOPPED_ROW
from longtake.runs.files.edit_files import HORIZON_KEYS, REQUEST_KEYS
from longtake.runs.files.journal import JOURNAL_LINES
from longtake.runs.files.manifest import MANIFEST_KEYS, VIDEO_KEYS
from longtake.runs.files.output_record import OUTPUT_KEYS
from longtake.runs.files.schema import RUN_SCHEMA, Keys
from longtake.runs.files.snapshots import SNAPSHOT_KEYS

DOCS = Path(__file__).parent
CODE = DOCS.parent / "src" / "longtake"
WRITTEN = "<!-- written by docs/build.py: change the code, then run `make docs-reference` -->\n\n"
MARK = "<!-- strategies: written by docs/build.py -->"


def main(arguments: list[str]) -> int:
    """Write all pages, or check them."""
    found = pages()
    if "--check" in arguments:
        wrong = [path for path, text in found.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        print("\n".join(f"{path} is not up to date: run `make docs-reference`" for path in wrong))
        return bool(wrong)
    for path, text in found.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name in STRATEGIES:
        draw(name, DOCS / "img" / "strategies" / f"{name}.png")
    return 0


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    reference = DOCS / "reference"
    return {
        reference / "api.md": WRITTEN + api(),
        reference / "command-line.md": WRITTEN + command_line(),
        reference / "training-config.md": WRITTEN + training_config(),
        reference / "run-directory.md": WRITTEN + run_directory(),
        CODE / "pipelines" / "call" / "keywords.py": video_keywords(),
        DOCS / "strategies.md": strategies((DOCS / "strategies.md").read_text(encoding="utf-8")),
    }


# ---------------------------------------------------------------- the Python API
MEMBERS = {"Pipeline": "    options:\n      inherited_members: true\n"}  # its methods are in several files


def api() -> str:
    """Every public name, as its docstring describes it."""
    parts = ["# Python API\n\nEvery name of `longtake.__all__`. Names are imported when they are first used.\n"]
    parts += [f"\n::: {home(name)}\n{MEMBERS.get(name, '')}" for name in longtake.__all__]
    return "".join(parts)


def home(name: str) -> str:
    """The module and name in which a public name is defined."""
    module, _, own = longtake._HOME[name].partition(":")
    return f"longtake.{module}.{own or name}"


# ---------------------------------------------------------------- keywords for type checkers
KEYWORDS = '''"""The keyword arguments that generate a video, with their types: what editors and type checkers see of a pipeline call.

Written by docs/build.py from `Length`, `Inputs`, `SamplingOptions` and the planners of the strategies: change those instead,
then run `make docs-reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

    from longtake.core.guidance_settings import Guidance
    from longtake.media.images import ImageInput


class VideoKeywords(TypedDict, total=False):
    """Length, inputs and sampling of a video, the options of its strategy, and three names of SkyReels-V2."""

'''
PYTHON_TYPES = {  # where a call takes more than the field holds
    "seed": "int | Sequence[int]",
    "negative_prompt": "str | Sequence[str] | None",
    "image": "ImageInput | Sequence[ImageInput] | None",
    "last_image": "ImageInput | Sequence[ImageInput] | None",
    "anchor_image": "ImageInput | Sequence[ImageInput] | None",
    "video": "Path | str | Tensor | Sequence[Any] | None",
    "input_video": "Path | str | Tensor | Sequence[Any] | None",
    "control": "Path | str | Tensor | None",
}


def video_keywords() -> str:
    """The source of `longtake.pipelines.call.keywords`."""
    kinds: dict[str, str] = {}
    for one in (field for options in (Length, Inputs, SamplingOptions) for field in declared(options)):
        for name in filter(None, (one.name, one.metadata["short"])):
            kinds[name] = PYTHON_TYPES.get(one.name, str(one.type))
    found: dict[str, set[str]] = {}
    for strategy in STRATEGIES.values():
        for option in strategy.options().values():
            if option.name not in SCHEDULE_OPTIONS:
                found.setdefault(option.name, set()).update(alternatives(option.type))
    kinds |= {name: " | ".join(sorted(one, key=str.lower)) for name, one in sorted(found.items())}
    kinds |= {name: "int | None" for name in ("base_num_frames", "overlap_history")}
    kinds["addnoise_condition"] = "float | None"
    return KEYWORDS + "".join(f"    {name}: {kind}\n" for name, kind in kinds.items())


def alternatives(kind: Any) -> set[str]:
    """The types of a union, as they are written in code."""
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return set().union(*map(alternatives, get_args(kind)))
    if kind is type(None):
        return {"None"}
    return {kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "").replace("'", '"')}


# ---------------------------------------------------------------- the command line
def command_line() -> str:
    """The help of every command, of every strategy's options, and the exit codes."""
    parts = [
        "# Command line\n",
        "\n`longtake COMMAND --help` prints the same. `--debug` with any command prints where an ",
    ]
    parts += ["error comes from.\n\n## Exit codes\n\n", table(("code", "meaning"), list(EXIT_CODES.items()))]
    for name, command in COMMANDS.items():
        text = parser(name, command).generate_docs(output_format="markdown", heading_level=2)
        text = re.sub(r"(?m)^## longtake .*$", f"## longtake {name}", text).replace(
            f"{name} {name.split()[-1]} [", f"{name} ["
        )
        parts.append("\n" + text.strip() + "\n")
    parts.append("\n## Options of the strategies\n\nWith `--strategy NAME`, in `generate`, `extend` and `plan`.\n")
    for name, strategy in STRATEGIES.items():
        rows = [
            (f"`--{option.name.replace('_', '-')}`", shown(option.default), option.help)
            for option in strategy.options().values()
        ]
        parts.append(f"\n### {name}\n\n{strategy.about[0].upper()}{strategy.about[1:]}.\n\n")
        parts.append(table(("option", "default", "meaning"), rows))
    return "".join(parts)


# ---------------------------------------------------------------- training
def training_config() -> str:
    """Every table and key of a training's .toml file, with its default."""
    from longtake.train.recipes.registry import RECIPES

    parts = ["# Training configuration\n\nA `.toml` file has a table `[loop]` and one with the name of the recipe. "]
    parts.append("A key that does not exist is refused, with the nearest one that does. ")
    parts.append("The [guide](../guides/training.md) explains them in context.\n")
    described: dict[type, str] = {}
    for title, config in training_tables(RECIPES):
        if config in described:
            parts.append(f"\n## [{title}]\n\nAs `[{described[config]}]`.\n")
            continue
        described[config] = title
        parts.append(f"\n## [{title}]\n\n")
        parts.append(summary(config) + "\n\n")
        parts.append(table(("key", "type", "default", "meaning"), fields_of(config)))
    return "".join(parts)


def training_tables(recipes: Mapping[str, Any]) -> Iterator[tuple[str, type]]:
    """The name and the class of every table: the loop's, every recipe's, and the tables inside them."""
    from longtake.train.loop_config import LoopConfig

    yield "loop", LoopConfig
    for name, recipe in recipes.items():
        yield from nested(name, recipe.part("CONFIG"))


def nested(name: str, config: type) -> Iterator[tuple[str, type]]:
    """A table and the tables that its fields hold."""
    yield name, config
    for key, place in places(config).items():
        for inner in [place.hint, *getattr(place.hint, "__args__", ())]:
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                yield from nested(f"{name}.{key}", inner)


def fields_of(config: type) -> list[tuple[str, str, str, str]]:
    """A row for every key of a dataclass's table: name, type, default, and what the docstring says of it."""
    rows = []
    for key, place in places(config).items():
        field = place.field
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        said = "a table" if dataclasses.is_dataclass(default) else shown(default)
        kind = str(field.type).replace("|", "\\|")
        text = field_docs(place.owner).get(field.name, "")
        rows.append((f"`{key}`", f"`{kind}`", "required" if place.required else said, text))
    return rows


# ---------------------------------------------------------------- the run directory
def run_directory() -> str:
    """The files of a run directory, their keys, and the events of --format json."""
    parts = [RUN_DIRECTORY.replace("SCHEMA", str(RUN_SCHEMA))]
    parts.append("\n## run.json\n\n" + keys_table(MANIFEST_KEYS) + "\n`video`:\n\n" + keys_table(VIDEO_KEYS))
    parts.append("\n## output.json\n\n" + keys_table(OUTPUT_KEYS))
    parts.append(
        "\n## journal.jsonl\n\nOne JSON object per line, appended and synced. `kind` says what a line records.\n"
    )
    for kind, keys in JOURNAL_LINES.items():
        parts.append(f"\n### {kind}\n\n" + keys_table(keys))
    parts.append("\n## snapshots/\n\nA `.json` file with these keys beside a `.safetensors` file with the tensors.\n\n")
    parts.append(keys_table(SNAPSHOT_KEYS))
    parts.append("\n## Requests to change prompts\n\n" + keys_table(REQUEST_KEYS))
    parts.append(
        "\nThe process that generates the video writes what can still be edited:\n\n" + keys_table(HORIZON_KEYS)
    )
    parts.append(
        "\n## Events of --format json\n\nThe first line is the event `schema`. Clients should ignore events that "
    )
    parts.append("they do not know.\n")
    for row in (SCHEMA_ROW, *EVENTS.values(), STOPPED_ROW):
        parts.append(f"\n### {row.name}\n\n{row.meaning[0].upper()}{row.meaning[1:]}.\n\n" + keys_table(row.fields))
    return "".join(parts)


RUN_DIRECTORY = """# Run directory and events

A run directory is the stream, the checkpoint and the playlist of one video at once. Its schema number is SCHEMA. A directory
that longtake 0.1 made is refused: finish it with that version.

| file | what it is |
|---|---|
| `run.json` | all settings, seed, versions, SHA-256 of the weights |
| `journal.jsonl` | what is durable: one line per segment, with its hash; a torn last line is ignored |
| `media/init.mp4`, `media/s000000.m4s`, ... | the segments, about one second each, encoded on their own at absolute times |
| `index.m3u8` | an HLS playlist of the segments so far: any player can watch while the video is generated |
| `snapshots/` | what `longtake resume` loads |
| `inputs/` | copies of the images, the video and the control signal that the run was given |
| `video.mp4`, `sheet.png` | the finished video, remuxed from the segments, and a contact sheet |
| `output.json` | the command that asked for the run, and the finished file that `--output` names |
| `LOCK` | held by the process that generates the video |

Every JSON line that longtake writes here (journal, snapshots, requests, horizon) ends with the key `check`: 16 hex digits
of the SHA-256 of the line without it, in the journal after the `check` of the line before. So `longtake verify` names
the file that is damaged. A program that requests an edit may leave `check` out. Links inside a run directory are never
followed; the directory as a whole may be a link.
"""


def keys_table(keys: Keys) -> str:
    """The keys of a JSON object as a table."""
    rows = []
    for name, key in keys.items():
        kinds = " or ".join("null" if kind is type(None) else JSON[kind] for kind in key.types)
        rows.append((f"`{name}`", kinds, key.meaning + (" (may be absent)" if key.optional else "")))
    return table(("key", "type", "meaning"), rows)


JSON = {int: "integer", float: "number", str: "string", bool: "boolean", list: "array", dict: "object"}


# ---------------------------------------------------------------- the strategies
def strategies(page: str) -> str:
    """The page with its list of strategies written anew."""
    parts = [page[: page.index(MARK)] + MARK + "\n"]
    for name, strategy in STRATEGIES.items():
        parts.append(f"\n## {name}\n\n![The plan of {name}](img/strategies/{name}.png)\n\n")
        parts.append(f"{strategy.about[0].upper()}{strategy.about[1:]}.\n\n")
        parts += [f"* **{heading}:** {text}.\n" for heading, text in strategy.advice.rows()]
        parts.append(
            f'\n<!-- test: parse -->\n```sh\nlongtake generate "..." --strategy {name} {strategy.example}\n```\n'
        )
    return "".join(parts)


def draw(name: str, path: Path) -> None:
    """The picture of a strategy's first windows, of 10 steps for a clean frame."""
    path.parent.mkdir(exist_ok=True)
    run(["plan", name, *PICTURED.get(name, "--steps 10 --windows 2").split(), "--png", str(path)])


PICTURED = {
    "clip": "--steps 10 --windows 1",
    "async": "--steps 10 --ar-step 3 --causal-block-size 5 --windows 2",
    "continuous": "--steps 10 --windows 20",
    "rolling": "--steps 10 --windows 40",
    "blocks": "--steps 4 --causal-block-size 4 --windows 4",
}


# ---------------------------------------------------------------- Markdown
def table(head: tuple[str, ...], rows: list) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("\n", " ") for cell in line) + " |\n" for line in lines)


def shown(value: Any) -> str:
    """A default as the user would write it."""
    if value is None or value == "":
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
