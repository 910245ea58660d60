"""What a model family provides: the values that its line in `longtake.models.registry` refers to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from longtake.core.registry import load_reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from longtake.planning.limits import Limits

Role = Literal["open", "presets", "inspect", "spec", "lora_names", "training", "cases"]


@dataclass(frozen=True)
class Recognition:
    """How the checkpoints of a family are recognised.

    pipelines: how the names of their diffusers pipeline classes begin. tensors: regular expressions for the names of
    their tensors. lists: whether a .toml file that lists the files of a checkpoint is one of theirs.
    """

    pipelines: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    lists: bool = False

    def count(self, names: Iterable[str]) -> int:
        """Count the tensor names that belong to this family."""
        patterns = [re.compile(pattern) for pattern in self.tensors]
        return sum(any(pattern.search(name) for pattern in patterns) for name in names)


@dataclass(frozen=True)
class Family:
    """A model family: its line in the registry.

    title: a short name for people. description: one line for lists. recognise: see `Recognition`. needs_checkpoint:
    False for a toy model, which `load` opens by the family's name. package: the package that `provides` refers to
    (default: the folder of this name in `longtake.models`). provides: what the family offers, each a reference
    "module:object" inside the package, imported when it is used:

    open: a function (path, *, preset=None, load_options) -> `Model`; a toy model's takes no path. presets: a dict of
    released checkpoints by name, each a `ReleasedCheckpoint`; importing it must not import torch. inspect: a function
    (path, preset or None) -> `longtake.models.checkpoints.inspect.Report`. spec: a function (path or None, preset or None)
    -> `longtake.models.spec.CheckpointSpec`. lora_names: a `longtake.models.lora.key_formats` table. training: a
    `TrainingHooks`. cases: a dict of `ContractCase` by name, for the contract tests.
    """

    name: str
    title: str
    description: str
    provides: Mapping[Role, str]
    recognise: Recognition = Recognition()
    needs_checkpoint: bool = True
    package: str = ""

    def has(self, role: Role) -> bool:
        """Whether the family provides something for this role."""
        return role in self.provides

    def get(self, role: Role) -> Any:
        """Import what the family provides for a role. Raises LookupError if it provides nothing."""
        if role not in self.provides:
            raise LookupError(f"the model family {self.name} has no {role}: its registry line names none")
        package = self.package or f"{__package__}.{self.name}"
        return load_reference(f"the model family {self.name!r}", f"{package}.{self.provides[role]}")


class ReleasedCheckpoint(Protocol):
    """A published checkpoint without its weights: what every preset states, whatever its family.

    name: of the preset. family: name of its family. kind: a short word for what it generates. hub, original: its
    repositories in the diffusers layout and in the authors' own (None: not published so). revision: the commit of `hub` to
    load (None: the newest one at the first download, which is recorded and kept). size: (height, width). frames:
    output frames of a window. parameters: of the transformer. requested_gb: the memory that its authors name for it.
    """

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def hub(self) -> str | None: ...
    @property
    def original(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def licence(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def frames(self) -> int: ...
    @property
    def fps(self) -> float: ...
    @property
    def parameters(self) -> int: ...
    @property
    def requested_gb(self) -> float | None: ...

    def gigabytes(self) -> dict[str, float]:
        """Return the size of every part's weights in memory, in GB (10^9 bytes)."""

    def how_to_get(self) -> str:
        """Say where to get weights that no repository holds in the diffusers layout."""


@dataclass(frozen=True)
class TrainablePart:
    """A transformer or a VAE, as the trainer needs it.

    config: its dataclass. make: the module of a config. initialise: gives a new module the weights that training starts
    from. names: the names that released files give its tensors. unused: config keys to ignore, and their expected values.
    default: the settings of a new one, if a training config names none ({}: it must).
    """

    config: type
    make: Callable[[Any], nn.Module]
    initialise: Callable[[Any], None]
    names: Sequence[Any] = ()
    unused: Mapping[str, Any] = field(default_factory=dict)
    default: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InitRules:
    """How a network may differ from the one whose weights it starts with.

    free: settings of the transformer that change no tensor. patch: the weight whose input channels may grow ("": none).
    parts: settings that add a part to a network, and how the names of its tensors begin.
    """

    free: tuple[str, ...] = ()
    patch: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DiffusersClasses:
    """The names that a finished model's folder has for diffusers. pipelines: kind -> classes of pipeline and transformer."""

    pipelines: Mapping[str, tuple[str, str]]
    vae: str
    scheduler: str


@dataclass(frozen=True)
class GenerationHooks:
    """How a network in training generates video, for evaluations.

    session: (network, image conditioner or None) -> its `Session`. limits: (config, kind) -> which plans a network can
    run. image_conditioner: (VAE, image encoder or None) -> the conditioner of kinds whose context is concatenated by
    channel (None: there are no such kinds).
    """

    session: Callable[[Any, Any], Any]
    limits: Callable[[Any, str], Limits]
    image_conditioner: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True)
class ReleasedShapes:
    """The shapes of a released checkpoint: configs of transformer and VAE, and the weights of its text encoder."""

    transformer: Any
    vae: Any
    text_parameters: int


@dataclass(frozen=True)
class EstimateHooks:
    """What an estimate of the memory of training needs of a family whose networks are trained on tokens.

    released: shapes by the name of a preset. velocity: (network, clips, tokens of each, words of each prompt) -> the
    velocity of a batch, (B, C, K), by shapes alone: it runs on PyTorch's meta device, where no tensor has values.
    """

    released: Mapping[str, Callable[[], ReleasedShapes]]
    velocity: Callable[[Any, int, int, int], Tensor]


@dataclass(frozen=True)
class TrainingHooks:
    """What training a family needs.

    max_latent_frames: (config, fps) -> latent frames that one step sees at most. lora_targets: ends of the names of the
    layers that a LoRA changes unless a config names others. with_statistics: a VAE, and the mean and deviation (C,) of its
    latents -> the config with which its weights are saved. text_encoder: (folder, dtype, device) -> the family's text
    encoder, for recipes that need it. sigma_per: what has a sigma of its own in training, a frame or a token; a network with
    "token" predicts the velocity of single tokens too (`tokens`, `rope_table`), and one with "frame" is a
    `longtake.train.objectives.velocity.VideoNetwork`.
    """

    transformer: TrainablePart
    vae: TrainablePart
    classes: DiffusersClasses
    generation: GenerationHooks
    max_latent_frames: Callable[[Any, float], int]
    lora_targets: tuple[str, ...]
    with_statistics: Callable[[Any, Tensor, Tensor], Any]
    init: InitRules = InitRules()
    text_encoder: Callable[[Path, Any, str], Any] | None = None
    sigma_per: Literal["frame", "token"] = "frame"
    estimate: EstimateHooks | None = None


@dataclass(frozen=True)
class ContractCase:
    """A tiny model of a family with random weights, for the contract tests (`longtake.testing.families`).

    write: writes its checkpoint into a new folder and returns the path that `load` takes (None for a toy model, which is
    opened by its name). network: loads the transformer of that path as a function (x (B, C, F, H, W), sigma () or (F,)
    or (B, F), text embeddings (B, L, D)) -> velocity (None: there is no network). strategy, options, frames: a short
    generation that it can run.
    """

    write: Callable[[Path], Path] | None = None
    network: Callable[[Path], Callable[[Tensor, Tensor, Tensor], Tensor]] | None = None
    strategy: str = "sliding"
    options: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 33
