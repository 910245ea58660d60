"""The laws of the house, read from the directories: rooms import downwards, families stand alone, no cycles.

A room is a folder of `src/longtake`. A new file is under these laws at once: no list names files.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import longtake

ROOT = Path(longtake.__file__).parent
FLOORS = [  # from the ground up; a room imports only itself and rooms on floors below it
    {"core"},
    {"planning", "media", "metrics"},
    {"models"},
    {"engine"},
    {"pipelines"},
    {"runs", "pocket"},
    {"data"},
    {"eval"},
    {"train"},
    {"server"},
    {"studio"},
    {"cli"},
    {"testing"},
]
SHARED = {"encoders", "lora", "checkpoints", "runtime"}  # folders of models/ that are no family
MOST_FILES, MOST_ROOMS, DEEPEST = 18, 16, 4


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package by its name without `longtake.`, but for the package's own two files."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in ("", "__main__"):
            found[name] = path
    return found


def imports(path: Path, known) -> set[str]:
    """Modules of longtake that a file imports, at the top, lazily or for its types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "longtake":
            base = node.module.removeprefix("longtake").removeprefix(".")
            for name in node.names:
                full = f"{base}.{name.name}".strip(".")
                found.add(full if full in known else base)
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("longtake.") for a in node.names if a.name.startswith("longtake.")}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("longtake."):
            module = node.value.removeprefix("longtake.").split(":")[0]
            if module in known:
                found.add(module)  # "longtake.x.y:function" of a registry, imported by name
    return found - {""}


def room(module: str) -> str:
    """The folder at the top level that a module is in."""
    return module.split(".")[0]


def floor(module: str) -> int:
    """The floor of a module's room."""
    return next(i for i, rooms in enumerate(FLOORS) if room(module) in rooms)


def family(module: str) -> str | None:
    """The model family that a module belongs to: its folder in models/."""
    parts = module.split(".")
    inside = len(parts) > 1 and parts[0] == "models" and (ROOT / "models" / parts[1]).is_dir()
    return parts[1] if inside and parts[1] not in SHARED else None


def faults(name: str, others: set[str]) -> list[str]:
    """What a module imports against the laws."""
    wrong = [f"{name} imports {other}, which stands above it" for other in others if floor(other) > floor(name)]
    same = [other for other in others if floor(other) == floor(name) and room(other) != room(name)]
    wrong += [f"{name} imports {other}, a room on its own floor" for other in same]
    if own := family(name):
        wrong += [f"{name} imports the family {family(o)}" for o in others if family(o) not in (None, own)]
        wrong += [f"{name} imports the strategy {o}" for o in others if o.startswith("planning.strategies.registry")]
    if name.startswith("train.recipes.") and not name.endswith(".registry"):
        wrong += [f"{name} imports the recipe {o}" for o in others if o.startswith("train.recipes.")]
    if room(name) not in ("models", "testing"):
        wrong += [f"{name} imports the family {family(o)}" for o in others if family(o)]
    return wrong


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """Every module and what it imports."""
    known = modules()
    return {name: (imports(path, known) & set(known)) - {name} for name, path in known.items()}


def test_every_folder_is_a_room_with_a_floor():
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set().union(*FLOORS) and len(rooms) <= MOST_ROOMS
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_no_folder_is_crowded():
    for folder in {path.parent for path in modules().values()}:
        count = len(list(folder.glob("*.py")))
        assert count <= MOST_FILES, f"{folder} has {count} files"


def test_imports_point_downwards_and_families_stand_alone(arrows):
    assert sum(map(len, arrows.values())) > 300
    wrong = [fault for name, others in arrows.items() for fault in faults(name, others)]
    assert not wrong, "\n".join(wrong)


def inside(folder: str, arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """The entries of a folder (its files, and its folders as a whole) and which of each other they import."""
    within = lambda name: name.startswith(folder + ".")
    entry = lambda name: name.removeprefix(folder + ".").split(".")[0]
    graph: dict[str, set[str]] = {}
    for name, others in arrows.items():
        if within(name):
            found = {entry(other) for other in others if within(other)}
            graph.setdefault(entry(name), set()).update(found - {entry(name)})
    return graph


def chain(graph: dict[str, set[str]], name: str) -> list[str]:
    """The longest chain of imports from an entry on."""
    return [name, *max((chain(graph, other) for other in graph[name]), key=len, default=[])]


def folders(arrows) -> set[str]:
    """Every folder of the package."""
    return {name for name in arrows if (ROOT / name.replace(".", "/")).is_dir()}


def test_there_are_no_cycles(arrows):
    """Between modules or between folders, lazy imports included."""
    graphs = [inside(folder, arrows) for folder in folders(arrows)]
    for graph in [{n: {o for o in others if not n.startswith(o + ".")} for n, others in arrows.items()}, *graphs]:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            pytest.fail(" -> ".join(error.args[1]))


def test_folders_are_shallow(arrows):
    """The entries of a folder stand on at most four floors."""
    deep = {}
    for folder in folders(arrows):
        graph = inside(folder, arrows)
        longest = max((chain(graph, name) for name in graph), key=len, default=[])
        if len(longest) > DEEPEST:
            deep[folder] = " -> ".join(longest)
    assert deep == {}


@pytest.mark.parametrize(
    ("place", "line", "says"),
    [
        ("core/odd.py", "from longtake.engine.rollout import Rollout", "which stands above it"),
        ("media/odd.py", "from longtake.planning.script import Script", "a room on its own floor"),
        ("models/ltx/odd.py", "from longtake.models.wan.block import Block", "imports the family wan"),
        (
            "models/ltx/odd.py",
            "def f():\n    from longtake.planning.strategies.registry import plan",
            "imports the strategy",
        ),
        ("train/recipes/odd.py", "from longtake.train.recipes.lora import LoraRecipe", "imports the recipe"),
        ("train/recipes/odd.py", "from longtake.models.ltx.vae import LTXVAE", "imports the family ltx"),
        ("pipelines/odd.py", "from longtake.models.wan.block import Block", "imports the family wan"),
    ],
)
def test_a_new_file_is_under_the_law(place, line, says, tmp_path):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    name = next(iter(modules(tmp_path)))
    assert any(says in fault for fault in faults(name, imports(path, modules())))
