"""State dicts of the original: converted strictly, with every difference named."""

import jax
import numpy as np
import pytest
import torch

from clef_jax.convert import (
    ConversionError,
    from_state_dict,
    read_torch_checkpoint,
    to_state_dict,
)
from tests.convert.checkpoints import same_trees, torch_model
from tests.oracles.torch_resnext1d import jax_params


def test_bare_state_dicts_of_torch_and_numpy_give_the_same_params(small):
    expected = jax_params(small)
    bare = small.state_dict()
    for state_dict in (
        bare,
        {f"backbone.{name}": value for name, value in bare.items()},
        {name: value.numpy() for name, value in bare.items()},
        {name: value for name, value in bare.items() if "bn" not in name},
    ):
        config, params, _ = from_state_dict(state_dict)
        assert config.name == "clef_small"
        same_trees(params, expected)


def test_params_of_another_size_are_not_exported(small_file):
    config, params, _ = read_torch_checkpoint(small_file)
    del params["stage5_block1"]["se_fc2"]
    with pytest.raises(ConversionError, match="stage5_block1/se_fc2.*clef_small"):
        to_state_dict(config, params)


def test_renamed_keys_are_all_listed_at_once(small):
    state_dict = small.state_dict()
    for name in list(state_dict):
        if "se_fc1" in name:
            state_dict[name.replace("se_fc1", "squeeze")] = state_dict.pop(name)
    with pytest.raises(ConversionError) as error:
        from_state_dict(state_dict)
    message = str(error.value)
    assert "nearest is clef_small" in message
    assert message.count("missing     ") == message.count("unexpected  ") == 20
    assert "unexpected  stage_list.5.block_list.1.squeeze.bias" in message


def test_wrong_size_names_the_nearest_and_every_difference():
    state_dict = {k: v.numpy() for k, v in torch_model("clef_small").state_dict().items()}
    wide = "stage_list.2.block_list.0.conv2.conv.weight"
    state_dict[wide] = np.ones((32, 3, 16), np.float32)
    for name in [name for name in state_dict if name.startswith("stage_list.5.block_list.1")]:
        del state_dict[name]
    state_dict["dense2.weight"] = np.ones((2, 2), np.float32)
    with pytest.raises(ConversionError) as error:
        from_state_dict(state_dict)
    message = str(error.value)
    assert "nearest is clef_small; against it 10 keys are missing, 1 unexpected and 1 m" in message
    assert f"misshapen   {wide}: found (32, 3, 16), expected (32, 4, 16)" in message
    assert "unexpected  dense2.weight (2, 2)" in message


def test_keys_outside_the_backbone_are_not_overlooked(small):
    state_dict = {f"backbone.{k}": v for k, v in small.state_dict().items()}
    state_dict["projector.weight"] = torch.ones(3)
    with pytest.raises(ConversionError, match="unexpected .*projector.weight"):
        from_state_dict(state_dict)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_values_are_refused(small, value):
    state_dict = {k: v.clone() for k, v in small.state_dict().items()}
    state_dict["first_conv.conv.bias"][3] = value
    with pytest.raises(ConversionError, match="non-finite  first_conv.conv.bias"):
        from_state_dict(state_dict)


def test_zeros_are_refused(small):
    state_dict = {k: torch.zeros_like(v) for k, v in small.state_dict().items()}
    with pytest.raises(ConversionError, match="all zeros   first_conv.conv.weight"):
        from_state_dict(state_dict)


def test_half_precision_and_double_are_cast_and_reported(small):
    state_dict = dict(small.state_dict())
    state_dict["first_conv.conv.weight"] = state_dict["first_conv.conv.weight"].bfloat16()
    state_dict["first_conv.conv.bias"] = state_dict["first_conv.conv.bias"].double()
    _, params, report = from_state_dict(state_dict)
    assert report.cast == ["first_conv.conv.weight (bfloat16)", "first_conv.conv.bias (float64)"]
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
