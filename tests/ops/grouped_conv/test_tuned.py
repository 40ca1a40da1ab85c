"""The tables in the user's cache: what is kept, and what is refused by name and ignored."""

import json
import re

import pytest

from clef_jax.ops.grouped_conv import tuned

H100 = tuned.Conditions("NVIDIA H100 80GB HBM3", "bfloat16", views=128, samples=5000)
ENTRY = {"c4x8 s1 k16": ["pack", "native", "conv:4"]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "clef_jax" / "convolutions"


def test_a_table_is_kept_by_device_jaxlib_type_and_size(cache):
    assert tuned.find_table(H100) == {}
    path = tuned.write_table(H100, ENTRY)
    assert path.parent == cache and path.name.startswith("NVIDIA_H100_80GB_HBM3-jaxlib_")
    other = {"c4x8 s2 k16": ["native", "conv:1", "conv:1"]}
    assert tuned.write_table(H100, other) == path
    assert tuned.find_table(H100) == ENTRY | other
    for changed in (
        {"device": "TPU v5 lite"},
        {"dtype": "float32"},
        {"views": 2},
        {"samples": 100},
    ):
        assert tuned.find_table(H100._replace(**changed)) == {}
    assert [file.name for file in cache.iterdir()] == [path.name]


def test_without_xdg_it_lies_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    assert tuned.table_path(H100).is_relative_to(
        tmp_path / "home" / ".cache" / "clef_jax" / "convolutions"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "expected an object"),
        ({"kind": "shards"}, "kind is 'shards', expected 'grouped convolutions'"),
        ({"jaxlib": "0.1"}, "jaxlib is '0.1', expected"),
        ({"device": "cpu"}, "device is 'cpu', expected 'NVIDIA H100 80GB HBM3'"),
        ({"dtype": "float32"}, "dtype is 'float32', expected 'bfloat16'"),
        ({"views": 2}, "views is 2, expected 128"),
        ({"samples": 100}, "samples is 100, expected 5000"),
        ({"format_version": 2}, "format_version is 2, expected 1"),
        ({"algorithms": None}, "has no algorithms"),
        ({"algorithms": {"c4x8 s1 k16": "native"}}, "c4x8 s1 k16: expected three algorithms"),
        ({"algorithms": {"c4x8 s1 k16": ["native"] * 2}}, "c4x8 s1 k16: 2 algorithms for three"),
        ({"algorithms": {"c4x8 s1 k16": ["fft"] * 3}}, "c4x8 s1 k16: 'fft' is not an algorithm"),
    ],
)
def test_a_damaged_or_foreign_table_is_named_ignored_and_written_anew(changed, message, caplog):
    path = tuned.write_table(H100, ENTRY)
    whole = json.loads(path.read_text())
    path.write_text(changed if isinstance(changed, str) else json.dumps(whole | changed))
    with pytest.raises(tuned.TunedTableError, match=re.escape(f"{path}: {message}")):
        tuned.read_table(path, H100)
    with caplog.at_level("WARNING"):
        assert tuned.find_table(H100) == {}
    assert f"{path}: {message}" in caplog.text and "`clef-jax tune` writes it anew" in caplog.text
    tuned.write_table(H100, ENTRY)
    assert json.loads(path.read_text()) == whole


def test_a_table_that_cannot_be_read_is_a_warning(cache, monkeypatch, caplog):
    tuned.table_path(H100).mkdir(parents=True)
    with caplog.at_level("WARNING"):
        assert tuned.find_table(H100) == {}
    assert f"cannot be read and is ignored: [Errno 21] Is a directory: '{cache}" in caplog.text
    (cache.parent / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent / "file"))
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert tuned.find_table(H100) == {}
    assert "Not a directory" in caplog.text
    with pytest.raises(OSError, match="Not a directory"):
        tuned.write_table(H100, ENTRY)


def test_without_a_home_folder_there_is_no_table(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)  # A user that no file names.
    assert tuned.find_table(H100) == {}
    with pytest.raises(FileNotFoundError, match="no home folder .*; set XDG_CACHE_HOME to one"):
        tuned.write_table(H100, ENTRY)
