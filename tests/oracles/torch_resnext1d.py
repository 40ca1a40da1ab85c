"""The CLEF encoder in PyTorch, written from the network's description, with the original's names.

The tests' oracle, the writer of their checkpoints, and the peer of the benchmarks. BatchNorm
modules exist, so that a `state_dict` has the released files' keys, and are never called.
"""

import torch
from torch import nn
from torch.nn import functional


class SameConv1d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, groups=1):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, stride=stride, groups=groups)

    def forward(self, x):
        samples = x.shape[-1]
        outputs = -(-samples // self.stride)
        pad = max(0, (outputs - 1) * self.stride + self.kernel_size - samples)
        return self.conv(functional.pad(x, (pad // 2, pad - pad // 2)))


class Block(nn.Module):
    def __init__(self, in_channels, width, ratio, kernel_size, stride, groups, first):
        super().__init__()
        middle = int(width * ratio)
        self.in_channels, self.width, self.stride, self.first = in_channels, width, stride, first
        self.bn1 = nn.BatchNorm1d(in_channels)
        self.conv1 = SameConv1d(in_channels, middle, 1)
        self.bn2 = nn.BatchNorm1d(middle)
        self.conv2 = SameConv1d(middle, middle, kernel_size, stride, groups)
        self.bn3 = nn.BatchNorm1d(middle)
        self.conv3 = SameConv1d(middle, width, 1)
        self.se_fc1 = nn.Linear(width, width // 2)
        self.se_fc2 = nn.Linear(width // 2, width)

    def forward(self, x):
        y = x if self.first else functional.silu(x)
        y = self.conv1(y)
        y = self.conv2(functional.silu(y))
        y = self.conv3(functional.silu(y))
        gate = torch.sigmoid(self.se_fc2(functional.silu(self.se_fc1(y.mean(-1)))))
        y = y * gate[..., None]
        if self.stride == 2:
            x = functional.max_pool1d(functional.pad(x, (0, x.shape[-1] % 2)), 2)
        grow = self.width - self.in_channels
        return y + functional.pad(x, (0, 0, grow // 2, grow - grow // 2))


class Stage(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.block_list = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.block_list:
            x = block(x)
        return x


class TorchResNeXt1D(nn.Module):
    """Takes `x [N, C, T]`; `config` is any object with `ResNeXt1DConfig`'s attributes."""

    def __init__(self, config):
        super().__init__()
        self.first_conv = SameConv1d(config.in_channels, config.stem_width, config.kernel_size, 2)
        self.first_bn = nn.BatchNorm1d(config.stem_width)
        stages, channels = [], config.stem_width
        for stage, (width, count) in enumerate(
            zip(config.stage_widths, config.stage_blocks, strict=True)
        ):
            blocks = []
            for block in range(count):
                blocks.append(
                    Block(
                        channels,
                        width,
                        config.ratio,
                        config.kernel_size,
                        stride=2 if block == 0 else 1,
                        groups=width // config.group_width,
                        first=(stage, block) == (0, 0),
                    )
                )
                channels = width
            stages.append(Stage(blocks))
        self.stage_list = nn.ModuleList(stages)

    def stages(self, x):
        """Yields every stage's output `[N, width, T_s]`."""
        x = functional.silu(self.first_conv(x))
        for stage in self.stage_list:
            x = stage(x)
            yield x

    def forward(self, x):
        *_, last = self.stages(x)
        return last.mean(-1)


def jax_params(model):
    """Returns the model's live parameters as `clef_jax`'s nested dict of numpy arrays."""

    def conv(module):
        module = getattr(module, "conv", module)
        weight = module.weight.detach().numpy()
        kernel = weight.transpose(2, 1, 0) if weight.ndim == 3 else weight.T
        return {"kernel": kernel.copy(), "bias": module.bias.detach().numpy().copy()}

    params = {"stem": conv(model.first_conv)}
    for s, stage in enumerate(model.stage_list):
        for b, block in enumerate(stage.block_list):
            params[f"stage{s}_block{b}"] = {
                name: conv(getattr(block, name))
                for name in ("conv1", "conv2", "conv3", "se_fc1", "se_fc2")
            }
    return params
