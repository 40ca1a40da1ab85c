"""The measured choice of algorithms, written by `python -m benchmarks.tune_grouped_conv`.

Platform (or platform and kind of device, "tpu TPU v5 lite") -> type -> layer -> the algorithms of
forward, input gradient and kernel gradient, as measured on devices, not by compilers. A layer's
name is channels of one group x groups, stride and taps. Layers without an entry follow
`rules.rule`.
"""

TABLE = {
    "cpu": {
        "float32": {
            "c1x1 s2 k16": ["conv:4", "native", "matmul:4"],
            "c4x4 s2 k16": ["conv:4", "conv:8", "conv:8"],
            "c4x8 s2 k16": ["conv:4", "conv:8", "conv:8"],
            "c4x8 s1 k16": ["conv:8", "conv:8", "conv:8"],
            "c4x16 s2 k16": ["conv:4", "conv:4", "matmul:4"],
            "c4x16 s1 k16": ["conv:8", "conv:8", "conv:8"],
            "c4x32 s2 k16": ["conv:8", "conv:8", "conv:8"],
            "c4x32 s1 k16": ["conv:8", "conv:8", "conv:8"],
            "c16x64 s2 k16": ["native", "conv:1", "conv:1"],
            "c48x64 s2 k16": ["native", "native", "conv:1"],
            "c48x64 s1 k16": ["conv:1", "native", "conv:1"],
            "c16x4 s2 k16": ["fourier:24", "conv:1", "conv:2"],
            "c16x4 s1 k16": ["fourier:24", "fourier:32", "fourier:32"],
            "c16x10 s2 k16": ["native", "conv:1", "conv:2"],
            "c16x10 s1 k16": ["fourier:32", "fourier:32", "fourier:32"],
            "c16x25 s2 k16": ["fourier:16", "conv:1", "conv:1"],
            "c16x25 s1 k16": ["fourier:24", "fourier:32", "fourier:32"],
            "c16x64 s1 k16": ["fourier:24", "fourier:24", "conv:1"],
            "c48x4 s2 k16": ["conv:2", "fourier:32", "fourier:32"],
            "c48x4 s1 k16": ["conv:4", "fourier:24", "fourier:24"],
            "c48x8 s2 k16": ["conv:1", "conv:1", "conv:1"],
            "c48x8 s1 k16": ["conv:1", "fourier:32", "fourier:32"],
            "c48x16 s2 k16": ["native", "fourier:16", "conv:1"],
            "c48x16 s1 k16": ["fourier:32", "fourier:24", "fourier:32"],
            "c48x32 s2 k16": ["native", "conv:1", "conv:1"],
            "c48x32 s1 k16": ["conv:1", "native", "conv:1"],
        },
    },
}
