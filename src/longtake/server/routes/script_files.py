"""Script files, read as `longtake generate --script` reads them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.core.errors import ScriptError
from longtake.planning.script_files import MOST_BYTES, read_script_file
from longtake.server.answers import JsonAnswer
from longtake.server.errors import ApiError
from longtake.server.requests.calls import called
from longtake.server.requests.json_body import json_body

SUFFIXES = (".toml", ".txt")


def script_file_routes() -> list[Route]:
    """Return the route `POST /v1/scripts`."""
    return [Route("/v1/scripts", _read, methods=["POST"])]


async def _read(request: Request) -> Response:
    """Return the scenes of a script file: {"name": "story.toml", "text": "..."}."""
    values = await json_body(request)
    name, text = values.get("name"), values.get("text")
    suffix = Path(name).suffix.lower() if isinstance(name, str) else ""
    if suffix not in SUFFIXES:
        raise ApiError(400, "invalid_value", "name ends with .toml (scenes) or .txt (a prompt per line).", "name")
    if not isinstance(text, str) or len(text) > MOST_BYTES:
        raise ApiError(400, "invalid_value", "text is the content of the file, at most a megabyte.", "text")
    return JsonAnswer({"object": "script", "scenes": await called(lambda: scenes_of(text, suffix))})


def scenes_of(text: str, suffix: str) -> list[dict[str, Any]]:
    """Return the scenes of a script file as JSON values. ScriptError says what is wrong with it, without its path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"script{suffix}"
        path.write_text(text, encoding="utf-8", newline="\n")
        try:
            scenes = read_script_file(path).scenes
        except ScriptError as error:
            raise ScriptError(str(error).replace(f"{path}: ", "").replace(str(path), "the script")) from None
    if not scenes:
        raise ScriptError("the script has no scenes: write at least one prompt")
    return [
        {
            "prompt": one.prompt,
            "seconds": one.seconds,
            "cut": one.cut,
            "lora": [[Path(file).name, s] for file, s in one.lora],
        }
        for one in scenes
    ]
