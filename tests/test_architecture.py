"""Who may import whom, kept by walking the imports."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "clef_jax"

# Each room, and the prefixes of modules that it must not import.
FORBIDDEN = {
    "data": ("jax", "flax", "optax", "orbax", "torch", *(f"clef_jax.{room}" for room in (
        "models", "ops", "objectives", "train", "convert", "embedding", "evaluate",
        "checkpoint", "parallel"))),
    "risk": ("jax", "flax", "clef_jax.data", "clef_jax.models", "clef_jax.train"),
    "objectives": ("flax", "optax", "orbax", "grain", "clef_jax.models", "clef_jax.data",
                   "clef_jax.train"),
    "ops": ("flax", "optax", "orbax", "grain", "clef_jax.models", "clef_jax.data",
            "clef_jax.train"),
    "models": ("orbax", "grain", "optax", "clef_jax.data", "clef_jax.train",
               "clef_jax.losses"),
    "train": ("clef_jax.inference", "clef_jax.evaluate", "clef_jax.convert", "torch"),
}  # fmt: skip


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(module, prefix):
    return module == prefix or module.startswith(prefix + ".")


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_import_only_what_they_may(room):
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        for module in imports_of(path):
            for prefix in FORBIDDEN[room]:
                assert not is_within(module, prefix), f"{path} imports {module}"


def test_only_checkpoint_knows_orbax_and_only_the_run_sees_the_configuration():
    for path in PACKAGE.rglob("*.py"):
        modules = list(imports_of(path))
        if path != PACKAGE / "checkpoint.py":
            assert not any(is_within(module, "orbax") for module in modules), path
        if path not in (PACKAGE / "train" / "loop.py", PACKAGE / "train" / "parts.py"):
            assert not any(is_within(module, "ml_collections") for module in modules), path


def test_preprocessing_workers_start_without_jax():
    code = (
        "import sys, clef_jax.data.shards.write, clef_jax.data.shards.format, clef_jax.risk\n"
        "assert not {'jax', 'flax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_nothing_needs_what_only_posix_has():
    posix_only = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    for path in (*PACKAGE.rglob("*.py"), *(ROOT / "tools").glob("*.py")):
        assert posix_only.isdisjoint(imports_of(path)), path


def test_tools_are_short():
    for path in (ROOT / "tools").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 80, path
