"""The differences between a run and the settings it is resumed with: which are refused, and which --allow lets pass."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longtake.runs.files.errors import RunError
from longtake.runs.files.manifest import VIDEO_KEYS, Manifest


@dataclass(frozen=True)
class Difference:
    """A setting whose value in run.json differs from its value now."""

    name: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name}: was {_short(self.was)}, now {_short(self.now)}"


def differences(was: Manifest, now: Manifest) -> list[Difference]:
    """List every setting that differs. The number of threads is left out: a resume sets the recorded number."""
    old, new = _flat(was), _flat(now)
    return [Difference(name, old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)]


def agreed_manifest(
    was: Manifest, now: Manifest, allow: Iterable[str], folder: Path
) -> tuple[Manifest, list[Difference]]:
    """Return the manifest to resume with, and the differences that `allow` lets pass.

    allow: names of settings, or "all". Raises RunError that lists the other differences; the format of the video
    (VIDEO_KEYS) cannot change within a run.
    """
    found, names = differences(was, now), set(allow)
    refused = [d for d in found if d.name in VIDEO_KEYS or not names & {d.name, "all"}]
    if refused:
        can = [d.name for d in refused if d.name not in VIDEO_KEYS]
        flags = " ".join(f"--allow {name}" for name in can)
        hint = f" (or accept the difference with {flags})" if len(can) == len(refused) else ""
        raise RunError(
            f"{folder} was started with other settings, and resuming it would not make the same video:\n"
            + "\n".join(f"  {difference}" for difference in refused)
            + f"\nresume with the settings it was started with{hint}, or start a new run in another folder"
        )
    return replace(now, threads=was.threads), found


GROUPS = ("sampling", "strategy_options", "load")  # settings whose fields are compared one by one


def _flat(manifest: Manifest) -> dict[str, Any]:
    settings = dict(manifest.settings)
    groups = {name: settings.pop(name, {}) for name in GROUPS}
    tables = [group if isinstance(group, dict) else {name: group} for name, group in groups.items()]
    return {
        **settings,
        **{name: value for table in tables for name, value in table.items()},
        "seed": manifest.seed,
        "weights": manifest.weights,
        **manifest.video(),
        **manifest.versions,
        **manifest.machine,
    }


def _short(value: Any, longest: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= longest else text[: longest - 1] + "…"
