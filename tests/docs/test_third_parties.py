"""docs/third-parties.md and SHA256SUMS agree with the packages that are installed and with the weights."""

import importlib.util
import re
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import av
import pytest
import torch

import longtake
from longtake.media.video_io import encode

ROOT = Path(longtake.__file__).parents[2]


@pytest.fixture
def script():
    """release/third_parties.py, which writes the tables."""
    spec = importlib.util.spec_from_file_location("third_parties", ROOT / "release" / "third_parties.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_and_the_digests_are_true(script):
    wrong = script.differences()
    assert not wrong, "run `python release/third_parties.py`:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("| av | 18.1.0 | BSD-3-Clause", "| av | 18.1.0 | MIT", "run-time: | av "),
        ("| libx264 | 165 | **GPL-2.0-or-later**", "| libx264 | 165 | MIT", "bundled: | libx264 "),
        ("`pocket/vae/diffusion_pytorch_model.safetensors` | ", "`pocket/other.safetensors` | ", "too many in weights"),
        ("| numpy |", "| nampy |", "missing in run-time: | numpy"),
    ],
)
def test_a_false_line_would_be_found(script, tmp_path, monkeypatch, old, new, complaint):
    if metadata.version("av") != script.pins()["av"] or metadata.version("numpy") != script.pins()["numpy"]:
        pytest.skip("other versions than pinned are installed")
    text = script.PAGE.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "page.md").write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(script, "PAGE", tmp_path / "page.md")
    found = "\n".join(script.differences())
    if "bundled" in complaint and "libx264" not in found:
        pytest.skip("the table is of the wheel for Linux on x86-64")
    assert complaint in found


def test_pyav_holds_the_gpl_edition_of_x264():
    """The page says so; x264 signs with "Copyright" in its other edition. When this fails, rewrite the page."""
    if metadata.distribution("av").read_text("WHEEL") is None or not bundles("av", "x264"):
        pytest.skip("PyAV was built from source here")
    segment = encode(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), 0, Fraction(24))
    assert b"Copyleft 2003-" in segment.media
    assert bundles("av", "x265")
    flags = av._core.library_meta["libavcodec"]["configuration"]
    assert "--enable-libx264" in flags and "--enable-gpl" not in flags


def bundles(package: str, library: str) -> bool:
    """Whether a wheel has a library inside."""
    return any(re.search(rf"lib{library}\b", path.name) for path in metadata.distribution(package).files or [])


def test_the_notice_and_the_licence_are_in_the_package_metadata():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'license-files = ["LICENSE", "NOTICE"]' in text
    assert "x264 and x265" in (ROOT / "NOTICE").read_text(encoding="utf-8")
