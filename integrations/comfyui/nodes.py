"""The nodes: a timeline of prompts, a video of it, and a continuation of a video."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from .client import Client, ServerError
from .media import frames_of, image_of, png_of, preview_of

CATEGORY = "longtake"
CUTS = {"continue": False, "cut": True, "anchor": "anchor", "resample": "resample"}
PREVIEW_SIZE = 512
OUTPUTS: dict[str, Any] = {
    "RETURN_TYPES": ("IMAGE", "VIDEO", "FLOAT", "STRING", "STRING", "IMAGE"),
    "RETURN_NAMES": ("images", "video", "fps", "video_id", "path", "contact_sheet"),
}
SAMPLING: dict[str, Any] = {
    "negative_prompt": ("STRING", {"multiline": True, "default": ""}),
    "size": ("STRING", {"default": "", "tooltip": "WIDTHxHEIGHT; empty: that of the model"}),
    "steps": ("INT", {"default": 0, "min": 0, "max": 10_000, "tooltip": "0: those of the model"}),
    "guidance": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1000.0, "step": 0.1, "tooltip": "0: that of the model"}),
    "strategy": ("STRING", {"default": "", "tooltip": "such as sliding or continuous; empty: that of the model"}),
    "options": ("STRING", {"multiline": True, "default": "", "tooltip": 'further options as JSON: {"overlap": 9}'}),
    "images": ("INT", {"default": 241, "min": 0, "max": 1_000_000,
                       "tooltip": "last frames that come out as IMAGE; `video` and `path` always hold all"}),
    "server": ("STRING", {"default": "", "tooltip": "address of the server; empty: LONGTAKE_URL, else this machine"}),
}  # fmt: skip


class LongtakeTimeline:
    """A scene behind the scenes of another timeline."""

    CATEGORY, FUNCTION = CATEGORY, "scene"
    RETURN_TYPES, RETURN_NAMES = ("LONGTAKE_TIMELINE",), ("timeline",)
    DESCRIPTION = "Adds a scene to a timeline; the first one needs no timeline before it."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "prompt": ("STRING", {"multiline": True, "default": ""}),
                "seconds": ("FLOAT", {"default": 5.0, "min": 0.1, "max": 86_400.0, "step": 0.1}),
                "cut": (list(CUTS), {"default": "continue", "tooltip": "how the scene begins"}),
            },
            "optional": {"before": ("LONGTAKE_TIMELINE", {"tooltip": "the scenes before this one"})},
        }

    def scene(self, prompt: str, seconds: float, cut: str, before: tuple[Any, ...] = ()) -> tuple[tuple[Any, ...]]:
        """Return the timeline with one more scene."""
        return ((*before, {"prompt": prompt, "seconds": seconds, "cut": CUTS[cut]}),)


class LongtakeGenerate:
    """A video of a prompt or of a timeline."""

    CATEGORY, FUNCTION, OUTPUT_NODE = CATEGORY, "generate", True
    RETURN_TYPES, RETURN_NAMES = OUTPUTS["RETURN_TYPES"], OUTPUTS["RETURN_NAMES"]
    DESCRIPTION = "Generates a video of any length on a longtake server. Interrupting keeps what was generated there."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "prompt": ("STRING", {"multiline": True, "default": ""}),
                "model": ("STRING", {"default": "pocket", "tooltip": "a name that the server offers"}),
                "seconds": ("FLOAT", {"default": 10.0, "min": 0.1, "max": 86_400.0, "step": 0.1}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**53 - 1}),
            },
            "optional": {
                "timeline": ("LONGTAKE_TIMELINE", {"tooltip": "scenes instead of the prompt, with their own length"}),
                "image": ("IMAGE", {"tooltip": "the first frame"}),
                "last_image": ("IMAGE", {"tooltip": "the last frame"}),
                **SAMPLING,
            },
        }

    def generate(
        self, prompt: str, model: str, seconds: float, seed: int, timeline: tuple[Any, ...] | None = None,
        image: Any = None, last_image: Any = None, images: int = 241, server: str = "", **sampling: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Ask the server for the video, show its progress, and return it."""
        what = {"prompt": prompt, "seconds": seconds} if timeline is None else {"scenes": list(timeline)}
        fields = {**_options(sampling), **what, "model": model, "seed": seed}
        given = {"image": image, "last_image": last_image}
        files = {name: (f"{name}.png", png_of(one)) for name, one in given.items() if one is not None}
        client = Client(server)
        return _made(client, client.create(fields, files), images)


class LongtakeExtend:
    """A video that the server has, and new frames behind it."""

    CATEGORY, FUNCTION, OUTPUT_NODE = CATEGORY, "extend", True
    RETURN_TYPES, RETURN_NAMES = OUTPUTS["RETURN_TYPES"], OUTPUTS["RETURN_NAMES"]
    DESCRIPTION = "Continues a video of the server; all outputs hold the whole video."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "video_id": ("STRING", {"forceInput": True, "tooltip": "the output of another longtake node"}),
                "prompt": ("STRING", {"multiline": True, "default": ""}),
                "seconds": ("FLOAT", {"default": 5.0, "min": 0.1, "max": 86_400.0, "step": 0.1}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**53 - 1}),
            },
            "optional": {"timeline": ("LONGTAKE_TIMELINE", {"tooltip": "scenes of the new part"}), **SAMPLING},
        }

    def extend(
        self, video_id: str, prompt: str, seconds: float, seed: int, timeline: tuple[Any, ...] | None = None,
        images: int = 241, server: str = "", **sampling: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Ask the server for the continuation, show its progress, and return the whole video."""
        what = {"prompt": prompt, "seconds": seconds} if timeline is None else {"scenes": list(timeline)}
        client = Client(server)
        return _made(client, client.extend(video_id, {**_options(sampling), **what, "seed": seed}), images)


def _options(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are set, with those that were written as JSON. ServerError if that is none."""
    text = str(sampling.get("options", "")).strip()
    try:
        more = json.loads(text) if text else {}
    except ValueError as error:
        raise ServerError(f'options are a JSON object such as {{"overlap": 9}} ({error})') from error
    if not isinstance(more, dict):
        raise ServerError('options are a JSON object such as {"overlap": 9}')
    return {**{name: value for name, value in sampling.items() if value and name != "options"}, **more}


def _made(client: Client, video: Mapping[str, Any], images: int) -> dict[str, Any]:
    """Follow a video until it has ended, and return the outputs of a node. An interrupt stops the video too."""
    import folder_paths

    video = _followed(client, str(video["id"]))
    if video["status"] != "completed":
        raise ServerError(str((video.get("error") or {}).get("message") or "the video failed"))
    folder = os.path.join(folder_paths.get_output_directory(), "longtake")
    os.makedirs(folder, exist_ok=True)
    name = f"{video['id']}.mp4"
    path = os.path.join(folder, name)
    client.save(video["id"], path)
    frames, fps = frames_of(path, images)
    sheet = image_of(client.picture(video["id"], "spritesheet"))
    shown = {"images": [{"filename": name, "subfolder": "longtake", "type": "output"}], "animated": (True,)}
    return {"ui": shown, "result": (frames, _video_input(path), fps, video["id"], path, sheet)}


def _followed(client: Client, id: str) -> dict[str, Any]:
    """Return a video that has ended, with its progress and its newest frame in ComfyUI's progress bar on the way."""
    import comfy.model_management
    import comfy.utils

    bar, shown, video = comfy.utils.ProgressBar(100), 0, {}
    try:
        for video in client.followed(id):
            comfy.model_management.throw_exception_if_processing_interrupted()
            total, preview = int(video.get("num_frames") or 0), None
            done = total if video.get("status") == "completed" else int(video.get("frames_done") or 0)
            if done > shown:
                shown, preview = done, _preview(client, id, done - 1)
            bar.update_absolute(100 * done // total if total else int(video.get("progress") or 0), 100, preview)
    except BaseException:
        if video.get("status") not in ("completed", "failed"):
            _stop(client, id)
        raise
    return video


def _stop(client: Client, id: str) -> None:
    try:
        client.stop(id)
    except ServerError:
        return  # it has ended meanwhile, or the server has


def _preview(client: Client, id: str, frame: int) -> tuple[str, Any, int] | None:
    """Return the newest frame for the progress bar, of a server without that route the first one; None without a picture."""
    for picture in (lambda: client.frame(id, frame), lambda: client.picture(id, "thumbnail")):
        try:
            return "JPEG", preview_of(picture()), PREVIEW_SIZE
        except (ServerError, OSError):
            continue
    return None


def _video_input(path: str) -> Any:
    """Return the file as a VIDEO of ComfyUI; None in versions that have no such type."""
    try:
        from comfy_api.latest import InputImpl
    except ImportError:
        return None
    return InputImpl.VideoFromFile(path)


NODE_CLASS_MAPPINGS = {
    "LongtakeTimeline": LongtakeTimeline, "LongtakeGenerate": LongtakeGenerate, "LongtakeExtend": LongtakeExtend,
}  # fmt: skip
NODE_DISPLAY_NAME_MAPPINGS = {
    "LongtakeTimeline": "Timeline (longtake)", "LongtakeGenerate": "Generate video (longtake)",
    "LongtakeExtend": "Extend video (longtake)",
}  # fmt: skip
