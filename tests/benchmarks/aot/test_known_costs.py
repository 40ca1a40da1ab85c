"""Predictions of operations whose cost data sheets and arithmetic tell."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPT = pathlib.Path(__file__).with_name("known_costs.py")
has_libtpu = importlib.util.find_spec("libtpu") is not None
has_cuda = any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13))
TPUS = {"v5e:2x2": (197e12, 819e9, 1.5e9), "v6e:2x2": (918e12, 1640e9, 1.75e9)}
PRODUCT_FLOPS = 2 * 4096**3
ADDITION_BYTES = 2 * 4 * 2**27
# SAME: every one of 500 outputs meets 16 taps of 32 channels.
CONVOLUTION_FLOPS = 2 * 64 * 500 * 256 * 16 * 32


def predictions(target, folder):
    command = [sys.executable, SCRIPT, target, folder]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    rows = map(json.loads, filter(lambda line: line.startswith("{"), done.stdout.splitlines()))
    return {row["name"]: row for row in rows}


@pytest.mark.slow
@pytest.mark.skipif(not has_libtpu, reason="libtpu is not installed: pip install 'clef-jax[aot]'")
@pytest.mark.parametrize("target", TPUS)
def test_a_tpus_schedules(target, tmp_path):
    flops_per_s, bytes_per_s, clock = TPUS[target]
    found = predictions(target, tmp_path)
    assert all(row["resolved"] > 0.98 for row in found.values())
    # Within what a product's edges cost.
    assert found["product"]["seconds"] == pytest.approx(PRODUCT_FLOPS / flops_per_s, rel=0.05)
    assert found["product"]["flops"] == PRODUCT_FLOPS
    assert found["addition"]["bytes"] == ADDITION_BYTES
    assert found["addition"]["seconds"] == pytest.approx(ADDITION_BYTES / bytes_per_s, rel=0.01)
    # Each trip adds at least what one alone computes, but for what loops can share.
    one, scan = (found[name]["compute_seconds"] for name in ("one trip", "scan"))
    assert 150 * one < scan < 400 * one
    # A 128 x 128 product needs 128 rows of one of at least two units: at the least 16 cycles
    # where two rows a cycle go in, and never more than a few hundred.
    products = 4 * 30 * 50
    assert products * 16 / clock < found["kernel"]["compute_seconds"] < products * 300 / clock


@pytest.mark.slow
@pytest.mark.skipif(not has_cuda, reason="no CUDA plugin of JAX: pip install 'clef-jax[aot]'")
def test_a_gpus_bytes_and_flops(tmp_path):
    found = predictions("h100", tmp_path)
    assert found["product"]["flops"] == PRODUCT_FLOPS
    assert found["product"]["bytes"] == 3 * 2 * 4096**2
    # By the measured ceilings, and 2 us to start it.
    assert found["product"]["seconds"] == pytest.approx(PRODUCT_FLOPS / 748e12 + 2e-6, rel=1e-6)
    assert found["addition"]["bytes"] == ADDITION_BYTES
    assert found["addition"]["seconds"] == pytest.approx(ADDITION_BYTES / 2.37e12 + 2e-6, rel=1e-6)
    assert found["convolution"]["flops"] == CONVOLUTION_FLOPS
