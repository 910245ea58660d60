"""What the folder of a training run remembers: its config, its data, what it stands on, and which checkpoint was the best."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longtake.models.weights import digest
from longtake.train.checkpoint import newest_checkpoint, write_json
from longtake.train.config import ConfigError, changes, read_table
from longtake.train.ranks import ranks
from longtake.train.settings import FREE, FREE_IN_RECIPES, HasData, ReadsFrozen, Recipe, Settings


def claim(out: Path, config: Mapping[str, Any]) -> None:
    """Write config.json; ConfigError if the folder holds a checkpoint that was made with another config."""
    path, config = out / "config.json", json.loads(json.dumps(config))
    if path.exists() and newest_checkpoint(out) is not None:
        found = changes(_resolved(json.loads(path.read_text())), _resolved(config), _may_change)
        if found:
            raise ConfigError(f"{out} was trained with another config: {'; '.join(found)}. {ELSEWHERE}")
    if not ranks()[0]:
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, config)


def claim_data(out: Path, recipe: Recipe) -> None:
    """Write data.json, if the recipe can tell what its data are; ConfigError if a checkpoint was trained on others."""
    if not isinstance(recipe, HasData):
        return
    path, data = out / "data.json", json.loads(json.dumps(recipe.dataset()))
    if path.exists() and newest_checkpoint(out) is not None:
        found = changes(json.loads(path.read_text()), data)
        more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
        if found:
            raise ConfigError(f"{out} was trained on other data: {'; '.join(found[:MOST])}{more}. {ELSEWHERE}")
    if not ranks()[0]:
        write_json(path, data)


def claim_frozen(out: Path, recipe: Recipe, report: Callable[[str], None]) -> None:
    """Write frozen.json, digests of weights that no checkpoint holds; ConfigError if one was trained with others."""
    if not isinstance(recipe, ReadsFrozen):
        return
    path, goes_on = out / "frozen.json", newest_checkpoint(out) is not None
    now = {name: digest(files)[:12] for name, files in recipe.frozen().items()}
    before = json.loads(path.read_text()) if path.exists() else {}
    if goes_on and before and (found := changes(before, now)):
        raise ConfigError(
            f"{out} was trained with other weights: {'; '.join(found)}. Put back what it had, or choose another folder"
        )
    if goes_on and not before and now:
        report(f"{out} did not note the weights of {' and '.join(now)} when it was begun: they are noted now")
    if not ranks()[0]:
        write_json(path, now)


def read_best(out: Path) -> dict[str, Any]:
    """{score, value, step, checkpoint} of the best checkpoint so far, or nothing."""
    path = out / "best.json"
    return json.loads(path.read_text()) if path.exists() else {}


def check_best(best: str, names: Collection[str]) -> None:
    """ConfigError if there is no score `best` (as in Settings) among those that a check gives."""
    if best.lstrip("-") not in names:
        raise ConfigError(f"best = {best!r}, but the check gives {', '.join(names) or 'no scores: leave it out'}")


def is_best(out: Path, best: str, scores: Mapping[str, float]) -> bool:
    """Whether these scores beat those of the best checkpoint; best: as in Settings. ConfigError if there is no such.

    A score that is no number is never better, and any number is better than it.
    """
    check_best(best, scores)
    before, value = read_best(out), scores[best.lstrip("-")]
    if math.isnan(value):
        return False
    if before.get("score") != best or not (out / before["checkpoint"]).is_dir() or math.isnan(before["value"]):
        return True
    return value < before["value"] if best.startswith("-") else value > before["value"]


def write_best(out: Path, best: str, scores: Mapping[str, float], step: int) -> None:
    """Remember that the checkpoint of this step is the best so far."""
    value = scores[best.lstrip("-")]
    write_json(out / "best.json", {"score": best, "value": value, "step": step, "checkpoint": f"step-{step:06d}"})


def read_checked(out: Path) -> int | None:
    """The step after which the last check was done (0: there was none yet), if it was noted."""
    path = out / "checked.json"
    return json.loads(path.read_text())["step"] if path.exists() else None


def write_checked(out: Path, step: int) -> None:
    """Note that the check after a step is done."""
    write_json(out / "checked.json", {"step": step})


def _may_change(key: str) -> bool:
    """Whether a setting (`table.key`) may be another one when a run goes on."""
    parts = key.split(".")
    return parts[-1] in (FREE if parts[0] == "loop" else FREE_IN_RECIPES)


def _resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the defaults of the loop filled in."""
    try:
        return {**config, "loop": asdict(read_table(Settings, config["loop"], "loop"))}
    except ConfigError:
        return dict(config)  # written by another version


MOST = 8  # changes that are told
ELSEWHERE = "Go on with what it had, or choose another folder"
