"""A Session, a VAE and a TextEncoder whose networks are offloaded; the engine uses them like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from longtake.models.interfaces import VAE, Conditioning, ContextFrames, Decoder, Session, TextEncoder
from longtake.models.runtime.model_offload import BeforeUse, ModuleOffload
from longtake.planning.window import Window


class OffloadedSession:
    """A Session whose network is moved to the device before every use."""

    def __init__(self, session: Session, before_use: BeforeUse):
        self.wrapped, self.session, self.before_use = (session,), session, before_use

    def begin(self, window: Window, context: ContextFrames, cond: Conditioning) -> None:
        """Prepare for a window (see `Session.begin`)."""
        self.before_use()
        self.session.begin(window, context, cond)

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        """Return the velocity (B C F H W) (see `Session`)."""
        self.before_use()
        return self.session(x, sigma, **options)

    def finish(self, window: Window, x: Tensor) -> None:
        """End a window (see `Session.finish`)."""
        self.before_use()
        self.session.finish(window, x)

    def state(self) -> dict[str, Tensor]:
        """Return the session's state; keys and values that it still has to compute need the network."""
        self.before_use()
        return self.session.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state."""
        self.before_use()
        self.session.load(state)


class OffloadedVAE:
    """A VAE that is moved to the device before every use; the state of its decoders moves with it."""

    def __init__(self, vae: VAE, module: ModuleOffload, before_use: BeforeUse):
        self.vae, self.module, self.before_use = vae, module, before_use
        self.temporal_compression, self.spatial_compression = vae.temporal_compression, vae.spatial_compression
        self.channels, self.replay_latents = vae.channels, vae.replay_latents

    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames (B 3 T H W) to normalised latents (B C F h w)."""
        self.before_use()
        return self.vae.encode(frames)

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the normalised latents, for a VAE that gives both."""
        self.before_use()
        return cast(Any, self.vae).posterior(frames)

    def decoder(self) -> Decoder:
        """Return a new streaming decoder."""
        decoder = self.vae.decoder()
        self.module.companions.add(decoder)
        return OffloadedDecoder(decoder, self)


class OffloadedDecoder:
    """A streaming decoder of an offloaded VAE."""

    def __init__(self, decoder: Decoder, vae: OffloadedVAE):
        self.decoder, self.vae = decoder, vae

    def push(self, latents: Tensor) -> Tensor:
        """Decode latents (B C F h w) to the output frames (B 3 T H W) that they complete."""
        self.vae.before_use()
        return self.decoder.push(latents)

    def flush(self) -> Tensor:
        """Return the frames that the decoder still holds back."""
        self.vae.before_use()
        return self.decoder.flush()

    def __copy__(self) -> OffloadedDecoder:
        self.vae.before_use()
        twin = cast(Any, self.decoder).__copy__()
        self.vae.module.companions.add(twin)
        return OffloadedDecoder(twin, self.vae)


class OffloadedTextEncoder:
    """A TextEncoder whose network is read when there are prompts to encode."""

    def __init__(self, text: TextEncoder, before_use: BeforeUse):
        self.text, self.before_use = text, before_use

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts to embeddings (P, L, D)."""
        self.before_use()
        return self.text.encode(prompts)

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Return the words of a prompt that a closed vocabulary lacks."""
        return self.text.unknown(prompt)

    def cut_off(self, prompt: str) -> str:
        """Return the end of a prompt that is not read."""
        return self.text.cut_off(prompt)
