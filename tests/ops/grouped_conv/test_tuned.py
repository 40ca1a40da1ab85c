"""The tables in the user's cache: what is kept, and what is refused by name and ignored."""

import json
import re

import pytest

from clef_jax.ops.grouped_conv import tuned

KIND, DTYPE = "NVIDIA H100 80GB HBM3", "bfloat16"
ENTRY = {"c4x8 s1 k16": ["pack", "native", "conv:4"]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "clef_jax" / "convolutions"


def test_a_table_is_kept_by_kind_of_device_jaxlib_and_type(cache):
    assert tuned.find_table(KIND, DTYPE) == {}
    path = tuned.write_table(KIND, DTYPE, ENTRY)
    assert path.parent == cache and path.name.startswith("NVIDIA_H100_80GB_HBM3-jaxlib_")
    other = {"c4x8 s2 k16": ["native", "conv:1", "conv:1"]}
    assert tuned.write_table(KIND, DTYPE, other) == path
    assert tuned.find_table(KIND, DTYPE) == ENTRY | other
    assert tuned.find_table(KIND, "float32") == tuned.find_table("TPU v5 lite", DTYPE) == {}
    assert [file.name for file in cache.iterdir()] == [path.name]


def test_without_xdg_it_lies_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    assert tuned.table_path("cpu", "float32").is_relative_to(
        tmp_path / "home" / ".cache" / "clef_jax" / "convolutions"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "expected an object"),
        ({"kind": "shards"}, "kind is 'shards', expected 'grouped convolutions'"),
        ({"jaxlib": "0.1"}, "jaxlib is '0.1', expected"),
        ({"dtype": "float32"}, "dtype is 'float32', expected 'bfloat16'"),
        ({"format_version": 2}, "format_version is 2, expected 1"),
        ({"algorithms": None}, "has no algorithms"),
        ({"algorithms": {"c4x8 s1 k16": "native"}}, "c4x8 s1 k16: expected three algorithms"),
        ({"algorithms": {"c4x8 s1 k16": ["native"] * 2}}, "c4x8 s1 k16: 2 algorithms for three"),
        ({"algorithms": {"c4x8 s1 k16": ["fft"] * 3}}, "c4x8 s1 k16: 'fft' is not an algorithm"),
    ],
)
def test_a_damaged_or_foreign_table_is_named_ignored_and_written_anew(changed, message, caplog):
    path = tuned.write_table(KIND, DTYPE, ENTRY)
    whole = json.loads(path.read_text())
    path.write_text(changed if isinstance(changed, str) else json.dumps(whole | changed))
    with pytest.raises(tuned.TunedTableError, match=re.escape(f"{path}: {message}")):
        tuned.read_table(path, KIND, DTYPE)
    with caplog.at_level("WARNING"):
        assert tuned.find_table(KIND, DTYPE) == {}
    assert f"{path}: {message}" in caplog.text and "`clef-jax tune` writes it anew" in caplog.text
    tuned.write_table(KIND, DTYPE, ENTRY)
    assert json.loads(path.read_text()) == whole
