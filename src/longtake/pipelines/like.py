"""Calls that generate a video again from the settings that its file carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longtake.pipelines.call.prompts import file_or_text, own_names, python_words
from longtake.pipelines.carried.again import keywords_again
from longtake.pipelines.carried.video_settings import read_settings


def keywords_like(video: Path | str, **given: Any) -> dict[str, Any]:
    """Return the keyword arguments of a pipeline call, or of `longtake.record`, that generate a video again.

        pipe = longtake.load("pocket")
        pipe(**longtake.keywords_like("x.mp4", seed=7)).save("y.mp4")

    video: a file that longtake wrote. given: keywords that replace those of the file. An image, a video, a control signal
    or loras that it was made with are not in the file: give them too; they are compared by SHA-256. An endless video gives
    an endless script, for `stream` and `record`. SettingsError names what is missing, or says that the file carries no settings.
    """
    with python_words():
        named = own_names(given)
        if "prompt" in named:
            named["prompt"] = file_or_text(named["prompt"])
        return keywords_again(read_settings(video), named)
