"""The pages of `longtake help`: of general topics, and of everything that a registry holds.

A page says what the registries, docstrings and tables of the code say; there is no second copy of a fact. A new page is a
function here that yields its blocks, and a line in `TOPICS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from longtake.cli.failures import EXIT_CODES
from longtake.cli.registry import COMMANDS
from longtake.core.errors import InputError
from longtake.core.registry import Registry, suggestion

Rows = Mapping[str, str]  # terms and what they mean
Blocks = Iterator[str | Rows]  # paragraphs, each of one line or as it stands, and lists of terms


@dataclass(frozen=True)
class Topic:
    """A page of help. about: for the list of topics, half a sentence. blocks: yields what it says."""

    about: str
    blocks: Callable[[], Blocks]


def _strategies() -> Blocks:
    from longtake.planning.strategies import registry

    yield "A strategy turns a number of output frames into windows, each a table of sigmas. `--strategy NAME` chooses one."
    yield {name: f"{strategy.about}." for name, strategy in registry.STRATEGIES.items()}
    yield "`longtake help NAME` explains one and lists its options; `longtake plan NAME` draws it."


def _models() -> Blocks:
    from longtake.models.registry import FAMILIES

    yield "`--model` takes a name from `longtake models`, the folder or file of a checkpoint, or an id of the hub (Org/Name)."
    yield {line.title: f"{line.description}." for line in FAMILIES.values()}
    yield "`longtake help NAME` describes a model; `longtake inspect FOLDER` reads the headers of a checkpoint."


def _scripts() -> Blocks:
    from longtake.planning import script_files as files

    yield from (" ".join(paragraph.split()) for paragraph in (inspect.getdoc(files) or "").split("\n\n"))
    yield "Keys of the file:"
    yield files.SCRIPT_KEYS
    yield "Keys of a scene:"
    yield files.SCENE_KEYS
    yield "For example:"
    yield files.EXAMPLE


def _exit_codes() -> Blocks:
    yield "What the exit code of a command means:"
    yield EXIT_CODES


def _memory() -> Blocks:
    from longtake.core.options import MEMORY, declared
    from longtake.core.process.memory_errors import ADVICE
    from longtake.models.runtime.load_options import LoadOptions

    yield f"Where a video needs more memory than there is, {ADVICE}."
    flags = (one for one in declared(LoadOptions) if one.metadata["group"] == MEMORY)
    yield {f"--{one.name.replace('_', '-')}": one.metadata["help"] for one in flags}
    yield "A run that failed for want of memory is resumed by `longtake resume` to the same bytes."


def _run_directory() -> Blocks:
    from longtake.runs.files.layout import Layout

    yield "Everything of a run lies in one folder: stream, checkpoint and playlist at once."
    documented = (inspect.getdoc(one) or "" for one in vars(Layout).values() if isinstance(one, property))
    yield {name: text for name, colon, text in (doc.partition(": ") for doc in documented) if colon}


def _recipes() -> Blocks:
    from longtake.train.recipes.registry import RECIPES

    yield "`longtake train RECIPE CONFIG.toml -o FOLDER` starts a training, or resumes it."
    yield {name: entry.about for name, entry in RECIPES.items()}


def _metrics() -> Blocks:
    from longtake.metrics.registry import METRICS

    yield "Drift is measured segment by segment, without weights; from its threshold on a viewer notices it."
    yield {name: f"{one.sees} Threshold: {one.threshold:g} ({one.unit})." for name, one in METRICS.items()}


def _python() -> Blocks:
    import longtake

    yield inspect.getdoc(longtake) or ""


TOPICS: Registry[Topic] = Registry("topic", Topic, {
    "strategies": Topic("the strategies for long video", _strategies),
    "models": Topic("the model families, and what --model takes", _models),
    "scripts": Topic("prompts over time: .txt and .toml files", _scripts),
    "memory": Topic("what helps where memory is short", _memory),
    "run-directory": Topic("the files of a run", _run_directory),
    "recipes": Topic("the recipes of `longtake train`", _recipes),
    "metrics": Topic("the measures of drift", _metrics),
    "exit-codes": Topic("what the exit code of a command means", _exit_codes),
    "python": Topic("the names of the Python package", _python),
})  # fmt: skip


def names() -> Rows:
    """Return every name that `longtake help` explains, with a few words on it."""
    found = {name: topic.about for name, topic in TOPICS.items()} | {
        name: line.about for name, line in COMMANDS.items()
    }
    for entries in (_strategy_names, _model_names, _recipe_names):
        found = dict(entries()) | found
    return found


def page(name: str) -> Blocks:
    """Yield the blocks of the page on a general topic, a model or a recipe. InputError, with the nearest name, if there is none."""
    if name in TOPICS:
        return TOPICS[name].blocks()
    if name in _model_names():
        return _model(name)
    if name in _recipe_names():
        return _recipe(name)
    raise InputError(f"there is no help on {name!r}: {suggestion(name, names(), 'longtake help')}")


def _strategy_names() -> Rows:
    from longtake.planning.strategies.registry import STRATEGIES

    return {name: strategy.about for name, strategy in STRATEGIES.items()}


def _model_names() -> Rows:
    from longtake.models.locate import builtin
    from longtake.models.registry import presets, toy_families

    toys = {one.name: one.description for one in toy_families()}
    return {name: "built in" for name in builtin()} | toys | {name: one.kind for name, one in presets().items()}


def _recipe_names() -> Rows:
    from longtake.train.recipes.registry import RECIPES

    return {name: entry.about for name, entry in RECIPES.items()}


def _model(name: str) -> Blocks:
    from longtake.core.files import json_object, read_text
    from longtake.core.units import pixels
    from longtake.models.locate import builtin
    from longtake.models.registry import FAMILIES, presets

    if name in builtin():
        facts = json_object(read_text(builtin()[name] / "longtake.json"))
        yield f"{name}, a built-in model: {facts.get('about', facts['family'])}."
        yield {
            "size": f"{pixels(facts['size'])} at {facts['fps']:g} fps",
            "strategy": str(facts.get("strategy", "sliding")),
        }
        yield str(facts.get("vocabulary", ""))
    elif name in FAMILIES:
        yield f"{name}, a toy model without weights, for tests: {FAMILIES[name].description}."
    else:
        one = presets()[name]
        yield f"{name}, a released checkpoint of the family {FAMILIES[one.family].title} ({one.kind})."
        weights = ", ".join(f"{part} {size:.1f} GB" for part, size in one.gigabytes().items())
        yield {
            "size": f"{pixels(one.size)}, {one.frames} frames at {one.fps:g} fps",
            "weights": f"{one.parameters / 1e9:.2f} billion parameters; in memory: {weights}",
            "hub": one.hub or one.how_to_get(),
            "licence": one.licence or "none published",
        }
    yield f'For example:\n  longtake generate "..." --model {name}'


def _recipe(name: str) -> Blocks:
    from longtake.train.recipes.registry import RECIPES

    yield RECIPES[name].about
    example = RECIPES[name].example or "CONFIG.toml"
    yield f"For example:\n  longtake train {name} {example} -o out/{name.replace('_', '-')}"
