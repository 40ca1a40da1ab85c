"""Settings and fixtures shared by all tests."""

import importlib.util
import os
import pathlib
import tempfile

import jax
import pytest
from absl import flags

from tests.fake_store import serving
from tests.shard_records import write_cohort_shards

jax.config.update("jax_num_cpu_devices", 4)
# Tests compile the same steps again and again, in this process, in its fellows of a run in parallel
# and in those they start.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="clef_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
# What a developer has tuned is no part of a test.
_USER_CACHE = tempfile.TemporaryDirectory(prefix="clef_jax_tests_")
os.environ["XDG_CACHE_HOME"] = _USER_CACHE.name
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Grain's worker processes read absl flags, which nobody parses under pytest.
flags.FLAGS.mark_as_parsed()

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """Folder of real ECG databases; tests that ask for it skip where it is absent."""
    folder = pathlib.Path(os.environ.get("CLEF_JAX_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "ptb-xl").is_dir():
        pytest.skip(f"no real recordings at {folder}; set CLEF_JAX_DATA")
    return folder.resolve()


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> str:
    """Folder of an encoder of two stages, for tests of what is done with an encoder."""
    from tests.embed_runs import save, tiny_encoder

    return save(tiny_encoder(), tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture
def x64():
    """Runs one test with float64 enabled."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def shards_folder(tmp_path_factory) -> pathlib.Path:
    """Shards of 40 simulated patients, one to three records each, some of unknown risk."""
    return write_cohort_shards(
        tmp_path_factory.mktemp("cohort"),
        patients=40,
        validation_fraction=0.3,
        records_per_shard=16,
    )


@pytest.fixture(scope="session")
def store():
    """The objects of a store that this process and those it starts take for Google's."""
    if importlib.util.find_spec("gcsfs") is None:  # Imported only in the environment below.
        pytest.skip("the extra gcs is not installed")
    with serving() as (objects, environment), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield objects
