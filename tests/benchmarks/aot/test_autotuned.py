"""Instructions that an autotuner tries kernels for, counted in a program written by hand."""

import itertools

from benchmarks.aot.autotuned import count_autotuned


def gemm(number, rows=8, contracted=1, kernel="__cublas$lt$matmul", algorithm=0, layout="1,0"):
    result = f"(f32[{rows},4]{{{layout}}}, s8[64]{{0}})"
    config = (
        f'{{"gemm_backend_config":{{"selected_algorithm":"{algorithm}","dot_dimension_numbers":'
        f'{{"lhs_contracting_dimensions":["{contracted}"]}}}}}}'
    )
    return (
        f"  %a.{number} = f32[{rows},8]{{1,0}} parameter({2 * number})\n"
        f"  %b.{number} = f32[8,4]{{1,0}} parameter({2 * number + 1})\n"
        f"  %gemm.{number} = {result} custom-call(%a.{number}, %b.{number}), "
        f'custom_call_target="{kernel}", metadata={{op_name="jit(step)/layer{number}" '
        f'scheduling_name="gemm.{number}"}}, backend_config={config}'
    )


def convolution(number, groups):
    return (
        f"  %x.{number} = bf16[2,9,8]{{2,1,0}} parameter({number})\n"
        f"  %conv.{number} = (bf16[2,9,8]{{2,1,0}}, u8[0]{{0}}) custom-call(%x.{number}), "
        f"window={{size=16 pad=7_8}}, feature_group_count={groups}, "
        'custom_call_target="__cudnn$convForward", '
        f'backend_config={{"algorithm":{{"algo_id":"{number}"}}}}'
    )


def fused(number, operation, config=""):
    body = (
        f"%computation.{number} (p.{number}: f32[4]) -> f32[4] {{\n"
        f"  %p.{number} = f32[4]{{0}} parameter(0)\n"
        f"  ROOT %r.{number} = f32[4]{{0}} {operation}(%p.{number}), "
        f'metadata={{op_name="jit(step)/layer{number}"}}\n}}\n'
    )
    call = (
        f"  %c.{number} = f32[4]{{0}} parameter({number})\n"
        f"  %fusion.{number} = f32[4]{{0}} fusion(%c.{number}), kind=kLoop, "
        f"calls=%computation.{number}{config}"
    )
    return body, call


def program(*instructions, bodies=()):
    lines = "\n".join(instructions)
    return "".join(bodies) + f"ENTRY %main (a: f32[4]) -> f32[4] {{\n{lines}\n}}\n"


def test_names_places_and_chosen_kernels_make_no_difference():
    found = count_autotuned(program(gemm(0), gemm(1, algorithm=5), gemm(2)))
    assert found == {"gemm": 1, "convolution": 0, "fusion": 0}


def test_shapes_layouts_contractions_and_kinds_do():
    different = [
        gemm(0),
        gemm(1, rows=16),
        gemm(2, contracted=0),
        gemm(3, kernel="__cublas$gemm"),
        gemm(4, layout="0,1"),
    ]
    for count in range(1, 6):
        for chosen in itertools.combinations(different, count):
            assert count_autotuned(program(*chosen))["gemm"] == count
    convolutions = [convolution(n, groups) for n, groups in enumerate((1, 4, 4, 2))]
    assert count_autotuned(program(*convolutions, gemm(9))) == {
        "gemm": 1,
        "convolution": 3,
        "fusion": 0,
    }


def test_fusions_are_the_same_if_they_compute_the_same():
    parts = [fused(n, name) for n, name in enumerate(("negate", "exponential", "negate"))]
    triton = fused(3, "negate", ', backend_config={"kind":"__triton_gemm"}')
    bodies, calls = zip(*parts, triton, strict=True)
    found = count_autotuned(program(*calls, bodies=bodies))
    assert found == {"gemm": 1, "convolution": 0, "fusion": 2}
    other = '  %copy.0 = f32[4]{0} copy(%fusion.0)\n  %call = f32[4]{0} custom-call(%copy.0), custom_call_target="Sharding"'  # noqa: E501
    assert count_autotuned(program(*calls, other, bodies=bodies)) == found
