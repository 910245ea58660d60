"""What a config names and is not there: the error says which command makes it."""

from __future__ import annotations

from pathlib import Path

from longtake.core.errors import ConfigError

TRAINERS = {"VAE": "vae examples/train/vae.toml", "text encoder": "text_encoder examples/train/text_encoder.toml"}


def given_vae(folder: str, key: str = "vae") -> Path:
    """Return the folder of a VAE that a config names. ConfigError if nothing is there."""
    path = Path(folder)
    if not (path / "config.json").exists():
        out = path.parent if path.name == "vae" else path
        then = "" if path.name == "vae" else f', and set {key} = "{path / "vae"}"'
        raise ConfigError(f'{key} = "{folder}": there is no VAE in that folder; {_how("VAE", out)}{then}')
    return path


def given_text_encoder(folder: str, key: str = "text") -> Path:
    """Return the folder of a text encoder and its tokenizer that a config names. ConfigError if one is not there."""
    path = Path(folder)
    for part in (path / "text_encoder" / "config.json", path / "tokenizer"):
        if not part.exists():
            raise ConfigError(f'{key} = "{folder}": there is no {part}; {_how("text encoder", path)}')
    return path


def _how(part: str, out: Path) -> str:
    """Return the sentence on the command that trains a part of a model into a folder."""
    return f"give the folder of one, or train one with `longtake train {TRAINERS[part]} -o {out}`"
