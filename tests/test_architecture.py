"""Who may import whom, kept by walking the imports."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "clef_jax"

# The rooms, floor by floor: each imports only from lower floors, and from within itself.
FLOORS = (
    ("errors", "nested"),
    ("stores",),
    ("files", "processes", "reads", "hardware", "hosts", "cluster"),
    ("tables", "ops", "losses"),
    ("data", "risk", "models"),
    ("checkpoints", "methods"),
    ("inference",),
    ("train", "convert"),
    ("evaluate",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Within data, from the ground up.
DATA_FLOORS = (
    ("signals",),
    ("recordings",),
    ("annotations", "noise"),
    ("shards", "demo"),
    ("windows", "batches"),
)
# Within evaluate likewise.
EVALUATE_FLOORS = (
    ("metrics",),
    ("learned", "statistics"),
    ("windows",),
    ("tasks",),
    ("datasets", "features"),
    ("finetune",),
    ("asking", "report"),
)
FLOORS_WITHIN = {"data": DATA_FLOORS, "evaluate": EVALUATE_FLOORS}
ROOMS_WITHIN = [
    (house, room) for house, floors in FLOORS_WITHIN.items() for rooms in floors for room in rooms
]

# Reading processes start without jax; Grain, which batches need, imports it wherever it is there.
JAX_FREE = ("errors", "nested", "stores", "files", "processes", "reads", "tables", "risk", "data")
# Of evaluate: what is asked, of whom, where it lies, and what reads it.
JAX_FREE_IN_EVALUATE = ("datasets", "tasks", "windows")
# What a room must not import of other packages, besides what JAX_FREE says.
FORBIDDEN_PACKAGES = {
    "ops": ("flax", "optax", "orbax", "grain"),
    "losses": ("flax", "optax", "orbax", "grain"),
    "models": ("orbax", "grain", "optax"),
    "methods": ("orbax", "grain", "optax"),
    "inference": ("orbax", "grain", "optax", "torch"),
    "train": ("torch", "sklearn"),
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(module, prefix):
    return module == prefix or module.startswith(prefix + ".")


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def room_within(house, path):
    return path.relative_to(PACKAGE / house).with_suffix("").parts[0]


def floors_of(house):
    floors = FLOORS_WITHIN[house]
    return {room: number for number, rooms in enumerate(floors) for room in rooms}


def files_of(room):
    found = [p for p in PACKAGE.rglob("*.py") if room_of(p) == room]
    assert found, room
    return found


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == FLOOR.keys()
    for house in FLOORS_WITHIN:
        inside = {room_within(house, path) for path in files_of(house)} - {"__init__"}
        assert inside == floors_of(house).keys()


@pytest.mark.parametrize("room", FLOOR)
def test_rooms_import_from_lower_floors_only(room):
    for path in files_of(room):
        for module in imports_of(path):
            other = module.split(".")[1:2] if is_within(module, "clef_jax") else []
            if other and other[0] in FLOOR and other[0] != room:
                assert FLOOR[other[0]] < FLOOR[room], f"{path} imports {module}"


@pytest.mark.parametrize(("house", "room"), ROOMS_WITHIN)
def test_rooms_within_a_room_import_from_lower_floors_only(house, room):
    floor = floors_of(house)
    for path in (PACKAGE / house / room).rglob("*.py"):
        for module in imports_of(path):
            parts = module.split(".")
            if parts[:2] == ["clef_jax", house] and len(parts) > 2 and parts[2] != room:
                assert floor[parts[2]] < floor[room], f"{path} imports {module}"


@pytest.mark.parametrize("room", FORBIDDEN_PACKAGES)
def test_rooms_do_without_packages_of_others(room):
    for path in files_of(room):
        for module in imports_of(path):
            for package in FORBIDDEN_PACKAGES[room]:
                assert not is_within(module, package), f"{path} imports {module}"


def test_only_checkpoints_know_orbax_and_only_settings_see_the_configuration():
    for path in PACKAGE.rglob("*.py"):
        modules = list(imports_of(path))
        if room_of(path) != "checkpoints":
            assert not any(is_within(module, "orbax") for module in modules), path
        if path != PACKAGE / "train" / "settings.py":
            assert not any(is_within(module, "ml_collections") for module in modules), path


def test_rooms_without_jax_import_in_one_process_that_has_none():
    modules = ["clef_jax"]
    asked = [p for p in files_of("evaluate") if room_within("evaluate", p) in JAX_FREE_IN_EVALUATE]
    for paths in (*map(files_of, JAX_FREE), asked):
        for path in paths:
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:3] == ("clef_jax", "data", "batches"):
                continue
            modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    code = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        "found = {'jax', 'jaxlib', 'flax', 'optax', 'orbax', 'torch'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_nothing_needs_what_only_posix_has():
    posix_only = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    for path in (*PACKAGE.rglob("*.py"), *(ROOT / "tools").glob("*.py")):
        assert posix_only.isdisjoint(imports_of(path)), path


def test_only_files_moves_into_place():
    """What is written elsewhere by a bare rename may be half-written after a crash."""
    for path in (*PACKAGE.rglob("*.py"), *(ROOT / "tools").glob("*.py")):
        if path == PACKAGE / "files.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            renames = isinstance(node, ast.Attribute) and (
                node.attr in ("rename", "renames", "move")
                or (node.attr == "replace" and ast.unparse(node.value) == "os")
            )
            assert not renames, f"{path}:{node.lineno}: {ast.unparse(node)}"


def test_files_and_functions_are_short():
    for top, most in {"clef_jax": 350, "tools": 80, "tests": 350, "benchmarks": 350}.items():
        for path in (ROOT / top).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= most, path
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 80, f"{path}: {node.name}"
