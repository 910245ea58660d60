"""Generated frames, kept in memory up to a budget and in a temporary file beyond it, and read in the form a caller wants."""

from __future__ import annotations

import operator
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, Literal, get_args
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from longtake.core.errors import SettingsError

OutputType = Literal["np", "pil", "pt", "latent"]
OUTPUT_TYPES: tuple[OutputType, ...] = get_args(OutputType)
MEMORY_BUDGET = 2 << 30  # bytes of frames of one video that stay in memory


class FrameStore:
    """The uint8 frames (H, W, 3) of one video. budget: bytes that stay in memory; all frames beyond lie in a file."""

    def __init__(self, height: int, width: int, budget: int = MEMORY_BUDGET):
        self.shape, self.budget, self.count = (height, width, 3), budget, 0
        self._blocks: list[np.ndarray] = []
        self._starts: list[int] = []
        self._file: IO[bytes] | None = None
        self._in_memory = 0

    def check_room(self, frames: int) -> None:
        """Raise SettingsError if memory and the disk of temporary files have no room for so many frames."""
        size, room = frames * int(np.prod(self.shape)), self.budget
        room += shutil.disk_usage(folder := tempfile.gettempdir()).free if size > room else 0
        if size > room:
            raise SettingsError(
                f"{frames:,} frames take {size / 1e9:,.1f} GB, but memory (frame_memory) and {folder} have "
                f"{room / 1e9:,.1f} GB: take them as they come from `stream`, or `record` the video"
            )

    def append(self, frames: Tensor) -> None:
        """Add frames (T, H, W, 3), uint8."""
        block = frames.cpu().contiguous().numpy()
        if not len(block):
            return
        if self._in_memory + block.nbytes <= self.budget and self._file is None:
            self._blocks.append(block)
            self._starts.append(self.count)
            self._in_memory += block.nbytes
        else:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="longtake-frames-")  # noqa: SIM115, it lives as long as the store
                finalize(self, self._file.close)
            self._file.write(block.data)
        self.count += len(block)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        """Return frame `index`, uint8 (H, W, 3)."""
        kept = self._starts[-1] + len(self._blocks[-1]) if self._blocks else 0
        if index < kept:
            block = int(np.searchsorted(self._starts, index, side="right")) - 1
            return self._blocks[block][index - self._starts[block]]
        assert self._file is not None
        size = int(np.prod(self.shape))
        self._file.flush()
        self._file.seek((index - kept) * size)
        data = self._file.read(size)
        self._file.seek(0, 2)
        return np.frombuffer(data, np.uint8).reshape(self.shape)


class VideoFrames(Sequence[Any]):
    """The frames of one video as a sequence that reads each frame when it is asked for.

    With output_type "np" a frame is a float32 array (H, W, 3) in [0, 1], with "pt" a float32 tensor (3, H, W) in [0, 1],
    with "pil" an image, as in diffusers. `np.asarray(frames)`, a slice and arithmetic read many frames at once; `uint8()` all
    as uint8 (T, H, W, 3).
    """

    def __init__(self, store: FrameStore, output_type: OutputType = "np"):
        if output_type not in OUTPUT_TYPES:
            raise SettingsError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
        self._store, self.output_type = store, output_type

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(frames, height, width, 3)."""
        height, width, channels = self._store.shape
        return len(self), height, width, channels

    def uint8(self) -> Tensor:
        """Return all frames as `Pipeline.stream` yields them: uint8 (T, H, W, 3)."""
        whole = torch.empty(self.shape, dtype=torch.uint8)
        for into, frame in zip(whole.numpy(), self.each_uint8()):
            into[...] = frame
        return whole

    def each_uint8(self) -> Iterator[np.ndarray]:
        """Yield the frames one by one as uint8 (H, W, 3)."""
        return (self._store[i] for i in range(len(self)))

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            some = [self._frame(i) for i in range(*index.indices(len(self)))]
            return some if self.output_type == "pil" else _stacked(some)
        if isinstance(index, tuple | list | np.ndarray | Tensor) and np.ndim(index) and self.output_type != "pil":
            return self._whole()[index]
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"the video has {len(self)} frames, so there is no frame {index}")
        return self._frame(index % len(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self.uint8().numpy().astype(np.float32) / 255
        return whole if dtype is None else whole.astype(dtype)

    def astype(self, dtype: Any) -> np.ndarray:
        """Return all frames in [0, 1] as an array (T, H, W, 3) of another type."""
        return self.__array__(dtype)

    def __mul__(self, other: Any) -> Any:
        return self._whole() * other

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Any:
        return self._whole() + other

    def __sub__(self, other: Any) -> Any:
        return self._whole() - other

    def __truediv__(self, other: Any) -> Any:
        return self._whole() / other

    def _whole(self) -> Any:
        """Return all frames as one array or tensor, as diffusers does."""
        if self.output_type == "pil":
            raise TypeError('frames of output_type "pil" are images: call with output_type "np" to compute with them')
        return np.asarray(self) if self.output_type == "np" else self[:]

    def __repr__(self) -> str:
        frames, height, width, _ = self.shape
        return f"<{frames} frames of {width}x{height}, output_type={self.output_type!r}>"

    def _frame(self, index: int) -> Any:
        frame = self._store[index]
        if self.output_type == "pil":
            from PIL import Image

            return Image.fromarray(frame)
        values = frame.astype(np.float32) / 255
        return values if self.output_type == "np" else torch.from_numpy(values).permute(2, 0, 1)


def _stacked(some: list[Any]) -> Any:
    if some and isinstance(some[0], Tensor):
        return torch.stack(some)
    return np.stack(some) if some else np.zeros((0,), np.float32)
