"""The folder of a training run: its config, data, frozen weights, best checkpoint and evaluations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from longtake.core.errors import ConfigError
from longtake.core.flat_config import to_flat
from longtake.core.platform import problem_of_name
from longtake.models.checkpoints.loading import digest
from longtake.train.interfaces import HasData, ReadsFrozen, Recipe
from longtake.train.loop_config import FREE, FREE_IN_RECIPES, LoopConfig
from longtake.train.run.checkpoint import newest_checkpoint, write_json
from longtake.train.run.distributed import ranks
from longtake.train.toml_config import changes, read_table

MOST = 8  # changes that an error lists
ELSEWHERE = "Resume with what it was trained with, or choose another folder"


def claim(out: Path, config: Mapping[str, Any]) -> None:
    """Write config.json; ConfigError if the folder holds a checkpoint that was trained with another config."""
    if problem := problem_of_name(out):
        raise ConfigError(problem)
    path, config = out / "config.json", json.loads(json.dumps(config))
    if path.exists() and newest_checkpoint(out) is not None:
        found = changes(_resolved(json.loads(path.read_text(encoding="utf-8"))), _resolved(config), _may_change)
        if found:
            raise ConfigError(f"{out} was trained with another config: {'; '.join(found)}. {ELSEWHERE}")
    if not ranks()[0]:
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, config)


def claim_data(out: Path, recipe: Recipe) -> None:
    """Write data.json, if the recipe describes its data; ConfigError if a checkpoint was trained on other data."""
    if not isinstance(recipe, HasData):
        return
    path, data = out / "data.json", json.loads(json.dumps(recipe.dataset()))
    if path.exists() and newest_checkpoint(out) is not None:
        found = changes(json.loads(path.read_text(encoding="utf-8")), data)
        more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
        if found:
            raise ConfigError(f"{out} was trained on other data: {'; '.join(found[:MOST])}{more}. {ELSEWHERE}")
    if not ranks()[0]:
        write_json(path, data)


def claim_frozen(out: Path, recipe: Recipe, report: Callable[[str], None]) -> None:
    """Write frozen.json, digests of weights that no checkpoint holds; ConfigError if a checkpoint used other weights."""
    if not isinstance(recipe, ReadsFrozen):
        return
    path, resumes = out / "frozen.json", newest_checkpoint(out) is not None
    now = {name: digest(files)[:12] for name, files in recipe.frozen().items()}
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if resumes and before and (found := changes(before, now)):
        raise ConfigError(
            f"{out} was trained with other weights: {'; '.join(found)}. Restore the old files, or choose another folder"
        )
    if resumes and not before and now:
        report(f"{out} did not record the weights of {' and '.join(now)} when it was started: they are recorded now")
    if not ranks()[0]:
        write_json(path, now)


def read_best(out: Path) -> dict[str, Any]:
    """Read {score, value, step, checkpoint} of the best checkpoint so far, or nothing."""
    path = out / "best.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def check_best(best: str, names: Collection[str]) -> None:
    """Raise ConfigError if the score `best` (as in RecordConfig.best_metric) is not among those of an evaluation."""
    if best.lstrip("-") not in names:
        scores = ", ".join(names) or "no scores: remove best_metric"
        raise ConfigError(f"best_metric = {best!r}, but the evaluation gives {scores}")


def is_best(out: Path, best: str, scores: Mapping[str, float]) -> bool:
    """Whether these scores beat the best checkpoint; best: as in LoopConfig. ConfigError if there is no such score.

    A NaN score is never better, and any other score is better than NaN.
    """
    check_best(best, scores)
    before, value = read_best(out), scores[best.lstrip("-")]
    if math.isnan(value):
        return False
    if before.get("score") != best or not (out / before["checkpoint"]).is_dir() or math.isnan(before["value"]):
        return True
    return value < before["value"] if best.startswith("-") else value > before["value"]


def write_best(out: Path, best: str, scores: Mapping[str, float], step: int) -> None:
    """Record that the checkpoint of this step is the best so far."""
    value = scores[best.lstrip("-")]
    write_json(out / "best.json", {"score": best, "value": value, "step": step, "checkpoint": f"step-{step:06d}"})


def read_evaluated(out: Path) -> int | None:
    """Read the step of the last finished evaluation (0: there was none yet), or None if the folder has no record."""
    path = out / "evaluated.json"
    return json.loads(path.read_text(encoding="utf-8"))["step"] if path.exists() else None


def write_evaluated(out: Path, step: int) -> None:
    """Record that the evaluation after a step is finished."""
    write_json(out / "evaluated.json", {"step": step})


def _may_change(key: str) -> bool:
    """Whether a setting (`table.key`) may differ when a run resumes."""
    parts = key.split(".")
    return parts[-1] in (FREE if parts[0] == "loop" else FREE_IN_RECIPES)


def _resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of the loop in a config."""
    try:
        return {**config, "loop": to_flat(read_table(LoopConfig, config["loop"], "loop"))}
    except ConfigError:
        return dict(config)  # another version wrote it
