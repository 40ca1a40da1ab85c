"""Shape and arithmetic of a ResNeXt1D encoder, and the three published sizes."""

import dataclasses
from collections.abc import Iterator

from jax.typing import DTypeLike

from clef_jax.models.encoder_config import EncoderConfig, LayerCost
from clef_jax.models.resnext1d import ResNeXt1D
from clef_jax.ops.grouped_conv.layers import Convolution, Layer


@dataclasses.dataclass(frozen=True)
class ResNeXt1DConfig(EncoderConfig):
    """Shape of one encoder (arXiv 2512.02180; the sizes follow its released configurations).

    Attributes:
        stem_width: Channels after the stem convolution.
        ratio: Bottleneck width over stage width.
        stage_widths: Output channels of each stage; its last is the embedding's length.
        stage_blocks: Residual blocks in each stage.
        group_width: Stage width over the number of groups of the grouped convolution.
        kernel_size: Taps of the stem and of the grouped convolutions.

    Example:
        >>> narrow = ResNeXt1DConfig(
        ...     "narrow", stem_width=4, ratio=1.0, stage_widths=(4, 8), stage_blocks=(1, 2),
        ...     group_width=2,
        ... )
        >>> narrow.embedding_dim, narrow.layers
        (8, ('stage0', 'stage1'))
    """

    stem_width: int
    ratio: float
    stage_widths: tuple[int, ...]
    stage_blocks: tuple[int, ...]
    group_width: int
    kernel_size: int = 16

    @property
    def embedding_dim(self) -> int:
        """Length D of the embedding."""
        return self.stage_widths[-1]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the stages."""
        return tuple(f"stage{stage}" for stage in range(len(self.stage_widths)))

    def build(self, *, dtype: DTypeLike, remat: bool) -> ResNeXt1D:
        """Returns the Linen module; arguments as in `create_model`."""
        return ResNeXt1D(
            stem_width=self.stem_width,
            ratio=self.ratio,
            stage_widths=self.stage_widths,
            stage_blocks=self.stage_blocks,
            group_width=self.group_width,
            kernel_size=self.kernel_size,
            dtype=dtype,
            remat=remat,
        )

    def layer_costs(self, samples: int) -> Iterator[LayerCost]:
        """Yields the convolutions and linear maps of the encoder for one view of `samples`.

        Activation functions, biases and pooling are counted with their layer's output, as if fused:
        what remains is each operand once. Squeeze-excite reads its input twice, as its scale
        depends on all of it.
        """
        length = -(-samples // 2)
        taps, stem = self.kernel_size, self.stem_width

        def dense(name: str, length: int, inputs: int, outputs: int) -> LayerCost:
            moved = length * (inputs + outputs)
            return LayerCost(name, 2 * length * inputs * outputs, moved, (inputs + 1) * outputs)

        yield LayerCost(
            "stem",
            2 * length * taps * self.in_channels * stem,
            samples * self.in_channels + length * stem,
            (taps * self.in_channels + 1) * stem,
        )
        channels = stem
        for stage, (width, blocks) in enumerate(
            zip(self.stage_widths, self.stage_blocks, strict=True)
        ):
            middle = int(width * self.ratio)
            per_group = middle // (width // self.group_width)
            for block in range(blocks):
                name = f"stage{stage}_block{block}"
                yield dense(f"{name}/conv1", length, channels, middle)
                before, length = length, -(-length // 2) if block == 0 else length
                yield LayerCost(
                    f"{name}/conv2",
                    2 * length * taps * per_group * middle,
                    (before + length) * middle,
                    (taps * per_group + 1) * middle,
                )
                yield dense(f"{name}/conv3", length, middle, width)
                yield dense(f"{name}/se_fc1", 1, width, width // 2)
                yield dense(f"{name}/se_fc2", 1, width // 2, width)
                yield LayerCost(f"{name}/sum", 0, before * channels + 3 * length * width, 0)
                channels = width

    def convolutions(self, samples: int) -> Iterator[Convolution]:
        """Yields the stem and every block's grouped convolution for a view of `samples`."""
        stem = Layer(self.in_channels, 1, 2, self.kernel_size)
        yield Convolution(stem, samples, self.stem_width)
        length = -(-samples // 2)
        for width, blocks in zip(self.stage_widths, self.stage_blocks, strict=True):
            middle, groups = int(width * self.ratio), width // self.group_width
            for block in range(blocks):
                stride = 2 if block == 0 else 1
                layer = Layer(middle // groups, groups, stride, self.kernel_size)
                yield Convolution(layer, length, middle)
                length = -(-length // stride)


SIZES = (
    ResNeXt1DConfig(
        name="clef_small",
        stem_width=32,
        ratio=0.5,
        stage_widths=(32, 64, 64, 128, 128, 256),
        stage_blocks=(1, 1, 2, 2, 2, 2),
        group_width=8,
    ),
    ResNeXt1DConfig(
        name="clef_medium",
        stem_width=64,
        ratio=1.0,
        stage_widths=(64, 160, 160, 400, 400, 1024, 1024),
        stage_blocks=(2, 2, 2, 3, 3, 4, 4),
        group_width=16,
    ),
    ResNeXt1DConfig(
        name="clef_large",
        stem_width=128,
        ratio=1.5,
        stage_widths=(128, 256, 256, 512, 512, 1024, 1024, 2048, 2048),
        stage_blocks=(2, 3, 3, 4, 4, 5, 5, 6, 6),
        group_width=32,
    ),
)
