"""The card of a trained model: the contents of its longtake.json and scheduler config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from longtake.core.guidance_settings import Guidance
from longtake.models.checkpoints.description import KEYS
from longtake.models.model import SamplingDefaults
from longtake.pocket import FPS, SIDE, describe_vocabulary
from longtake.train.toml_config import read_table
from longtake.train.weights.families import default_family, training_hooks


@dataclass(frozen=True)
class ModelCard:
    """Name of a model and its default settings, as longtake.json holds them.

    kind: "df" (diffusion forcing: context frames in place), "t2v" (single clips) or "i2v" (an image condition concatenated
    by channel). strategy, strategy_options: the default strategy and its options besides steps and shift. what: the model in a few
    words, for lists. more: further entries of longtake.json.
    """

    name: str = "pocket"
    kind: str = "df"
    strategy: str = "sliding"
    guidance_scale: float = 3.5
    steps: int = 12
    shift: float = 3.0
    strategy_options: Mapping[str, Any] = field(default_factory=lambda: {"overlap": 17, "context_noise": 0.02})
    what: str = "text to video: one moving shape over a scenery"
    family: str = field(default_factory=default_family)
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = training_hooks(self.family).classes.pipelines
        if self.kind not in kinds:
            raise ValueError(f"kind is {self.kind!r}: a model of family {self.family} is one of {', '.join(kinds)}")
        if unread := self.more.keys() - set(KEYS):
            raise ValueError(f"more has {min(unread)!r}, which no model reads from longtake.json: leave it out")

    def sampling_options(self) -> dict[str, Any]:
        """Return the options that suit the model with any strategy."""
        return {"steps": self.steps, "shift": self.shift}

    def all_options(self) -> dict[str, Any]:
        """Return the options of the default strategy."""
        return {**self.sampling_options(), **self.strategy_options}

    def sampling_defaults(self) -> SamplingDefaults:
        """Return the settings as a loaded model carries them."""
        return SamplingDefaults(
            self.strategy, self.all_options(), self.sampling_options(), Guidance((self.guidance_scale,))
        )

    def about(self, max_latent_frames: int, clips: Mapping[str, Any]) -> dict[str, Any]:
        """Return the contents of longtake.json.

        max_latent_frames: latent frames of the network's view. clips: the `Source` of the training clips, and their count.
        """
        return {
            "name": self.name,
            "family": self.family,
            "kind": self.kind,
            "fps": FPS,
            "size": [SIDE, SIDE],
            "max_latent_frames": max_latent_frames,
            "guidance_scale": self.guidance_scale,
            "strategy": self.strategy,
            "strategy_options": self.all_options(),
            "sampling_options": self.sampling_options(),
            "vocabulary": describe_vocabulary(),
            "clips": dict(clips),
            "about": self.what,
            **self.more,
        }

    def scheduler(self) -> dict[str, Any]:
        """Return the contents of scheduler/scheduler_config.json."""
        name = training_hooks(self.family).classes.scheduler
        about: dict[str, Any] = {"_class_name": name, "num_train_timesteps": 1000}
        if name == "UniPCMultistepScheduler":
            return about | {"flow_shift": self.shift, "prediction_type": "flow_prediction", "use_flow_sigmas": True}
        return about | {"shift": self.shift}


def model_card(default: ModelCard, changes: Mapping[str, Any], name: str) -> ModelCard:
    """Make a card from defaults and the table `name` of a config."""
    return read_table(ModelCard, {**asdict(default), **changes}, name)
