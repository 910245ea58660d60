"""Export of a training run to a model folder: transformer, VAE and text encoder in the layout of released checkpoints."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from longtake.core.platform import replace_file
from longtake.core.process.standard_streams import protect_streams
from longtake.models.checkpoints import loading as weights
from longtake.models.family import TrainingHooks
from longtake.pocket import FPS
from longtake.train.run.checkpoint import newest_checkpoint, whole_file, write_json
from longtake.train.weights.families import training_hooks
from longtake.train.weights.init_weights import network_of
from longtake.train.weights.model_card import ModelCard

LIMIT = 32 * 2**20  # largest size in bytes of a model folder that ships with the package


def export(
    run: Path, vae: Path, text: Path, out: Path, card: ModelCard | None = None, clips: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.bfloat16, shares: str = "", image_encoder: Path | None = None, limit: int | None = None,
) -> Path:  # fmt: skip
    """Write the averaged weights of a run's newest checkpoint, a VAE and a text encoder to the folder `out`.

    clips: the source of the training clips and their count (default: as the run's folder records). shares: name of a model
    folder beside `out` with this VAE and text encoder: they are then left out, and loaded from there. image_encoder:
    folder of a CLIP encoder that belongs to the model. limit: largest size of the folder in bytes.

    The folder is written beside `out`, loaded once to prove that it is complete, and moved into place atomically.
    FileNotFoundError if the run has no checkpoint yet; ValueError if the folder would be larger than `limit`.
    """
    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    card = card or ModelCard()
    hooks = training_hooks(card.family)
    max_latent_frames = _write_transformer(run, draft / "transformer", card, dtype)
    if shares:
        _agree(draft.with_name(shares), vae, text)
    else:
        _write_vae(vae, draft / "vae", hooks, dtype)
        _write_text(text, draft, dtype)
    if image_encoder is not None:
        shutil.copytree(image_encoder, draft / "image_encoder")
    (draft / "scheduler").mkdir()
    write_json(draft / "scheduler" / "scheduler_config.json", card.scheduler())
    write_json(draft / "model_index.json", _index(hooks, card.kind, image_encoder is not None))
    about = card.about(max_latent_frames, clips_of(run) if clips is None else clips)
    write_json(draft / "longtake.json", {**about, **({"shares": shares} if shares else {})})
    _prove(draft, limit)
    _put(draft, out)
    return out


def clips_of(run: Path) -> dict[str, Any]:
    """Read the source of a run's training clips and their count from data.json."""
    about = json.loads((run / "data.json").read_text(encoding="utf-8"))
    count = about.pop("clips")
    return {**about, "count": count}


def _write_transformer(run: Path, folder: Path, card: ModelCard, dtype: torch.dtype) -> int:
    """Save the network; return its view in latent frames."""
    newest = newest_checkpoint(run)
    if newest is None:
        raise FileNotFoundError(f"{run} holds no checkpoint: train longer, or choose another folder")
    hooks, config = training_hooks(card.family), network_of(run, card.family)
    net = weights.load(hooks.transformer.make, config, whole_file(newest, "ema"))
    weights.save(net, config, folder, kind=hooks.classes.pipelines[card.kind][1], dtype=dtype)
    return hooks.max_latent_frames(config, FPS)


def _write_vae(vae: Path, folder: Path, hooks: TrainingHooks, dtype: torch.dtype) -> None:
    config = weights.configure(hooks.vae.config, vae)
    net = weights.load(hooks.vae.make, config, vae, hooks.vae.names)
    weights.save(net, config, folder, kind=hooks.classes.vae, dtype=dtype)


def _write_text(text: Path, out: Path, dtype: torch.dtype) -> None:
    shutil.copytree(text / "tokenizer", out / "tokenizer")
    (out / "text_encoder").mkdir()
    shutil.copy(text / "text_encoder" / "config.json", out / "text_encoder" / "config.json")
    tensors = {name: tensor.to(dtype) for name, tensor in weights.read(text / "text_encoder").items()}
    weights.write_file(tensors, out / "text_encoder" / "model.safetensors", {"format": "pt"})


def _agree(lender: Path, vae: Path, text: Path) -> None:
    """Raise ValueError unless the shared parts are those that the network was trained with."""
    for own, name in ((vae, "vae"), (text / "text_encoder", "text_encoder")):
        tensors, lent = weights.read(own), weights.read(lender / name)
        if tensors.keys() != lent.keys() or any(not torch.equal(tensors[key].to(lent[key]), lent[key]) for key in lent):
            raise ValueError(f"{lender / name} is not what the network was trained with: export without `shares`")


def _index(hooks: TrainingHooks, kind: str, has_image_encoder: bool) -> dict[str, Any]:
    """Return model_index.json of a diffusers pipeline of these parts."""
    pipeline, transformer = hooks.classes.pipelines[kind]
    return {
        "_class_name": pipeline,
        "scheduler": ["diffusers", hooks.classes.scheduler],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["tokenizers", "Tokenizer"],
        **({"image_encoder": ["transformers", "CLIPVisionModel"]} if has_image_encoder else {}),
        "transformer": ["diffusers", transformer],
        "vae": ["diffusers", hooks.classes.vae],
    }


def _prove(folder: Path, limit: int | None) -> None:
    """Load a folder to prove that it is complete. ValueError if it is larger than `limit`."""
    from longtake.models import load

    load(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if limit is not None and size > limit:
        raise ValueError(f"{folder} takes {size / 2**20:.1f} MiB, more than {limit / 2**20:.0f}: use a smaller network")


def _put(draft: Path, out: Path) -> None:
    """Move a finished folder into place, where an older one may be."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        replace_file(out, old)
    replace_file(draft, out)
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    """Run the command `python -m longtake.train.weights.export RUN VAE TEXT OUT`."""
    parser = argparse.ArgumentParser(prog="python -m longtake.train.weights.export", description=__doc__)
    for name in ("run", "vae", "text", "out"):
        parser.add_argument(name, type=Path)
    for name, default in asdict(ModelCard()).items():
        parser.add_argument(
            f"--{name}", type=json.loads if isinstance(default, dict) else type(default), default=default
        )
    parser.add_argument("--shares", default="", help="model folder beside OUT that has this vae and text encoder")
    given = vars(parser.parse_args())
    run, vae, text, out, shares = (given.pop(name) for name in ("run", "vae", "text", "out", "shares"))
    print(f"written to {export(run, vae, text, out, card=ModelCard(**given), shares=shares, limit=LIMIT)}")


if __name__ == "__main__":
    protect_streams()
    main()
