"""From training runs to a model folder: transformer, codec and text encoder in the layout of released checkpoints."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from longtake.models import weights
from longtake.models.presets import Kind
from longtake.train.checkpoint import newest_checkpoint, whole_file, write_json
from longtake.train.config import read_table
from longtake.train.data import clips_folder, count_clips
from longtake.train.family import FAMILIES, Family
from longtake.train.start import network_of
from longtake.world import FPS, SIDE, describe_vocabulary

LIMIT = 32 * 2**20  # bytes of a model folder that the package carries


@dataclass(frozen=True)
class Card:
    """What longtake.json says: the name of the model, and the settings that suit it.

    kind: "df" (diffusion forcing: known frames in place), "t2v" (single clips) or "i2v" (told beside x). options: of the
    plan, besides steps and shift. what: the model in a few words, for lists. more: what else longtake.json says.
    """

    name: str = "pocket"
    kind: Kind = "df"
    plan: str = "sliding"
    guidance: float = 3.5
    steps: int = 12
    shift: float = 3.0
    options: Mapping[str, Any] = field(default_factory=lambda: {"overlap": 17, "context": 0.02})
    what: str = "one sprite over one scenery, told in words; trained here"
    family: str = "wan"
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.family not in FAMILIES or self.kind not in FAMILIES[self.family].pipelines:
            known = ", ".join(f"{kind} of {name}" for name, family in FAMILIES.items() for kind in family.pipelines)
            raise ValueError(f"no model is of kind {self.kind!r} of family {self.family!r}: there are {known}")

    def sampling(self) -> dict[str, Any]:
        """Options that suit the model under any plan."""
        return {"steps": self.steps, "shift": self.shift}

    def all_options(self) -> dict[str, Any]:
        """Options of its own plan."""
        return {**self.sampling(), **self.options}

    def about(self, view: int, clips: Mapping[str, Any]) -> dict[str, Any]:
        """The contents of longtake.json. view: latent frames seen at once; clips: a `Source` of training clips, counted."""
        return {
            "name": self.name,
            "family": self.family,
            "kind": self.kind,
            "fps": FPS,
            "size": [SIDE, SIDE],
            "view": view,
            "guidance": self.guidance,
            "plan": self.plan,
            "options": self.all_options(),
            "sampling": self.sampling(),
            "vocabulary": describe_vocabulary(),
            "clips": dict(clips),
            "about": self.what,
            **self.more,
        }

    def scheduler(self) -> dict[str, Any]:
        """The contents of scheduler/scheduler_config.json."""
        name = FAMILIES[self.family].scheduler
        about: dict[str, Any] = {"_class_name": name, "num_train_timesteps": 1000}
        if name == "UniPCMultistepScheduler":
            return about | {"flow_shift": self.shift, "prediction_type": "flow_prediction", "use_flow_sigmas": True}
        return about | {"shift": self.shift}


def card_of(default: Card, changes: Mapping[str, Any], name: str) -> Card:
    """A card with what the table `name` of a config says of it."""
    return read_table(Card, {**asdict(default), **changes}, name)


def export(
    run: Path, codec: Path, text: Path, out: Path, card: Card = Card(), clips: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.bfloat16, shares: str = "", eyes: Path | None = None, limit: int | None = None,
) -> Path:  # fmt: skip
    """Write the averaged weights of a run's newest checkpoint, a codec and a text encoder to the folder `out`.

    clips: the source of the training clips and their count (default: as the run's folder tells). shares: name of a model
    folder beside `out` whose codec and text encoder these are: they are then left out, and read from there. eyes: folder
    of a CLIP encoder that belongs to it. limit: most bytes of the folder.

    The folder is made beside `out`, opened once to prove that it is whole, and put in its place in one move.
    FileNotFoundError if the run has no checkpoint yet; ValueError if the folder would be larger than `limit`.
    """
    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    family = FAMILIES[card.family]
    view = _write_transformer(run, draft / "transformer", family, card.kind, dtype)
    if shares:
        _agree(draft.with_name(shares), codec, text)
    else:
        _write_codec(codec, draft / "vae", family, dtype)
        _write_text(text, draft, dtype)
    if eyes is not None:
        shutil.copytree(eyes, draft / "image_encoder")
    (draft / "scheduler").mkdir()
    write_json(draft / "scheduler" / "scheduler_config.json", card.scheduler())
    write_json(draft / "model_index.json", _index(family, card.kind, eyes is not None))
    about = card.about(view, clips_of(run) if clips is None else clips)
    write_json(draft / "longtake.json", {**about, **({"shares": shares} if shares else {})})
    _prove(draft, limit)
    _put(draft, out)
    return out


def clips_of(run: Path) -> dict[str, Any]:
    """The source of a run's training clips, and how many there are."""
    if (run / "data.json").exists():
        about = json.loads((run / "data.json").read_text())
        count = about.pop("clips")
        return {**about, "count": count}
    tables = json.loads((run / "config.json").read_text())
    return count_clips(clips_folder(run, next(table for name, table in tables.items() if name != "loop")))


def _write_transformer(run: Path, folder: Path, family: Family, kind: Kind, dtype: torch.dtype) -> int:
    """Save the network; the number of latent frames that it sees at once."""
    newest = newest_checkpoint(run)
    if newest is None:
        raise FileNotFoundError(f"{run} holds no checkpoint: train longer, or give another folder")
    config = network_of(run, family)
    net = weights.load(family.network.make, config, whole_file(newest, "ema"))
    weights.save(net, config, folder, kind=family.pipelines[kind][1], dtype=dtype)
    return family.view(config)


def _write_codec(codec: Path, folder: Path, family: Family, dtype: torch.dtype) -> None:
    config = weights.configure(family.codec.config, codec)
    net = weights.load(family.codec.make, config, codec, family.codec.names)
    weights.save(net, config, folder, kind=family.stored, dtype=dtype)


def _write_text(text: Path, out: Path, dtype: torch.dtype) -> None:
    shutil.copytree(text / "tokenizer", out / "tokenizer")
    (out / "text_encoder").mkdir()
    shutil.copy(text / "text_encoder" / "config.json", out / "text_encoder" / "config.json")
    tensors = {name: tensor.to(dtype) for name, tensor in weights.read(text / "text_encoder").items()}
    weights.write_file(tensors, out / "text_encoder" / "model.safetensors", {"format": "pt"})


def _agree(lender: Path, codec: Path, text: Path) -> None:
    """Refuse to share parts that are not those the network was trained with."""
    for own, name in ((codec, "vae"), (text / "text_encoder", "text_encoder")):
        tensors, lent = weights.read(own), weights.read(lender / name)
        if tensors.keys() != lent.keys() or any(not torch.equal(tensors[key].to(lent[key]), lent[key]) for key in lent):
            raise ValueError(f"{lender / name} is not what the network was trained with: write a whole model")


def _index(family: Family, kind: Kind, sees: bool) -> dict[str, Any]:
    """model_index.json of a diffusers pipeline of these parts."""
    pipeline, transformer = family.pipelines[kind]
    return {
        "_class_name": pipeline,
        "scheduler": ["diffusers", family.scheduler],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["tokenizers", "Tokenizer"],
        **({"image_encoder": ["transformers", "CLIPVisionModel"]} if sees else {}),
        "transformer": ["diffusers", transformer],
        "vae": ["diffusers", family.stored],
    }


def _prove(folder: Path, limit: int | None) -> None:
    """Refuse a folder that does not open, or that is too large to ship."""
    from longtake.models import load

    load(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if limit is not None and size > limit:
        raise ValueError(f"{folder} takes {size / 2**20:.1f} MiB, more than {limit / 2**20:.0f}: use a smaller network")


def _put(draft: Path, out: Path) -> None:
    """Move a finished folder to where an older one may stand."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(draft, out)
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    """python -m longtake.train.export RUN CODEC TEXT OUT"""
    parser = argparse.ArgumentParser(prog="python -m longtake.train.export", description=__doc__)
    for name in ("run", "codec", "text", "out"):
        parser.add_argument(name, type=Path)
    for name, default in asdict(Card()).items():
        parser.add_argument(
            f"--{name}", type=json.loads if isinstance(default, dict) else type(default), default=default
        )
    parser.add_argument("--shares", default="", help="model folder beside OUT that has this codec and text encoder")
    given = vars(parser.parse_args())
    run, codec, text, out, shares = (given.pop(name) for name in ("run", "codec", "text", "out", "shares"))
    print(f"written to {export(run, codec, text, out, card=Card(**given), shares=shares, limit=LIMIT)}")


if __name__ == "__main__":
    main()
