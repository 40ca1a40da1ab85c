"""Checkpoints: what is kept, what is restored, and what is refused."""

import json
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clef_jax
from clef_jax import files, hosts
from clef_jax.checkpoints.encoder import load_params, save_encoder
from clef_jax.checkpoints.items import params_sha256
from clef_jax.checkpoints.meta import CheckpointError
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.checkpoints.upgrades import FORMAT_VERSION
from tests.damage import flip_bit

OPTIMIZER = optax.adamw(1e-3)


def items_of(encoder, ema=None, step=0):
    """A run's items, with a head and a queue besides the encoder."""
    params = {"encoder": encoder, "head": jnp.ones(3)}
    rest = {
        "step": jnp.int32(step),
        "params": {"head": params["head"]},
        "opt_state": OPTIMIZER.init(params),
        "carried": {"queue": jnp.arange(4.0)},
    }
    items = {"encoder": encoder, "rest": rest}
    return items if ema is None else items | {"ema": ema}


def items_at(step, with_ema=False, width=3):
    encoder = {
        "stem": {"kernel": jnp.full((2, width), step / 10), "bias": jnp.arange(float(width))}
    }
    ema = jax.tree.map(lambda a: a + 0.5, encoder) if with_ema else None
    return items_of(encoder, ema, step=step)


def saved(workdir, best_of, **options):
    """Saves steps, with the best one by then."""
    checkpoints = Checkpoints(workdir, keep=2)
    for step, best in best_of.items():
        checkpoints.save(step, items_at(step, **options), meta_of(step, best))
    checkpoints.wait()
    return checkpoints


def meta_of(step, best=None):
    return {"step": step, "progress": {"best_step": best}}


def steps_in(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def test_the_last_two_and_the_best_are_kept(tmp_path):
    checkpoints = saved(tmp_path, {1: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2})
    assert steps_in(tmp_path) == [2, 5, 6]
    assert checkpoints.latest_step() == 6
    assert checkpoints.meta()["step"] == 6
    checkpoints.close()
    # Also when the run goes on, until another is the best, or none is.
    saved(tmp_path, {7: 2, 8: 2, 9: 2}).close()
    assert steps_in(tmp_path) == [2, 8, 9]
    saved(tmp_path, {10: 10, 11: 10, 12: 10}).close()
    assert steps_in(tmp_path) == [10, 11, 12]
    saved(tmp_path, {13: None}).close()
    assert steps_in(tmp_path) == [12, 13]


@pytest.mark.parametrize("with_ema", [False, True])
def test_a_state_comes_back_bit_for_bit_on_any_number_of_devices(tmp_path, with_ema):
    checkpoints = saved(tmp_path, {4: None}, with_ema=with_ema)
    expected = items_at(4, with_ema=with_ema)
    for devices in (1, 4):
        mesh = hosts.data_mesh(jax.devices()[:devices])
        found = checkpoints.restore(hosts.shapes_at(expected, hosts.replicated(mesh)))
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        assert len(found["encoder"]["stem"]["bias"].devices()) == devices
    checkpoints.close()


def test_another_model_is_refused_with_every_difference(tmp_path):
    checkpoints = saved(tmp_path, {4: None})
    with pytest.raises(CheckpointError) as error:
        checkpoints.restore(items_at(0, width=5))
    assert "stem/kernel: ((2, 3), 'float32') stored, ((2, 5), 'float32') expected" in str(
        error.value
    )
    assert "stem/bias" in str(error.value) and "another workdir" in str(error.value)
    checkpoints.close()


def test_saving_an_old_step_is_an_error(tmp_path):
    checkpoints = saved(tmp_path, {4: None})
    with pytest.raises(CheckpointError, match="step 4 is there already"):
        checkpoints.save(3, items_at(3), {})
    checkpoints.close()


def test_load_params_takes_the_best_then_the_newest_and_prefers_the_average(tmp_path):
    saved(tmp_path / "best", {1: 1, 2: 2, 3: 2}).close()
    saved(tmp_path / "newest", {1: None, 2: None}).close()
    saved(tmp_path / "average", {1: None}, with_ema=True).close()
    for workdir, step in (("best", 2), ("newest", 2), ("average", 1)):
        for folder in (tmp_path / workdir, tmp_path / workdir / "checkpoints"):
            params, meta = load_params(folder)
            assert meta["step"] == step and meta["weights_sha256"] == params_sha256(params)
            expected = step / 10 + (0.5 if workdir == "average" else 0)
            assert isinstance(params["stem"]["kernel"], np.ndarray)
            np.testing.assert_array_equal(params["stem"]["kernel"], np.float32(expected))
    params, meta = load_params(tmp_path / "best" / "checkpoints" / "3")
    assert meta["step"] == 3


def test_weights_other_than_those_saved_are_refused_though_their_checksums_agree(tmp_path):
    saved(tmp_path, {1: 1}).close()
    step = tmp_path / "checkpoints" / "1"
    meta = json.loads((step / "meta" / "metadata").read_text())
    (step / "meta" / "metadata").write_text(json.dumps(meta | {"weights_sha256": "0" * 64}))
    (step / files.SUMS).unlink()
    files.write_sums(step, step.rglob("*"))
    with pytest.raises(CheckpointError) as error:
        load_params(tmp_path)
    for part in (f"{step}: ", meta["weights_sha256"], "0" * 64, "copy it again from its source"):
        assert part in str(error.value)


def test_an_encoder_folder_round_trips_and_is_not_overwritten(tmp_path):
    params = jax.tree.map(np.asarray, items_at(7)["encoder"])
    save_encoder(tmp_path / "encoder", params, {"model": {"name": "x"}})
    found, meta = load_params(tmp_path / "encoder")
    jax.tree.map(np.testing.assert_array_equal, found, params)
    assert meta == {"model": {"name": "x"}}
    with pytest.raises(CheckpointError, match="exists already"):
        save_encoder(tmp_path / "encoder", params, {})


def test_a_folder_without_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=f"{tmp_path}: no checkpoint here"):
        load_params(tmp_path)


def disturbed(path, items, rng):
    """Flips thirty random bits of the weights' data, then one of each of `items`' other files."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.stat().st_size]
    files = [file for file in files if file.relative_to(path).parts[0] in items]
    data = [file for file in files if file.parent.name == "d"]
    for file in [*rng.choice(data, 30), *files]:
        whole = flip_bit(file, rng)
        yield file
        file.write_bytes(whole)


def big_encoder(step):
    # Random, so that it does not compress: most flipped bits hit values.
    rng = np.random.default_rng(step)
    return {"stem": {"kernel": jnp.asarray(rng.normal(size=(40, 50)), jnp.float32)}}


def test_any_flipped_bit_of_an_encoder_folder_is_found(tmp_path):
    params = jax.tree.map(np.asarray, big_encoder(1))
    classifier = {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}
    save_encoder(tmp_path / "e", params, {"model": {}}, classifier=classifier)
    items = [file.name for file in (tmp_path / "e").iterdir()]
    for file in disturbed(tmp_path / "e", items, np.random.default_rng(0)):
        with pytest.raises(CheckpointError) as error:
            load_params(tmp_path / "e")
        named = file.name if file.name == "SHA256SUMS" else str(file)
        assert named in str(error.value) and "convert it again" in str(error.value)
    found, _ = load_params(tmp_path / "e")
    jax.tree.map(np.testing.assert_array_equal, found, params)
    (tmp_path / "e" / "classifier.npz").unlink()
    with pytest.raises(CheckpointError, match=r"classifier\.npz: listed .* missing"):
        load_params(tmp_path / "e")


def test_sha256sum_reads_the_checksums(tmp_path):
    save_encoder(tmp_path / "e", {"bias": np.arange(3.0)}, {})
    saved(tmp_path / "run", {1: None}).close()
    for folder in (tmp_path / "e", tmp_path / "run" / "checkpoints" / "1"):
        check = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
        assert check.returncode == 0 and check.stdout.count(b": OK") > 5


def test_a_flipped_bit_of_a_runs_checkpoint_is_found_or_changes_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        items = items_of(big_encoder(step), ema=big_encoder(step), step=step)
        checkpoints.save(step, items, meta_of(step, step))
    checkpoints.close()
    folder = tmp_path / "checkpoints" / "3"
    expected = big_encoder(3)["stem"]["kernel"]
    items = {file.name for file in folder.iterdir()} - {"encoder", "rest"}
    for file in disturbed(folder, items, np.random.default_rng(0)):
        item = file.relative_to(folder).parts[0]
        try:
            params, _ = load_params(tmp_path)
        except CheckpointError as error:
            assert "/3: damaged" in str(error) and "of the run: 1, 2" in str(error)
        else:
            assert item not in ("ema", "meta")
            np.testing.assert_array_equal(params["stem"]["kernel"], expected)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path, caplog):
    rng = np.random.default_rng(0)
    items = ("ema/**/d/*", "rest/**/d/*", "meta/metadata")
    for trial, pattern in enumerate(items):
        workdir = tmp_path / str(trial)
        saved(workdir, {1: 1, 2: 2, 3: 2}, with_ema=True).close()
        latest = workdir / "checkpoints" / "3"
        file = rng.choice(sorted(latest.glob(pattern)))
        flip_bit(file, rng)
        caplog.clear()
        with caplog.at_level("WARNING", logger="absl"):
            checkpoints = Checkpoints(workdir, keep=2)
        (record,) = caplog.records
        assert str(file) in record.getMessage() and f"{latest}.damaged" in record.getMessage()
        assert checkpoints.latest_step() == 2 and checkpoints.meta()["step"] == 2
        found = checkpoints.restore(items_at(0, with_ema=True))
        jax.tree.map(np.testing.assert_array_equal, found, items_at(2, with_ema=True))
        # The step can be saved again, and the run goes on beyond it.
        for step in (3, 4):
            checkpoints.save(step, items_at(step, with_ema=True), meta_of(step, 2))
        checkpoints.close()
        assert steps_in(workdir) == [2, 3, 4]
        assert (workdir / "checkpoints" / "3.damaged" / "meta").is_dir()
        assert load_params(workdir)[1]["step"] == 2


def test_where_the_best_was_moved_away_the_newest_is_taken(tmp_path):
    saved(tmp_path, {1: 1, 2: 1, 3: 1}).close()
    assert load_params(tmp_path)[1]["step"] == 1
    (tmp_path / "checkpoints" / "1").rename(tmp_path / "moved")
    assert load_params(tmp_path)[1]["step"] == 3


def test_a_run_whose_checkpoints_are_all_damaged_is_left_as_it_is(tmp_path):
    saved(tmp_path, {1: 1, 2: 2, 3: 2}).close()
    for step in (2, 3):
        (tmp_path / "checkpoints" / str(step) / "meta" / "metadata").write_text("{")
    with pytest.raises(CheckpointError) as error:
        Checkpoints(tmp_path)
    for part in ("every checkpoint is damaged", "2/meta/metadata", "3/meta/metadata", "workdir"):
        assert part in str(error.value)
    assert steps_in(tmp_path) == [2, 3]


def test_checksums_that_are_lost_are_missed(tmp_path):
    meta = {"format_version": FORMAT_VERSION}
    save_encoder(tmp_path / "e", {"bias": np.arange(3.0)}, meta)
    (tmp_path / "e" / "SHA256SUMS").unlink()
    with pytest.raises(CheckpointError, match="SHA256SUMS: missing"):
        load_params(tmp_path / "e")


def test_a_checkpoint_of_a_later_format_is_refused_by_name_and_not_set_aside(tmp_path):
    meta = {"format_version": 99, "versions": {"clef_jax": "9.0"}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, items_at(1), meta)
    checkpoints.close()
    expected = rf"has format 99, written by clef_jax 9\.0; this is {clef_jax.__version__}"
    with pytest.raises(CheckpointError, match=expected):
        load_params(tmp_path)
    (tmp_path / "checkpoints" / "1" / "SHA256SUMS").unlink()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=expected):
        checkpoints.meta()
    checkpoints.close()


def test_loading_and_resuming_warn_of_nothing(tmp_path, caplog):
    saved(tmp_path, {1: 1, 2: 1}, with_ema=True).close()
    params = jax.tree.map(jnp.asarray, items_at(7)["encoder"])
    save_encoder(tmp_path / "e", params, {})
    with caplog.at_level("WARNING"):
        load_params(tmp_path)
        load_params(tmp_path / "e")
        checkpoints = Checkpoints(tmp_path)
        checkpoints.meta()
        checkpoints.restore(items_at(0, with_ema=True))
        checkpoints.close()
    assert [record.getMessage() for record in caplog.records] == []


def test_equal_weights_have_one_hash_and_others_another(tmp_path):
    params = big_encoder(1)
    save_encoder(tmp_path / "e", params, {})
    found, _ = load_params(tmp_path / "e")
    hash_ = params_sha256(params)
    assert params_sha256(found) == hash_
    kernel = found["stem"]["kernel"]
    others = [kernel.T, kernel.astype(np.float64), np.nextafter(kernel, 9, dtype=np.float32)]
    found = [{"stem": {"kernel": other}} for other in others] + [{"stem": {"kernel_": kernel}}]
    assert len({params_sha256(params) for params in found} | {hash_}) == 5
