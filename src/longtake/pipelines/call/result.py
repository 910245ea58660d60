"""What a pipeline call returns: videos with their frames, latents, seeds and settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from longtake.media.finished.file_kinds import Codec
from longtake.media.finished.save_video import file_path, save_video
from longtake.media.metadata import comment_text
from longtake.pipelines.call.frame_store import VideoFrames

if TYPE_CHECKING:
    from longtake.pipelines.settings.run_settings import RunSettings


@dataclass(frozen=True, eq=False)
class Video:
    """One generated video.

    frames: a lazy sequence of frames, see `VideoFrames`. latents: (C, F, h, w) as they were before decoding, clip after
    clip, on the CPU. fps: its frame rate. seed: of its noise. settings: everything that decides its frames (None for a
    call that no run directory can record). interrupted: `Pipeline.interrupt` ended it early. carried: what a saved file
    carries of the settings, without paths (None: a call that no file can describe).
    """

    frames: VideoFrames
    latents: Tensor | None = field(repr=False)
    fps: float
    seed: int
    settings: RunSettings | None = field(default=None, repr=False)
    interrupted: bool = False
    carried: Mapping[str, Any] | None = field(default=None, repr=False)

    def save(
        self, path: Path | str, *, crf: int | None = None, codec: Codec = "h264", audio: Path | str | None = None,
        metadata: bool = True, fps: float | None = None,
    ) -> Path:  # fmt: skip
        """Write the video as .mp4, .mov, .mkv, .webm, .gif or .webp; return the path. SettingsError says what cannot be.

        crf: constant quality, 0 is best (None: visually lossless). codec: h264, hevc or av1. audio: a file whose sound
        plays beside it. metadata: the file carries the settings, which `longtake inspect` and `keywords_like` read.
        fps: another frame rate, at which the same frames play faster or slower.
        """
        comment = comment_text(self.carried) if metadata and self.carried else ""
        frames, rate = self.frames.each_uint8(), self.fps if fps is None else fps
        return save_video(path, frames, rate, codec=codec, crf=crf, audio=audio, comment=comment)


@dataclass(frozen=True, eq=False)
class VideoResult(Sequence[Video]):
    """The videos of a pipeline call, in the order of the prompts.

    `result.frames[i]` are the frames of video i, as in diffusers; `result[i]` is video i with all else; `fps`, `seed`,
    `settings` and `save` are those of the first.
    """

    videos: tuple[Video, ...]
    output_type: str = "np"

    @property
    def frames(self) -> list[Any]:
        """The frames of every video; its latents (C, F, h, w) for output_type "latent"."""
        return [video.latents if self.output_type == "latent" else video.frames for video in self.videos]

    @property
    def latents(self) -> list[Tensor | None]:
        """The latents (C, F, h, w) of every video."""
        return [video.latents for video in self.videos]

    @property
    def fps(self) -> float:
        """The frame rate."""
        return self.videos[0].fps

    @property
    def seed(self) -> int:
        """The seed of the first video."""
        return self.videos[0].seed

    @property
    def settings(self) -> RunSettings | None:
        """The settings of the first video."""
        return self.videos[0].settings

    def save(
        self, path: Path | str, *, crf: int | None = None, codec: Codec = "h264", audio: Path | str | None = None,
        metadata: bool = True, fps: float | None = None,
    ) -> list[Path]:  # fmt: skip
        """Write every video (see `Video.save`); several get -1, -2, ... before the ending. Returns the paths."""
        path = file_path(path)
        names = [path] if len(self) == 1 else [path.with_stem(f"{path.stem}-{i + 1}") for i in range(len(self))]
        how: dict[str, Any] = dict(crf=crf, codec=codec, audio=audio, metadata=metadata, fps=fps)
        return [video.save(name, **how) for video, name in zip(self.videos, names)]

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: Any) -> Any:
        return self.videos[index]

    def __iter__(self) -> Iterator[Video]:
        return iter(self.videos)
