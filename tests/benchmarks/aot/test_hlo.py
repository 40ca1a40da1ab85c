"""Parsing of compiled programs, on short recorded texts."""

import dataclasses

import pytest

from benchmarks.aot import collectives, flops, gpu_model, hlo, places, tpu_model, traffic
from benchmarks.aot.costs import total_seconds
from benchmarks.aot.frames import Frame, Frames
from clef_jax.hardware import peaks

# As libtpu 0.0.42 prints a scan of seven trips beside a copy in the background.
SCAN = """HloModule jit_f

FileNames
1 "/home/me/clef_jax/losses/clef.py"
2 "/home/me/clef_jax/train/step.py"

FunctionNames
1 "step"
2 "clef_loss"

FileLocations
1 {file_name_id=2 function_name_id=1 line=1 end_line=1 column=1 end_column=2}
2 {file_name_id=1 function_name_id=2 line=9 end_line=9 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}

%body (arg: (s32[], f32[512,128], bf16[128,128])) -> (s32[], f32[512,128], bf16[128,128]) {
  %one = s32[]{:T(128)} constant(1)
  %arg = (s32[]{:T(128)}, f32[512,128]{1,0:T(8,128)S(1)}, bf16[128,128]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %w = bf16[128,128]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%arg), index=2
  %x = f32[512,128]{1,0:T(8,128)S(1)} get-tuple-element(%arg), index=1
  %fusion.2 = f32[512,128]{1,0:T(8,128)S(1)} fusion(%x, %w), kind=kOutput, calls=%fused, metadata={op_name="jit(f)/while/body/dot_general" stack_frame_id=2}
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %add.4 = s32[]{:T(128)} add(%i, %one)
  ROOT %tuple.1 = (s32[]{:T(128)}, f32[512,128]{1,0:T(8,128)S(1)}, bf16[128,128]{1,0:T(8,128)(2,1)S(1)}) tuple(%add.4, %fusion.2, %w)
}

%cond (arg.1: (s32[], f32[512,128], bf16[128,128])) -> pred[] {
  %limit = s32[]{:T(128)} constant(7)
  %arg.1 = (s32[]{:T(128)}, f32[512,128]{1,0:T(8,128)S(1)}, bf16[128,128]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt.0 = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

%fused (p0: f32[512,128], p1: bf16[128,128]) -> f32[512,128] {
  %p0 = f32[512,128]{1,0:T(8,128)S(1)} parameter(0)
  %p1 = bf16[128,128]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  ROOT %dot.1 = f32[512,128]{1,0:T(8,128)S(1)} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (x.0: f32[512,128], w.0: bf16[128,128]) -> f32[512,128] {
  %zero = s32[]{:T(128)} constant(0)
  %x.0 = f32[512,128]{1,0:T(8,128)} parameter(0)
  %w.0 = bf16[128,128]{1,0:T(8,128)(2,1)} parameter(1)
  %copy-start = (f32[512,128]{1,0:T(8,128)S(1)}, f32[512,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x.0)
  %copy-done = f32[512,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %copy.1 = s32[]{:T(128)} copy(%zero)
  %tuple.0 = (s32[]{:T(128)}, f32[512,128]{1,0:T(8,128)S(1)}, bf16[128,128]{1,0:T(8,128)(2,1)}) tuple(%copy.1, %copy-done, %w.0)
  %while = (s32[]{:T(128)}, f32[512,128]{1,0:T(8,128)S(1)}, bf16[128,128]{1,0:T(8,128)(2,1)S(1)}) while(%tuple.0), condition=%cond, body=%body
  ROOT %out = f32[512,128]{1,0:T(8,128)} get-tuple-element(%while), index=1
}
"""  # noqa: E501


def entry(*lines):
    """A module with nothing but an entry."""
    return hlo.parse("ENTRY %main (a: f32[]) -> f32[] {\n" + "\n".join(lines) + "\n}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f32[512,128]{1,0:T(8,128)}", 512 * 128 * 4),
        # Batch in lanes: 313 x 160 rows of 128; and padded from 32 to 128.
        ("bf16[128,313,160]{0,2,1:T(8,128)(2,1)}", 128 * 313 * 160 * 2),
        ("bf16[32,313,160]{0,2,1:T(8,128)(2,1)}", 128 * 313 * 160 * 2),
        ("pred[3,5]{1,0:T(8,128)(4,1)}", 8 * 128),
        ("bf16[10,3]{1,0}", 60),
        ("f32[]", 4),
    ],
)
def test_bytes_are_those_of_whole_tiles(text, expected):
    (shape,) = hlo.parse_shapes(text)
    assert shape.bytes == expected


def test_a_scratch_memory_is_told_from_the_main_one():
    first, second = hlo.parse_shapes("(f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)})")
    assert (first.space, second.space) == (1, 0)
    assert (traffic.main_memory(first), traffic.main_memory(second)) == (0, 4096)


def test_a_loop_runs_as_often_as_its_condition_lets_it():
    runs = {run.operation.name: run for run in hlo.executions(hlo.parse(SCAN))}
    assert {name: run.times for name, run in runs.items()} == {
        "copy-start": 1, "copy-done": 1, "copy.1": 1, "fusion.2": 7, "add.4": 7
    }  # fmt: skip
    assert all(run.known for run in runs.values())


def test_a_loop_that_does_not_tell_its_trips_counts_once_and_is_not_known():
    text = SCAN.replace("direction=LT", "direction=NE")
    runs = {run.operation.name: run for run in hlo.executions(hlo.parse(text))}
    assert runs["fusion.2"].times == 1 and not runs["fusion.2"].known


def test_flops_count_fused_products_by_the_trips_of_their_loop():
    assert flops.total_flops(hlo.parse(SCAN)) == 7 * 2 * 512 * 128 * 128


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # A grouped convolution: 16 taps of 32 channels for each of 64 x 500 x 256 outputs.
        (
            ["%x = bf16[64,500,256]{2,1,0} parameter(0)",
             "%w = bf16[16,32,256]{2,1,0} parameter(1)",
             "ROOT %c = bf16[64,500,256]{2,1,0} convolution(%x, %w), window={size=16 pad=7_8}, "
             "dim_labels=b0f_0io->b0f, feature_group_count=8"],
            2 * 64 * 500 * 256 * 16 * 32,
        ),
        # The same groups as libtpu lays them out: ten of 16 channels, one of ten taps across them.
        (
            ["%x = bf16[128,313,10,16]{0,3,2,1} parameter(0)",
             "%w = bf16[16,16,10,16]{1,3,2,0} parameter(1)",
             "ROOT %c = bf16[128,313,10,16]{0,3,2,1} convolution(%x, %w), window={size=16x10 "
             "stride=1x9 pad=7_8x0_0 lhs_dilate=1x10}, dim_labels=b01f_0i1o->b01f"],
            2 * 128 * 313 * 160 * 16 * 16,
        ),
        # The same by cuDNN, and its kernel's gradient, which takes as many.
        (
            ["%x = bf16[64,256,500]{2,1,0} parameter(0)",
             "%w = bf16[256,32,16]{2,1,0} parameter(1)",
             "ROOT %c = (bf16[64,256,500]{2,1,0}, u8[0]{0}) custom-call(%x, %w), window={size=16 "
             'pad=7_8}, dim_labels=bf0_oi0->bf0, custom_call_target="__cudnn$convForward"'],
            2 * 64 * 500 * 256 * 16 * 32,
        ),
        (
            ["%x = bf16[64,256,500]{2,1,0} parameter(0)",
             "%y = bf16[64,256,500]{2,1,0} parameter(1)",
             "ROOT %c = (bf16[256,32,16]{2,1,0}, u8[0]{0}) custom-call(%x, %y), window={size=16 "
             'pad=7_8}, dim_labels=bf0_oi0->bf0, custom_call_target="__cudnn$convBackwardFilter"'],
            2 * 64 * 500 * 256 * 16 * 32,
        ),
        (
            ["%x = bf16[100,16]{1,0} parameter(0)", "%w = bf16[16,8]{1,0} parameter(1)",
             'ROOT %c = (bf16[100,8]{1,0}, s8[4096]{0}) custom-call(%x, %w), '
             'custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":'
             '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}'],
            2 * 100 * 8 * 16,
        ),
    ],
)  # fmt: skip
def test_flops_of_products_and_convolutions(lines, expected):
    assert flops.total_flops(entry(*("  " + line for line in lines))) == expected


def test_a_gpus_kernel_takes_the_longer_of_bytes_and_flops_and_its_start():
    module = entry(
        "  %x = bf16[8192,8192]{1,0} parameter(0)",
        "  %w = bf16[8192,8192]{1,0} parameter(1)",
        "  %y = bf16[8192,8192]{1,0} dot(%x, %w), lhs_contracting_dims={1}",
        "  ROOT %z = bf16[8192,8192]{1,0} copy(%y)",
    )
    product, copy = gpu_model.costs(module, "NVIDIA H100 80GB HBM3")
    assert product.seconds == pytest.approx(2 * 8192**3 / 748e12 + 2e-6)
    assert copy.seconds == pytest.approx(2 * 2 * 8192**2 / 2.37e12 + 2e-6)
    assert total_seconds([product, copy]) == pytest.approx(product.seconds + copy.seconds)
    with pytest.raises(ValueError, match="no measured ceilings of NVIDIA A100"):
        gpu_model.costs(module, "NVIDIA A100")


def test_a_fusion_reads_the_slices_it_takes_and_writes_the_update_it_makes():
    module = hlo.parse(
        "%body (p0: f32[1000,128], p1: f32[10,128], i: s32[]) -> f32[1000,128] {\n"
        "  %p0 = f32[1000,128]{1,0} parameter(0)\n"
        "  %p1 = f32[10,128]{1,0} parameter(1)\n"
        "  %i = s32[] parameter(2)\n"
        "  ROOT %u = f32[1000,128]{1,0} dynamic-update-slice(%p0, %p1, %i, %i)\n}\n\n"
        "%take (q0: f32[1000,128], j: s32[]) -> f32[10,128] {\n"
        "  %q0 = f32[1000,128]{1,0} parameter(0)\n"
        "  %j = s32[] parameter(1)\n"
        "  ROOT %s = f32[10,128]{1,0} dynamic-slice(%q0, %j, %j), dynamic_slice_sizes={10,128}\n"
        "}\n\n"
        "ENTRY %main (a: f32[1000,128], k: s32[]) -> f32[1000,128] {\n"
        "  %a = f32[1000,128]{1,0} parameter(0)\n"
        "  %k = s32[] parameter(1)\n"
        "  %taken = f32[10,128]{1,0} fusion(%a, %k), kind=kLoop, calls=%take\n"
        "  ROOT %put = f32[1000,128]{1,0} fusion(%a, %taken, %k), kind=kLoop, calls=%body\n}\n"
    )
    taken, put = hlo.executions(module)
    row = 10 * 128 * 4
    assert traffic.moved(module, taken) == (row + 4, row)
    assert traffic.moved(module, put) == (row + 4, row)


def test_operations_without_a_schedule_are_shared_or_small(tmp_path):
    (tmp_path / "12-fusion.1-01-final_bundles.txt").write_text("     0   :  { %v0_v0 = vmov 0 }\n")
    (tmp_path / "12-TLP-00-deduplication-map.txt").write_text(
        "key:fusion.1\nordinal:3\nequivalent_hlos[size=2]:\n  fusion.1\n  fusion.2\n"
    )
    schedules = tpu_model.Schedules(tmp_path)
    assert schedules.cycles("fusion.2") == schedules.cycles("fusion.1")
    assert schedules.cycles("fusion.1").count == 1
    assert schedules.cycles("add.4") is None


def test_the_frames_of_an_operation_come_innermost_first():
    assert Frames(SCAN).of(2) == [
        Frame("/home/me/clef_jax/losses/clef.py", "clef_loss"),
        Frame("/home/me/clef_jax/train/step.py", "step"),
    ]
    assert Frames("HloModule x\n").of(2) == []


@pytest.mark.parametrize(
    ("op_name", "frame", "expected"),
    [
        ("jit(step)/jvp(ResNeXt1D)/stage0_block0/conv2/conv_general_dilated", "",
         "grouped convolution, forward"),
        ("jit(step)/transpose(jvp(ResNeXt1D))/stage3_block1/conv3/dot_general", "",
         "pointwise backward"),
        ("jit(step)/transpose(jvp(ResNeXt1D))/stage3_block1/se_fc1/dot_general", "",
         "squeeze-excite backward"),
        ("jit(step)/jvp(ResNeXt1D)/stem/add", "", "stem forward"),
        ("jit(step)/jvp()/while/body/sub", "stack_frame_id=2", "loss forward"),
        ("jit(step)/add", "stack_frame_id=1", "optimiser"),
        ("", "", "rest"),
    ],
)  # fmt: skip
def test_operations_have_their_place(op_name, frame, expected):
    module = hlo.parse(SCAN)
    operation = hlo.Operation("new", "fusion.", (), (), f'metadata={{op_name="{op_name}" {frame}}}')
    assert places.Places(module, Frames(SCAN)).of(operation) == expected


@pytest.mark.parametrize(
    ("opcode", "type_", "groups", "expected"),
    [
        ("all-reduce", "f32[1000]{0}", "[1,8]<=[8]", 2 * 7 / 8 * 4000),
        ("all-reduce", "f32[1000]{0}", "{{0,1,2,3}}", 2 * 3 / 4 * 4000),
        ("all-gather", "f32[1000]{0}", "[1,8]<=[8]", 7 / 8 * 4000),
        ("all-gather-start", "(f32[125]{0}, f32[1000]{0})", "[1,8]<=[8]", 7 / 8 * 4000),
        # The result is an eighth of what is scattered.
        ("reduce-scatter", "f32[125]{0}", "[1,8]<=[8]", 7 / 8 * 4000),
        # No groups: all of the program's chips.
        ("all-reduce", "f32[1000]{0}", "{}", 2 * 15 / 16 * 4000),
        ("all-gather", "f32[1000]{0}", "{}", 15 / 16 * 4000),
    ],
)
def test_collectives_send_what_rings_do(opcode, type_, groups, expected):
    line = f"  ROOT %c = {type_} {opcode}(%a), replica_groups={groups}, to_apply=%sum"
    module = entry("  %a = f32[1000]{0} parameter(0)", line)
    (run,) = hlo.executions(module)
    assert collectives.kind(run.operation) == opcode.removesuffix("-start")
    assert collectives.sent_bytes(run.operation, 16) == expected


@pytest.mark.parametrize(
    ("head", "chips"),
    [("", 1), (", num_partitions=16", 16), (", replica_count=2, num_partitions=4", 8)],
)
def test_a_program_says_how_many_chips_run_it(head, chips):
    assert hlo.parse(SCAN.replace("HloModule jit_f", "HloModule jit_f" + head)).chips == chips


@pytest.mark.parametrize(("copies", "hidden"), [(1, True), (8, False)])
def test_collectives_in_the_background_take_no_less_than_the_links_need(tmp_path, copies, hidden):
    """A v5e adds 2**28 bytes up while it copies one array, or eight of them, in the same time."""
    size = 2**26
    lines = [f"  %a = f32[{size}]{{0}} parameter(0)"]
    for n in range(copies):
        lines += [
            f"  %r.{n} = f32[{size}]{{0}} all-reduce-start(%a), replica_groups={{}}, to_apply=%sum",
            f"  %d.{n} = f32[{size}]{{0}} all-reduce-done(%r.{n})",
        ]
    lines += [f"  %m.{n} = f32[{size}]{{0}} negate(%a)" for n in range(8)]
    module = dataclasses.replace(entry(*lines), chips=4)
    found = tpu_model.costs(module, tpu_model.Schedules(tmp_path), peaks.peak("TPU v5 lite"))
    in_turn = 8 * 2 * 4 * size / 819e9
    sent = copies * 2 * 3 / 4 * 4 * size / 200e9
    assert (sent < in_turn) == hidden
    assert total_seconds(found) == pytest.approx(max(in_turn, sent))


def test_what_is_no_program_is_refused():
    with pytest.raises(hlo.HloError, match="no ENTRY"):
        hlo.parse("module @jit_f {}")
