"""Compiled programs that are kept, and options that the installed XLA knows."""

import os
import pathlib
import re
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.hardware import compiling
from clef_jax.ops.activation import swish


@pytest.fixture
def unset(monkeypatch, tmp_path):
    """A process for a GPU whose user has chosen no cache, and whose home is empty."""
    chosen = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    yield
    jax.config.update("jax_compilation_cache_dir", chosen)


@pytest.mark.parametrize(
    ("cache_home", "expected"),
    [
        (None, "home/.cache/clef_jax/xla"),
        ("{}/caches", "caches/clef_jax/xla"),
        ("relative", "home/.cache/clef_jax/xla"),  # Invalid by the specification.
    ],
)
def test_programs_are_kept_in_the_users_cache(unset, monkeypatch, tmp_path, cache_home, expected):
    if cache_home is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", cache_home.format(tmp_path))
    folder = compiling.keep_programs()
    assert folder == tmp_path / expected
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    jax.config.update("jax_compilation_cache_dir", None)
    assert compiling.keep_programs() == folder  # When it is there already, too.


def test_what_the_user_chose_comes_first(unset, tmp_path):
    for chosen in (str(tmp_path / "mine"), ""):
        jax.config.update("jax_compilation_cache_dir", chosen)
        assert compiling.keep_programs() is None
        assert jax.config.jax_compilation_cache_dir == chosen
    code = (
        "import jax; from clef_jax.hardware.compiling import keep_programs; "
        "print(keep_programs(), repr(jax.config.jax_compilation_cache_dir))"
    )
    for chosen in ("/somewhere", ""):
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": chosen, "JAX_PLATFORMS": "cuda"}
        found = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        assert found.stdout.decode().strip() == f"None {chosen!r}"
    assert not (tmp_path / "home").exists()


def test_a_folder_that_cannot_be_made_is_a_warning(unset, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level("WARNING", logger="absl"):
        assert compiling.keep_programs() is None
    assert jax.config.jax_compilation_cache_dir is None
    (record,) = caplog.records
    assert str(tmp_path / "file" / "clef_jax" / "xla") in record.getMessage()
    assert "JAX_COMPILATION_CACHE_DIR" in record.getMessage()


def test_a_user_without_a_home_is_a_warning(unset, monkeypatch, caplog):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)  # That no file names.
    with caplog.at_level("WARNING", logger="absl"):
        assert compiling.keep_programs() is None
    assert "no home folder" in caplog.text and "JAX_COMPILATION_CACHE_DIR" in caplog.text


def test_programs_for_the_cpu_are_not_kept(unset, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert compiling.keep_programs() is None
    assert jax.config.jax_compilation_cache_dir is None
    assert not pathlib.Path(tmp_path / "home").exists()


@pytest.mark.parametrize("platform", ["gpu", "cuda"])
def test_the_installed_xla_knows_the_options_for_gpus(platform):
    # Every build of XLA reads them, and refuses names that it does not know.
    program = jax.jit(lambda x: x + 1).lower(1.0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        program.compile(compiler_options={"xla_gpu_unheard_of": True})
    alone, several = (compiling.step_options(platform, devices) for devices in (1, 8))
    assert alone.items() < several.items()
    assert program.compile(compiler_options=several)(1.0) == 2


def test_options_are_for_their_platform_alone_and_leave_what_the_environment_sets(monkeypatch):
    assert compiling.step_options("cpu", 1) == compiling.step_options("cpu", 4) == {}
    assert compiling.step_options("tpu", 1).items() < compiling.step_options("tpu", 4).items()
    assert {name.split("_")[1] for name in compiling.step_options("cuda", 8)} == {"gpu"}
    several = compiling.step_options("tpu", 4)
    assert several and not any(name.startswith("xla_gpu") for name in several)
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4 --xla_dump_to=/tmp/here")
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_enable_async_all_reduce=false")
    assert compiling.step_options("tpu", 1) == {"xla_tpu_scoped_vmem_limit_kib": "4096"}
    assert "xla_gpu_autotune_level" not in compiling.step_options("cuda", 1)
    assert several.keys() - compiling.step_options("tpu", 4).keys() == {
        "xla_enable_async_all_reduce"
    }


@pytest.mark.parametrize(
    "longer", ["xla_gpu_autotune_level_of_another", "my_xla_gpu_autotune_level"]
)
def test_only_a_flag_of_the_whole_name_comes_before_an_option(monkeypatch, longer):
    name = "xla_gpu_autotune_level"
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    usual = compiling.step_options("cuda", 1)
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_first=1")  # What follows must not run into it.
    monkeypatch.setenv("XLA_FLAGS", f"--{longer}=4 --xla_dump_to=/tmp/{name}")
    assert compiling.step_options("cuda", 1) == usual
    for given in (f"--{name}=4", f"-{name} 4", f"--{longer}=1\n--no{name}"):
        monkeypatch.setenv("XLA_FLAGS", given)
        assert usual.keys() - compiling.step_options("cuda", 1).keys() == {name}


@pytest.fixture
def v5e(monkeypatch):
    """Chips of a described slice."""
    pytest.importorskip("libtpu")
    for name, value in (("TPU_SKIP_MDS_QUERY", "1"), ("TPU_WORKER_HOSTNAMES", "localhost")):
        monkeypatch.setenv(name, value)
    return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices


@pytest.mark.slow
def test_of_a_layer_tpus_are_given_less_than_half_as_much_code(v5e):
    """Compiling takes as long as the code of an operation's window is."""
    chip = SingleDeviceSharding(v5e[0])
    x = jax.ShapeDtypeStruct((512, 313, 64), jnp.bfloat16, sharding=chip)
    matrix = jax.ShapeDtypeStruct((64, 32), jnp.bfloat16, sharding=chip)

    def code_bytes(options):
        program = jax.jit(lambda x, matrix: swish(x) @ matrix, compiler_options=options)
        found = program.lower(x, matrix).compile().memory_analysis()
        return found.generated_code_size_in_bytes

    assert 0 < 2 * code_bytes(compiling.step_options("tpu", 1)) < code_bytes({})


@pytest.mark.slow
def test_tpus_sum_a_layers_gradient_beside_the_products_of_the_layer_before_it(v5e):
    """Of three layers the last two: once the first one's gradient is there, nothing is left."""
    mesh, layer = hosts.data_mesh(v5e), jax.ShapeDtypeStruct((512, 512), jnp.float32)

    def loss(layers, x):
        for layer in jax.lax.pcast(layers, hosts.DATA_AXIS, to="varying"):
            x = jnp.tanh(x @ layer.astype(jnp.bfloat16))
        return jax.lax.pmean(jnp.mean(x.astype(jnp.float32)), hosts.DATA_AXIS)

    gradients = jax.shard_map(
        jax.grad(loss), mesh=mesh, in_specs=(P(), P(hosts.DATA_AXIS)), out_specs=P()
    )
    text = (
        jax.jit(gradients, compiler_options=compiling.step_options("tpu", mesh.size))
        .lower(
            hosts.shapes_at([layer] * 3, hosts.replicated(mesh)),
            jax.ShapeDtypeStruct(
                (1024, 512), jnp.bfloat16, sharding=NamedSharding(mesh, P(hosts.DATA_AXIS))
            ),
        )
        .compile()
        .as_text()
    )
    summed = re.findall(r" = (\S+) all-reduce\(", text)
    assert summed and all(shape.startswith("f32") for shape in summed)
    chains = set(re.findall(r'all-reduce\(.*chain_id="(\d+)"', text))
    assert len(chains) == 2
