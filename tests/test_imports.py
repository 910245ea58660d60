"""Dependencies point one way, and a family imports no other family, no plan and no engine."""

import ast
from pathlib import Path

import longtake

ROOT = Path(longtake.__file__).parent
LAYERS = [
    {"geometry", "noise", "solve", "grade", "guidance", "ledger", "develop"},
    {"plan", "script", "prompts", "scaling", "media", "pictures"},
    {"plans", "schedule", "live", "track", "tape", "look", "guide", "models", "outlet"},
    {"engine", "refine", "take", "stock", "events"},
    {
        "reel",
        "data",
        "train",
        "eval",
        "world",
        "settings",
        "given",
        "adapters",
        "rehearsal",
        "shapes",
        "pipelines",
        "pipeline_ltx",
        "api",
    },
    {"cli", "studio"},
]
PLACES = {"models.base": 1, "world": 2}
FAMILIES = {
    "wan",
    "wan_codec",
    "wan_session",
    "wan_image",
    "wan_layout",
    "wan_parts",
    "wan_checkpoint",
    "clock",
    "gauss",
}
FAMILIES |= {"wan_parts", "wan_lora", "wan_turns", "wan_embed"}
FAMILIES |= {"ltx", "ltx_block", "ltx_session", "ltx_codec", "ltx_codec_config", "ltx_codec_layers"}
FAMILIES |= {"ltx_checkpoint", "ltx_original", "ltx_lora", "ltx_presets", "ltx_upsampler"}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imported(path: Path):
    """Modules of longtake that a file imports when it is imported itself, or when its types are checked."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("longtake"):
            base = (node.module or "").removeprefix("longtake").removeprefix(".")
            for name in node.names:
                full = f"{base}.{name.name}".strip(".")
                yield full if (ROOT / (full.replace(".", "/") + ".py")).exists() else base
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("longtake.") for a in node.names if a.name.startswith("longtake."))


def layer(module: str) -> int:
    for place, level in PLACES.items():
        if module == place or module.startswith(place + "."):
            return level
    top = module.split(".")[0]
    return next(i for i, names in enumerate(LAYERS) if top in names)


def test_every_module_has_a_place():
    for module, _ in modules():
        if module not in ("__init__", "__main__", ""):
            assert layer(module) >= 0, module


def test_dependencies_point_one_way():
    seen = 0
    for module, path in modules():
        if module in ("__init__", "__main__", ""):
            continue
        for other in imported(path):
            if other in ("", "__init__"):
                continue
            seen += 1
            assert layer(other) <= layer(module), f"{module} imports {other}, which stands above it"
    assert seen > 30


def test_families_stand_alone():
    for module, path in modules():
        name = module.removeprefix("models.")
        if not module.startswith("models.") or name not in FAMILIES:
            continue
        kin = name.split("_")[0]
        for other in imported(path):
            assert other.split(".")[0] not in ("plans", "engine"), f"{module} imports {other}"
            if other.startswith("models."):
                family = other.removeprefix("models.")
                assert family not in FAMILIES or family.split("_")[0] == kin, f"{module} imports {other}"


def test_an_import_that_points_up_would_be_found(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("from longtake.engine import Rollout\n")
    assert [layer(m) for m in imported(bad)] == [layer("engine")]
    assert layer("engine") > layer("plans.chunks")
