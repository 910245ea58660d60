"""Settings that other tools write into their files, as far as they mean something here: read, never run.

ComfyUI writes its graph ("prompt", "workflow"), as tags or in a comment; Wan2GP and SwarmUI write a table of settings;
AUTOMATIC1111 and its relatives write lines of text ("Steps: 20, Seed: 1, ...").
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from longtake.media.metadata import COMMENT
from longtake.pipelines.carried.video_settings import parsed

NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "positive_prompt", "Prompt"),
    "negative_prompt": ("negative_prompt", "negativeprompt", "Negative prompt", "negative"),
    "seed": ("seed", "noise_seed", "Seed"),
    "num_inference_steps": ("num_inference_steps", "steps", "Steps", "infer_steps"),
    "guidance_scale": ("guidance_scale", "cfg_scale", "cfgscale", "cfg", "CFG scale", "embedded_guidance_scale"),
    "width": ("width", "Width"),
    "height": ("height", "Height"),
    "num_frames": ("num_frames", "video_length", "frames", "length"),
    "fps": ("fps", "frame_rate", "force_fps"),
}  # the keywords here, and what other tools call them
FLAGS = {"num_inference_steps": "steps", "guidance_scale": "guidance"}
SIZE = re.compile(r"(\d{2,5})\s*[x×]\s*(\d{2,5})")
LINE = re.compile(r"\s*([A-Z][A-Za-z ]{0,40}): (\"[^\"]*\"|[^,]*)(?:,|$)")
MOST_LINE = 20_000  # characters of a line of settings that are read
MOST_LINKS = 64  # of a graph that are followed from a sampler to its prompt


@dataclass(frozen=True)
class OtherSettings:
    """What a file of another tool says. tool: its name. keywords: what can be taken over, by the names used here."""

    tool: str
    keywords: Mapping[str, Any]

    @property
    def command(self) -> str:
        """The command that generates a video with these settings."""
        words = ["longtake", "generate", str(self.keywords.get("prompt", "PROMPT"))]
        rest = {name: value for name, value in self.keywords.items() if name not in ("prompt", "width", "height")}
        if {"width", "height"} <= self.keywords.keys():
            rest["size"] = f"{self.keywords['width']}x{self.keywords['height']}"
        for name, value in rest.items():
            words.append(f"--{FLAGS.get(name, name).replace('_', '-')}={value}")
        return shlex.join(words)


def other_settings(tags: Mapping[str, str]) -> OtherSettings | None:
    """Return what the tags of a file of another tool say; None if nothing is recognised."""
    comment = tags.get(COMMENT, "")
    found = parsed(comment) or {}
    graph = _graph(tags.get("prompt")) or _graph(found.get("prompt"))
    if graph or "workflow" in tags or "workflow" in found:
        return OtherSettings("ComfyUI", _of_graph(graph))
    if "sui_image_params" in found:
        return OtherSettings("SwarmUI", _of_table(found["sui_image_params"]))
    if "wangp" in str(found.get("type", "")).lower():
        return OtherSettings("Wan2GP", _of_table(found))
    lines = next((text for text in (tags.get("parameters", ""), comment) if "Steps: " in text), "")
    if lines:
        return OtherSettings("AUTOMATIC1111", _of_lines(lines))
    keywords = _of_table(found)
    return OtherSettings("another tool", keywords) if "prompt" in keywords or "seed" in keywords else None


def _of_table(table: Any) -> dict[str, Any]:
    """Return the keywords that a table of settings holds, those of a wrong type left out."""
    if not isinstance(table, Mapping):
        return {}
    found = {}
    for keyword, names in NAMES.items():
        value = next((table[name] for name in names if name in table), None)
        if (kept := KINDS.get(keyword, _number)(value)) is not None:
            found[keyword] = kept
    size = next((SIZE.search(str(table[name])[:40]) for name in ("resolution", "size", "Size") if name in table), None)
    if size:
        found |= {"width": int(size[1]), "height": int(size[2])}
    return found


def _number(value: Any) -> float | int | None:
    """Return a positive number, also where it is written as a text."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip()):
        value = float(value) if "." in value else int(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9 else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or number != int(number) else int(number)


def _seed(value: Any) -> int | None:
    if isinstance(value, str) and value.strip().isdigit() and len(value) <= 20:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64 else None


def _prompt(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


KINDS: Mapping[str, Callable[[Any], Any]] = {
    "prompt": _prompt, "negative_prompt": _prompt, "seed": _seed, "num_inference_steps": _whole, "width": _whole,
    "height": _whole, "num_frames": _whole,
}  # fmt: skip


def _of_lines(text: str) -> dict[str, Any]:
    """Return the keywords of the text that AUTOMATIC1111 writes: the prompt, its negative, and a line of settings."""
    rows = text.strip().splitlines()
    last = next((i for i in range(len(rows) - 1, -1, -1) if "Steps: " in rows[i]), len(rows))
    negative = next((i for i in range(last) if rows[i].startswith("Negative prompt:")), last)
    table = (
        {name.strip(): value.strip(' "') for name, value in LINE.findall(rows[last][:MOST_LINE])}
        if last < len(rows)
        else {}
    )
    prompts = {"prompt": "\n".join(rows[:negative]), "negative_prompt": "\n".join(rows[negative:last])[16:].strip()}
    return _of_table({**table, **prompts})


# ------------------------------------------------------------ ComfyUI
def _graph(value: Any) -> dict[str, dict[str, Any]]:
    """Return the nodes of a graph, which is a table or the JSON of one; {} if it is none."""
    table = parsed(value) if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        return {}
    nodes = {str(name): node for name, node in table.items() if isinstance(node, Mapping) and "class_type" in node}
    return {name: dict(node["inputs"]) for name, node in nodes.items() if isinstance(node.get("inputs"), Mapping)}


def _of_graph(graph: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keywords of a graph: those of its sampler, the texts that it is conditioned on, and its size."""
    samplers = [inputs for inputs in graph.values() if {"seed", "noise_seed"} & inputs.keys()]
    sampler = max(samplers, key=lambda inputs: len({"steps", "cfg", "positive"} & inputs.keys()), default={})
    table = {name: _followed(graph, value) for name, value in sampler.items() if name not in ("positive", "negative")}
    for name, link in (("prompt", "positive"), ("negative_prompt", "negative")):
        table[name] = _text(graph, sampler.get(link)) if link in sampler else None
    if not table["prompt"]:
        texts = [_followed(graph, inputs.get("text")) for inputs in graph.values()]
        table["prompt"] = next((text for text in texts if isinstance(text, str)), None)
    for inputs in graph.values():
        if {"width", "height"} <= inputs.keys():
            table |= {name: _followed(graph, inputs[name]) for name in ("width", "height", "length") if name in inputs}
    for inputs in graph.values():
        for name in ("steps", "cfg", "fps", "frame_rate"):
            if name in inputs and _number(table.get(name)) is None:
                table[name] = _followed(graph, inputs[name])
    return _of_table(table)


def _followed(graph: Mapping[str, Mapping[str, Any]], value: Any) -> Any:
    """Return a value of an input, of the node that it is linked to where that holds one number or text."""
    if not (isinstance(value, list) and len(value) == 2):
        return value
    plain = [one for one in graph.get(str(value[0]), {}).values() if isinstance(one, int | float | str)]
    return plain[0] if len(plain) == 1 else None


def _text(graph: Mapping[str, Mapping[str, Any]], link: Any) -> str | None:
    """Return the first text on the way from a link to the nodes behind it."""
    waiting, seen = [link], set[str]()
    while waiting and len(seen) < MOST_LINKS:
        link = waiting.pop(0)
        if not (isinstance(link, list) and len(link) == 2) or str(link[0]) in seen:
            continue
        seen.add(str(link[0]))
        inputs = graph.get(str(link[0]), {})
        for name in ("text", "prompt", "positive_prompt", "value", "string"):
            if text := _prompt(_followed(graph, inputs.get(name))):
                return text
        waiting += [value for value in inputs.values() if isinstance(value, list)]
    return None
