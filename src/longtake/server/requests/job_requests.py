"""The fields of a request as the request of a job: names of models and LoRAs become files, and nothing else is a path."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from longtake.core.options import SamplingOptions, declared
from longtake.models.runtime.load_options import LoadOptions
from longtake.pipelines.settings.request import Inputs, Length
from longtake.planning.strategies.registry import STRATEGIES
from longtake.runs.jobs.request import INPUT_KINDS, JobRequest
from longtake.server.errors import ApiError
from longtake.server.requests.catalogue import DEFAULT, Catalogue

MOST_VARIATIONS = 16
FILE_FIELDS = {"input_reference": "image"}  # of the API, and the inputs of a video that they are


def variations(values: dict[str, Any]) -> int:
    """Take `n` out of the fields of a request. Raises ApiError 400 if it cannot be how many videos to make."""
    count = values.pop("n", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_VARIATIONS:
        raise ApiError(400, "invalid_value", f"n must be a whole number from 1 to {MOST_VARIATIONS}", "n")
    return count


def new_request(values: Mapping[str, Any], catalogue: Catalogue) -> JobRequest:
    """Return the request of a new video. Raises InputErrors, and ApiError for a model or a LoRA that is not offered."""
    return JobRequest.of(**keywords({"model": DEFAULT, **values}, catalogue))


def checked(request: JobRequest) -> JobRequest:
    """Return a request that its model will not refuse, as far as that can be said without its weights. InputErrors say why."""
    from longtake.pipelines.preflight import check_request  # imports torch

    check_request(request.model, request.request(Path("inputs")))
    return request


def keywords(values: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Return the keyword arguments of a job, with the files that names of models and LoRAs stand for."""
    found = dict(values)
    if found.get("model") is not None:
        found["model"] = catalogue.model(found["model"])
    for name in (*INPUT_KINDS, *FILE_FIELDS):
        if found.get(name) is not None:
            raise ApiError(400, "invalid_value", f"{name} must be sent as a file, in a form or by an upload", name)
    _check_no_paths(found)
    if found.get("loras") is not None:
        found["loras"] = _loras(found["loras"], catalogue, "loras")
    if isinstance(found.get("scenes"), list):
        found["scenes"] = [_scene(one, catalogue) for one in found["scenes"]]
    return found


def _check_no_paths(values: Mapping[str, Any]) -> None:
    """Refuse options that name a file of the server; an object in its place says what the file would hold."""
    for name in values.keys() & _file_options():
        value = values[name]
        if value is not None and not isinstance(value, Mapping):
            message = f"{name} would be a file of this server, which no request can name: leave it out"
            raise ApiError(400, "invalid_value", message, name)


@cache
def _file_options() -> frozenset[str]:
    """Return the names of all options whose values may be paths."""
    classes = (Inputs, Length, SamplingOptions, LoadOptions)
    names = {one.name for options in classes for one in declared(options) if one.metadata["kind"] == "Path"}
    own = [option for strategy in STRATEGIES.values() for option in strategy.options().values()]
    return frozenset(names | {one.name for one in own if "Path" in str(one.type)})


def _scene(scene: Any, catalogue: Catalogue) -> Any:
    if isinstance(scene, Mapping) and scene.get("lora"):
        return {**scene, "lora": _loras(scene["lora"], catalogue, "scenes")}
    return tuple(scene) if isinstance(scene, list) else scene


def _loras(given: Any, catalogue: Catalogue, param: str) -> list[tuple[str, float]]:
    """Return files and strengths of LoRAs: of names, pairs of a name and a strength, or objects with those keys."""
    if isinstance(given, Mapping):
        given = list(given.items())
    found = []
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, Mapping):
            one = (one.get("name"), one.get("strength", 1.0))
        name, strength = (
            (one, 1.0)
            if isinstance(one, str)
            else one
            if isinstance(one, list | tuple) and len(one) == 2
            else (None, None)
        )
        if not isinstance(name, str) or isinstance(strength, bool) or not isinstance(strength, int | float):
            raise ApiError(400, "invalid_value", f"a LoRA is its name, or [name, strength], not {one!r}", param)
        found.append((catalogue.lora(name), float(strength)))
    return found
