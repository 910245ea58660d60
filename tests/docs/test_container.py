"""The Dockerfile copies what there is, runs without root, and has the targets that the docs name."""

import re
from fnmatch import fnmatch
from pathlib import Path

import longtake

ROOT = Path(longtake.__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
STAGES = dict(re.findall(r"(?m)^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.S))


def base(stage: str) -> str:
    """The stage that a stage begins from, or an image."""
    return re.search(rf"(?m)^FROM (\S+) AS {stage}$", DOCKERFILE)[1]


def text(stage: str) -> str:
    """The instructions of a stage after those of the stages that it begins from."""
    return text(base(stage)) + STAGES[stage] if stage in STAGES else ""


def test_every_copied_file_is_in_the_context():
    kept = re.findall(r"(?m)^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"))
    copied = [name for line in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE) for name in line.split()]
    assert set(copied) == set(kept)
    assert all((ROOT / name).is_file() for name in copied if not fnmatch(name, "dist/*"))


def test_both_targets_run_without_root_and_have_the_environment():
    page = (ROOT / "docs" / "guides" / "container.md").read_text(encoding="utf-8")
    for target in set(re.findall(r"--target (\S+)", page)) | {"cpu", "cuda"}:
        assert re.findall(r"(?m)^USER (\S+)$", text(target))[-1] == "1000:1000"
        assert f"COPY --from=environment-{target} /opt/longtake /opt/longtake" in text(target)
        assert 'VOLUME ["/weights", "/out"]' in text(target)
    assert list(STAGES)[-1] == "cpu", "the last stage is the default target"


def test_only_pytorch_is_installed_without_hashes():
    installs = re.findall(r"pip install (.+?)(?= &&|\n)", DOCKERFILE)
    loose = {line.split()[-1] for line in installs if "--require-hashes" not in line}
    assert loose == {"torch", "./*.whl"}
    assert all("--no-deps" in line or line.split()[-1] == "torch" for line in installs)
