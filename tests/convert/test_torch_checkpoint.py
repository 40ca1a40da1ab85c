"""Checkpoint files in, encoders out: equal to torch, strict, and no pickle is run."""

import hashlib
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from clef_jax import load_encoder
from clef_jax.convert import (
    ConversionError,
    convert_to_folder,
    export_to_torch,
    read_torch_checkpoint,
    to_state_dict,
    write_torch_checkpoint,
)
from clef_jax.convert import torch_checkpoint as module
from clef_jax.data.recordings import read_recording
from clef_jax.data.signals.spec import CLEF_V2, ECGFOUNDER
from tests.convert.checkpoints import lightning_content, same_trees, torch_model, write_lightning
from tests.oracles.torch_resnext1d import jax_params


def torch_embeddings(model, x):
    with torch.no_grad():
        return model(torch.from_numpy(x)[:, None]).numpy()


def assert_encoder_equals_torch(model, folder, lengths=(5000, 4999, 2500, 1000)):
    encoder = load_encoder(folder)
    for samples in lengths:
        x = np.random.default_rng(samples).normal(size=(2, samples)).astype(np.float32)
        expected, actual = torch_embeddings(model, x), np.asarray(encoder.apply(x))
        assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()


def test_small_converts_and_embeds_as_torch(small, small_file, tmp_path):
    config, report, meta = convert_to_folder(small_file, tmp_path / "small")
    assert config.name == "clef_small"
    assert report.parameters == meta["parameters"] == 443_184
    assert report.source["sha256"] == hashlib.sha256(small_file.read_bytes()).hexdigest()
    assert report.source["md5"] == hashlib.md5(small_file.read_bytes()).hexdigest()
    assert meta["provenance"]["source"] == report.source
    assert not report.warnings
    # weight, bias, mean, variance and a counter of first_bn and of three in each of 10 blocks
    assert [len(keys) for keys in report.ignored.values()] == [5 * 31]
    assert_encoder_equals_torch(small, tmp_path / "small", lengths=(4999, 1000))
    assert load_encoder(tmp_path / "small").fingerprint == meta["fingerprint"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clef_small", "clef_medium", "clef_large"])
def test_every_size_converts_in_bounded_memory_and_embed_as_torch(name, tmp_path):
    model = torch_model(name)
    file = write_lightning(tmp_path / "weights.ckpt", model)
    script = (
        "import pathlib, re, sys, threading, time\n"
        "import torch\n"
        "from clef_jax.convert import convert_to_folder\n"
        "def resident():\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    return int(re.search(r'VmRSS:\\s+(\\d+)', status)[1]) / 1e6\n"
        "before, peak, done = resident(), [0.0], []\n"
        "def watch():\n"
        "    while not done:\n"
        "        peak[0] = max(peak[0], resident())\n"
        "        time.sleep(0.005)\n"
        "thread = threading.Thread(target=watch)\n"
        "thread.start()\n"
        "convert_to_folder(sys.argv[1], sys.argv[2])\n"
        "done.append(1)\n"
        "thread.join()\n"
        "print(peak[0] - before)\n"
    )
    command = [sys.executable, "-c", script, str(file), str(tmp_path / "folder")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    extra_gb = float(output.split()[-1])
    print(f"{name}: {file.stat().st_size / 1e9:.2f} GB file, {extra_gb:.2f} GB of extra memory")
    assert extra_gb < 3.0
    assert_encoder_equals_torch(model, tmp_path / "folder")


def test_round_trip_is_bit_exact_and_loads_strictly_into_torch(small, small_file, tmp_path):
    config, params, _ = read_torch_checkpoint(small_file)
    state_dict = to_state_dict(config, params)
    assert set(state_dict) == set(small.state_dict())
    for name, value in small.state_dict().items():
        if "bn" not in name:
            np.testing.assert_array_equal(state_dict[name], value.numpy())

    write_torch_checkpoint(tmp_path / "back.ckpt", config, params)
    stored = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    other = torch_model("clef_small", seed=1)
    other.load_state_dict({k.removeprefix("backbone."): v for k, v in stored.items()}, strict=True)
    for name, value in other.named_buffers():
        fresh = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0}
        assert (value == fresh[name.rsplit(".", 1)[1]]).all()
    x = np.random.default_rng(0).normal(size=(1, 700)).astype(np.float32)
    np.testing.assert_array_equal(torch_embeddings(other, x), torch_embeddings(small, x))
    same_trees(read_torch_checkpoint(tmp_path / "back.ckpt")[1], params)


def test_folders_are_exported_to_torch(small_file, tmp_path):
    convert_to_folder(small_file, tmp_path / "folder")
    export_to_torch(tmp_path / "folder", tmp_path / "back.ckpt")
    expected, actual = (read_torch_checkpoint(f)[1] for f in (small_file, tmp_path / "back.ckpt"))
    same_trees(actual, expected)


def test_keys_of_other_training_methods_are_ignored_by_rule(small, tmp_path):
    backbone = small.state_dict()
    extra = {f"backbone_k.{name}": value for name, value in backbone.items()}
    extra |= {f"backbone_target.{name}": value for name, value in backbone.items()}
    extra |= {"queue": torch.zeros(256, 8), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    extra |= {"predictor.0.weight": torch.ones(2, 2)}
    file = write_lightning(tmp_path / "moco.ckpt", small, extra=extra)
    _, params, report = read_torch_checkpoint(file)
    same_trees(params, jax_params(small))
    ignored = {rule: keys for rule, keys in report.ignored.items() if "BatchNorm" not in rule}
    listed = {key for keys in ignored.values() for key in keys}
    assert listed == set(extra)


def with_head(model, width, classes=150):
    head = torch.nn.Linear(width, classes)
    return model.state_dict() | {"dense.weight": head.weight.data, "dense.bias": head.bias.data}


@pytest.mark.parametrize("channels", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_ecgfounders_weights_are_fed_as_its_own_code_does(tmp_path, real_data, channels):
    """A record z-scored as one, missing samples 0, no band-pass; the small size compiles fast."""
    model = torch_model("clef_small", in_channels=channels)
    torch.save({"state_dict": with_head(model, 256)}, tmp_path / "ECGFounder.pth")
    _, report, meta = convert_to_folder(tmp_path / "ECGFounder.pth", tmp_path / "folder")
    assert meta["preprocessing"] == ECGFOUNDER.to_dict()
    encoder = load_encoder(tmp_path / "folder")
    assert encoder.preprocessing == report.preprocessing == ECGFOUNDER
    recording = read_recording(real_data / "ptb-xl/records500/00000/00001_hr")
    signal_mv = recording.signal_mv[:channels].copy()
    signal_mv[-1, 1000:1080] = np.nan
    x = np.nan_to_num(signal_mv, nan=0)
    x = (x - np.mean(x)) / (np.std(x) + 1e-8)
    with torch.no_grad():
        expected = model(torch.tensor(x, dtype=torch.float32)[None]).numpy()
    found = encoder.embed(signal_mv, 500, leads=recording.leads[:channels])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_clefs_weights_are_fed_as_clefs(small_file, tmp_path):
    _, _, meta = convert_to_folder(small_file, tmp_path / "folder")
    assert meta["preprocessing"] == CLEF_V2.to_dict()


@pytest.mark.slow
def test_ecgfounder_converts_with_its_head(tmp_path):
    """12 channels, bare names, numpy scalars among the metrics, a 150-class head."""
    model = torch_model("clef_medium", in_channels=12)
    head = torch.nn.Linear(1024, 150)
    state_dict = model.state_dict()
    state_dict |= {"dense.weight": head.weight.detach(), "dense.bias": head.bias.detach()}
    content = {"epoch": 9, "auroc": np.float64(0.92), "step": np.int64(3), "state_dict": state_dict}
    torch.save(content, tmp_path / "12_lead_ECGFounder.pth")
    config, report, _ = convert_to_folder(tmp_path / "12_lead_ECGFounder.pth", tmp_path / "folder")
    assert (config.name, config.in_channels) == ("clef_medium", 12)
    assert report.classifier["kernel"].shape == (1024, 150)
    encoder = load_encoder(tmp_path / "folder")
    same_trees(encoder.params, jax_params(model))
    embedding = np.random.default_rng(0).normal(size=(3, 1024)).astype(np.float32)
    with torch.no_grad():
        logits = head(torch.from_numpy(embedding)).numpy()
    actual = np.asarray(encoder.classify(embedding))
    assert np.abs(actual - logits).max() < 1e-5 * np.abs(logits).max()


class _Command:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_malicious_checkpoint_is_refused_and_runs_nothing(small, tmp_path):
    """The file passes a plain unpickler's hands only as proof that it is armed."""
    trace = tmp_path / "trace"
    content = lightning_content(small) | {"callbacks": _Command(f"touch {trace}")}
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(ConversionError, match="(?s)evil.ckpt.*refused.*any code.*system"):
        convert_to_folder(tmp_path / "evil.ckpt", tmp_path / "folder")
    assert not trace.exists()
    assert not (tmp_path / "folder").exists()
    torch.load(tmp_path / "evil.ckpt", weights_only=False)
    assert trace.exists()


def test_truncated_checkpoint(small_file, tmp_path):
    content = small_file.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.9999):
        (tmp_path / "cut.ckpt").write_bytes(content[: int(share * len(content))])
        with pytest.raises(ConversionError, match="cut.ckpt.*(truncated|not a zip)"):
            read_torch_checkpoint(tmp_path / "cut.ckpt")


def test_legacy_and_foreign_files(small, tmp_path):
    torch.save(small.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ConversionError, match="before PyTorch 1.6.*torch.save"):
        read_torch_checkpoint(tmp_path / "old.pth")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(ConversionError, match="without data.pkl.*a.npy"):
        read_torch_checkpoint(tmp_path / "arrays.npz")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(ConversionError, match="holds a list"):
        read_torch_checkpoint(tmp_path / "list.pth")
    torch.save({"model": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(ConversionError, match="no tensors: model, epoch"):
        read_torch_checkpoint(tmp_path / "other.pth")
    with zipfile.ZipFile(tmp_path / "junk.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02garbage")
    with pytest.raises(ConversionError, match="junk.ckpt"):
        read_torch_checkpoint(tmp_path / "junk.ckpt")
    with pytest.raises(FileNotFoundError):
        read_torch_checkpoint(tmp_path / "absent.ckpt")


def test_md5_of_a_released_name_is_compared(small, tmp_path, monkeypatch):
    file = write_lightning(tmp_path / "clef_small.ckpt", small)
    report = read_torch_checkpoint(file)[2]
    assert "de76ebbf1024e5774309c1d12d6970eb" in report.warnings[0]
    monkeypatch.setitem(module.KNOWN_MD5, "clef_small", report.source["md5"])
    assert not read_torch_checkpoint(file)[2].warnings


def test_an_existing_folder_is_not_overwritten(small_file, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConversionError, match="exists already"):
        convert_to_folder(small_file, tmp_path / "folder")


@pytest.mark.slow
def test_tool_converts_in_both_directions(small_file, tmp_path):
    tool = pathlib.Path(__file__).resolve().parents[2] / "tools" / "convert_weights.py"

    def run(*arguments):
        command = [sys.executable, str(tool), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    result = run("--input", small_file, "--out", tmp_path / "folder")
    assert result.returncode == 0, result.stderr
    assert "clef_small, 443,184 parameters used" in result.stdout
    back = tmp_path / "back.ckpt"
    result = run("--to_torch", "--input", tmp_path / "folder", "--out", back)
    assert result.returncode == 0, result.stderr
    same_trees(read_torch_checkpoint(back)[1], read_torch_checkpoint(small_file)[1])
