"""What a model refuses of a request, said before its weights are loaded, so that nobody waits in a queue to learn it."""

from __future__ import annotations

from functools import lru_cache

from longtake.core.errors import InputError
from longtake.core.units import check_pixels
from longtake.models import load
from longtake.models.model import Model, with_size
from longtake.models.registry import toy_families
from longtake.models.spec import CheckpointSpec
from longtake.pipelines.estimate import spec_of
from longtake.pipelines.settings.inputs import check_inputs
from longtake.pipelines.settings.request import Request
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Script
from longtake.planning.strategies.registry import check_options


def check_request(name: str, request: Request) -> None:
    """Raise the InputError with which a model would refuse a request. name: of the model, as `longtake.load` takes it.

    A request with input files, and a model of a family that cannot be put together without weights, are checked less: what
    this lets pass, the model itself still refuses.
    """
    try:
        toy = any(name == one.name for one in toy_families())
        model, spec = (load(name), None) if toy else (_without_weights(name), _spec(name))
    except (InputError, OSError):
        return
    if model is not None:
        _check_with(model, request)
    elif spec is not None and request.sampling.sized:
        check_pixels(request.sampling.size(spec.format.size), spec.format.size_multiple)


def _check_with(model: Model, request: Request) -> None:
    check_inputs(model, request.inputs)
    check_options(request.strategy or model.defaults.strategy, request.strategy_options)
    if request.inputs:
        with_size(model, request.sampling.size(model.size))
        return
    settings = RunSettings.resolve(model, request)
    sized, script = settings.video_model(model), Script.from_facts(settings.script)
    first = next(iter(script.shots())).frames
    next(settings.make_plan().windows(first, sized.vae.temporal_compression, sized.limits))


@lru_cache(4)
def _spec(name: str) -> CheckpointSpec:
    return spec_of(name)


@lru_cache(4)
def _without_weights(name: str) -> Model | None:
    """Return a model on PyTorch's meta device; None if its family has none."""
    meta = _spec(name).meta
    return None if meta is None else meta.on_meta(1).model
