"""Cycles of schedules written here, by the counts that loops of so many trips come to."""

import itertools

import pytest

from benchmarks.aot import schedule

DELAY = 4


class Program:
    """Writes bundles as libtpu does."""

    def __init__(self):
        self.lines, self.registers, self.regions = [], itertools.count(), itertools.count(1)

    def bundle(self, *instructions, starts=None, depth=0):
        comment = f" /* Start region {starts} :: Start region 9{starts} */" if starts else ""
        address = f"{len(self.lines):#x}" if self.lines else "0"
        label = "LB" if starts else "  "
        body = "  ;;  ".join(instructions)
        self.lines.append(f"  {address} {label}: {'>' * depth} {{ {body} }}{comment}")

    def loop(self, trips, body, depth=1, start=0, step=1):
        """A loop of `trips` around what `body` writes; three bundles of its own and the delay."""
        register, region = next(self.registers), next(self.regions)
        counter, predicate = f"s{register}", f"p{register}"
        self.bundle(f"%s1{register}_{counter} = smov {start} /* copy for cssa */")
        self.bundle(
            f"%s2{register}_{counter} = sphi %s1{register}_{counter}, %s3{register}_{counter}",
            f"%s3{register}_{counter} = sadd.s32 {step}, %s2{register}_{counter} /* next */",
            starts=region, depth=depth,
        )  # fmt: skip
        body(depth + 1)
        limit = start + step * trips
        self.bundle(
            f"%p4{register}_{predicate} = scmp.ge.s32.totalorder %s3{register}_{counter}, {limit}"
        )
        self.bundle(f"%9 = sbr.rel (!%p4{register}_{predicate}) target = $region{region} ")
        for _ in range(DELAY):
            self.bundle()

    def vectors(self, count):
        def write(depth):
            for _ in range(count):
                self.bundle("%v1_v0 = vadd.f32 %v0_v0, %v0_v0", "%5 = vst [vmem:[%s9_s31]] %v1_v0")

        return write

    def cycles(self):
        return schedule.cycles("= control target key end\n\n" + "\n".join(self.lines))


@pytest.mark.parametrize("trips", [1, 2, 7, 150])
@pytest.mark.parametrize("length", [1, 5, 40])
@pytest.mark.parametrize(("start", "step"), [(0, 1), (3, 2)])
def test_a_loop_counts_by_its_trips(trips, length, start, step):
    program = Program()
    program.loop(trips, program.vectors(length), start=start, step=step)
    program.bundle()
    assert program.cycles() == schedule.Cycles(1 + trips * (length + 3 + DELAY) + 1, 0, 0)


@pytest.mark.parametrize(("outer", "middle", "inner"), [(2, 3, 5), (4, 1, 9), (6, 2, 1)])
def test_nested_loops_multiply(outer, middle, inner):
    program = Program()
    program.loop(
        outer,
        lambda depth: program.loop(
            middle, lambda depth: program.loop(inner, program.vectors(11), depth), depth
        ),
    )
    around = 3 + DELAY
    expected = 1 + outer * (1 + middle * (1 + inner * (11 + around) + around) + around)
    assert program.cycles().count == expected


def test_a_region_is_left_out_where_its_predicate_says_so():
    program = Program()
    program.bundle("%s1_s1 = smov 5")
    program.bundle("%p1_p1 = scmp.lt.s32.totalorder %s1_s1, 9")
    program.bundle("%9 = sbr.rel (%p1_p1) target = $region7 ")
    for _ in range(DELAY + 100):
        program.bundle()
    program.bundle(starts=7)
    assert program.cycles() == schedule.Cycles(3 + DELAY + 1, 0, 0)


def test_the_size_of_a_ragged_window_decides_how_often_its_rows_are_copied():
    """min(24, 313 - 24 i) rows in the i-th of 14 windows: 313 rows in all, as in a real copy."""
    program = Program()
    program.bundle("%s1_s1 = smov 0")
    program.bundle("%s2_s1 = sphi %s1_s1, %s9_s1", starts=1)
    program.bundle("%s3_s2 = smul.u32 24, %s2_s1", "%s4_s3 = smov 0 /* copy for cssa */")
    program.bundle("%s5_s2 = ssub.s32 313, %s3_s2")
    program.bundle("%p1_p1 = scmp.lt.s32.totalorder %s5_s2, 24")
    program.bundle("%s6_s4 = smov (!%p1_p1, %s5_s2), 24")
    program.bundle("%s7_s3 = sphi %s4_s3, %s8_s3", starts=2)
    program.bundle("%s8_s3 = sadd.s32 1, %s7_s3")
    program.bundle("%p2_p2 = scmp.ge.s32.totalorder %s8_s3, %s6_s4")
    program.bundle("%9 = sbr.rel (!%p2_p2) target = $region2 ")
    for _ in range(DELAY):
        program.bundle()
    program.bundle("%s9_s1 = sadd.s32 1, %s2_s1")
    program.bundle("%p3_p3 = scmp.ge.s32.totalorder %s9_s1, 14 /* loop exit test */")
    program.bundle("%9 = sbr.rel (!%p3_p3) target = $region1 ")
    for _ in range(DELAY):
        program.bundle()
    assert program.cycles().count == 1 + 14 * (5 + 3 + DELAY) + 313 * (4 + DELAY)


def test_what_no_scalar_tells_is_uncertain():
    program = Program()
    program.bundle("%p1_p1 = vweird.any %v0_v0")
    program.bundle("%9 = sbr.rel (!%p1_p1) target = $region7 ")
    for _ in range(DELAY + 20):
        program.bundle()
    program.bundle(starts=7)
    assert program.cycles() == schedule.Cycles(3 + DELAY + 20, DELAY + 21, 0)


def test_matrix_units_take_in_rows():
    program = Program()

    def products(depth):
        program.bundle("%1 = vmatmul.bf16.gmra.mxu0 %v1_v1", "%2 = vmatmul.bf16.gmra.mxu1 %v1_v1")
        program.bundle("%3 = vmatmul.f32.vlgmr.msra.gmra.mxu1 %v1_v1")

    program.loop(10, products)
    assert program.cycles().rows == 10 * (16 + 8)


def test_a_spilled_counter_comes_back():
    program = Program()
    program.bundle("%s1_s1 = smov 3")
    program.bundle("%8 = sst [smem:[#allocation5_spill]] %s1_s1", "%s2_s1 = smov 0")
    program.bundle("%s3_s2 = sphi %s9_s2, %s4_s2", starts=1)
    program.bundle("%s5_s3 = sld [smem:[#allocation5_spill]]")
    program.bundle("%s6_s3 = ssub.s32 %s5_s3, 1")
    program.bundle("%7 = sst [smem:[#allocation5_spill]] %s6_s3")
    program.bundle("%p1_p1 = scmp.le.s32.totalorder %s6_s3, 0")
    program.bundle("%9 = sbr.rel (!%p1_p1) target = $region1 ")
    for _ in range(DELAY):
        program.bundle()
    assert program.cycles().count == 2 + 3 * (6 + DELAY)


def test_what_is_no_schedule_is_refused():
    with pytest.raises(schedule.ScheduleError, match="no bundles"):
        schedule.cycles("Schedule analysis:\n")
