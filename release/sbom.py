"""Write a bill of materials (CycloneDX 1.6, JSON) of an environment in which longtake is installed.

The tool `cyclonedx-py` lists the packages. It cannot see what lies inside of them, so the libraries in PyAV's wheel (x264 and x265 among
them) and the weights of longtake are added here, and the result is validated against the schema.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import third_parties


def write(python: Path, target: Path) -> int:
    """Write the bill of the environment of an interpreter; return the number of components. Raises ValueError if it is not valid."""
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "environment",
        str(python),
        "--pyproject",
        str(third_parties.ROOT / "pyproject.toml"),
    ]
    command += ["--mc-type", "library", "--spec-version", "1.6", "--output-format", "JSON", "--output-reproducible"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    document = json.loads(done.stdout)
    add_inner(document)
    text = json.dumps(document, indent=2) + "\n"
    check(text)
    target.write_text(text, encoding="utf-8")
    return len(document["components"]) + sum(len(each.get("components", [])) for each in document["components"])


def add_inner(document: dict[str, Any]) -> None:
    """Add the libraries in PyAV's wheel to `av`, and the weights to longtake."""
    by_name = {each["name"]: each for each in document["components"]}
    page = third_parties.PAGE.read_text(encoding="utf-8")
    for row in third_parties.rows_of(page, "bundled")[2:]:
        name, number, licence = third_parties.cells(row)
        licence = "LGPL-3.0-or-later" if licence == "FFmpeg" else licence.strip("*").replace(" or ", " OR ")
        by_name["av"].setdefault("components", []).append(
            {
                "type": "library",
                "bom-ref": f"av/{name}",
                "name": name,
                "version": number,
                "licenses": [{"expression": licence}],
            }
        )
    own = document["metadata"]["component"]
    for name, _, digest in third_parties.digests():
        own.setdefault("components", []).append(
            {
                "type": "machine-learning-model", "bom-ref": f"longtake/{name}", "name": name,
                "hashes": [{"alg": "SHA-256", "content": digest}], "licenses": [{"expression": "Apache-2.0"}],
            }
        )  # fmt: skip


def check(text: str) -> None:
    """Raise ValueError if a bill does not follow the schema."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"the bill of materials does not follow CycloneDX 1.6: {error}")
