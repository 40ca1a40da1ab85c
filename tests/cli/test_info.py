"""`clef-jax info` of a run, which notes a hash of its weights instead of a fingerprint."""

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.checkpoints.items import params_sha256
from clef_jax.cli import main as cli
from clef_jax.inference import encoder_meta
from tests.embed_runs import TINY, tiny_encoder


def test_weights_of_a_run_are_compared_with_its_hash(tmp_path, capsys):
    params = tiny_encoder().params
    meta = encoder_meta(TINY, params, {})
    del meta["fingerprint"]
    for name, sha256 in (("run", params_sha256(params)), ("changed", "0" * 64)):
        save_encoder(tmp_path / name, params, meta | {"weights_sha256": sha256})
    assert cli.main(["info", str(tmp_path / "run")]) == 0
    said = "weights: as the run saved them, by their SHA-256; fingerprint ["
    assert said in capsys.readouterr().out
    assert cli.main(["info", str(tmp_path / "changed")]) == 1
    assert "they are not those that the run saved" in capsys.readouterr().err
