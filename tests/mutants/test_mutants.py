"""The faults themselves: where none is put, what each rule makes, how they are drawn, and that tests notice two of them."""

import collections
import re
import subprocess
import sys

import pytest
from conftest import REQUIRED

from mutants import build, equivalent, report, rules, run, sample, sites

KERNEL = """// a + b, x[i] in a comment
#include "device/vec4.h"  // p < q
namespace minicnn {
constexpr int THREADS = 8 * 32;
constexpr int twice(int n) { return n + n; }
enum class Along { first = 1 + 1 };
#ifdef OTHER
#if ARCHITECTURE >= 800
int newer(int n) { return n / 1; }
#else
int older(int n) { return n / 3; }
#endif
int other(int n) { return n - 1; }
#endif
struct Operand {
  static constexpr int SIZE = 4 + 4;
  int pitch;
  __device__ const float* at(int row, int k) const { return data + row * pitch; }
  const float* data;
};
template <int TILE, class Value = Run<TILE - 1>>
__global__ void __launch_bounds__(2 * THREADS)
    relu_backward_kernel(const float* dy, const float* x, float* dx, Accumulate accumulate, int count) {
  constexpr int LAST = TILE - 2;
  static_assert(TILE > 3, "a > b");
  float values[TILE + 5];
  const auto [p, q] = place_of<TILE / 2>(count);
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  check(count < 7, "op", "count - 1");
  if constexpr (TILE < 6) values[0] = 1.0f;
  __syncthreads();
  float sum = 0.0f;
  for (int j = 0; j < TILE; ++j) sum += values[j];
  const float scaled = dy[i] * (x[i] + 2.0f);
  dx[i] = accumulate == Accumulate::add ? dx[i] + scaled : scaled;
}
void relu_backward(const float* dy, const float* x, float* dx, Accumulate accumulate, int count, Stream stream) {
  if (count == 0) return;
  launch(relu_backward_kernel<4>, {.op = "a + b", .grid = blocks_for(count), .block = THREADS}, dy, x, dx, at(p, q));
}
}  // namespace minicnn
"""


@pytest.fixture(scope="module")
def source():
    return sites.Source("csrc/ops/relu.cu", KERNEL)


@pytest.fixture(scope="module")
def faults(source):
    return list(rules.mutants(source))


@pytest.fixture(scope="module")
def all_faults():
    return build.all_mutants()


@pytest.mark.parametrize(
    "text",
    ["8 * 32", "n + n", "1 + 1", "n / 1", "n / 3", "n - 1", "4 + 4", "TILE - 1", "2 * THREADS", "TILE - 2", "TILE > 3",
     "TILE + 5", "TILE / 2", "count < 7", "TILE < 6", '"op"', '"a + b"', "auto [p, q]", "int count"],
)  # fmt: skip
def test_no_fault_in_comments_strings_constants_declarations_and_checks(text, faults):
    assert text not in [fault.original for fault in faults]
    assert all(text in fault.faulty for fault in faults if text in fault.original)


@pytest.mark.parametrize(
    ("kind", "rule", "original", "faulty"),
    [
        (rules.INDICES, "operator", "data + row * pitch", "data - row * pitch"),
        (rules.INDICES, "off_by_one", "j", "j + 1"),
        (rules.INDICES, "other_member", "blockIdx.x * THREADS + threadIdx.x", "blockIdx.x * THREADS + threadIdx.y"),
        (rules.INDICES, "swapped_arguments", "at(p, q)", "at(q, p)"),
        (rules.ARITHMETIC, "comparison", "i >= count", "i < count"),
        (rules.ARITHMETIC, "number", "0.0f", "1.0f"),
        (rules.TAILS, "wider_bound", "i >= count", "i + 1 >= count"),
        (rules.TAILS, "narrower_bound", "j < TILE", "j + 1 < TILE"),
        (rules.TAILS, "dropped_guard", "i >= count", "false"),
        (rules.TAILS, "inverted_mask", "i >= count", "!(i >= count)"),
        (rules.SYNCHRONISATION, "barrier", "__syncthreads()", "void(0)"),
        (rules.GRADIENT, "term", "dy[i] * (x[i] + 2.0f)", "dy[i]"),
        (rules.GRADIENT, "term", "x[i] + 2.0f", "x[i]"),
        (rules.ACCUMULATE, "accumulated", "accumulate == Accumulate::add", "true"),
        (rules.ACCUMULATE, "overwritten_sum", "sum += values[j]", "sum = values[j]"),
        (rules.GEOMETRY, "grid", "blocks_for(count)", "unsigned(blocks_for(count)) - 1"),
        (rules.GEOMETRY, "grid", "THREADS", "unsigned(THREADS) / 2"),
        (rules.GEOMETRY, "empty_launch", "count == 0", "false"),
        (rules.MEMORY, "other_buffer", "dy[i] * (x[i] + 2.0f)", "x[i] * (x[i] + 2.0f)"),
    ],
)
def test_what_the_rules_make(kind, rule, original, faulty, faults):
    assert (kind, rule, original, faulty) in [(m.kind, m.rule, m.original, m.faulty) for m in faults]


def test_lines_stay_where_they_are_and_only_code_is_rewritten(source, faults):
    rewritten = build.rewritten(source, list(enumerate(faults, 1)))
    assert rewritten.count("\n") == KERNEL.count("\n")
    assert build.rewritten(source, []) == KERNEL
    assert rewritten.splitlines()[:17] == KERNEL.splitlines()[:17]
    numbers = [int(number) for number in re.findall(r"mutants::is\((\d+)\)", rewritten)]
    assert sorted(numbers) == list(range(1, len(faults) + 1))


def test_faults_nest(source):
    """Of `a[i + 1] + b` the index and the sum may both be faulty: the one within the original of the other."""
    nested = sites.Source("f.cu", "float f(float* a, float b, int i) { return a[i + 1] + b; }\n")
    faults = [m for m in rules.mutants(nested) if m.rule == "operator"]
    assert build.rewritten(nested, list(enumerate(faults, 1))).split("return ")[1] == (
        "(minicnn::mutants::is(1) ? (a[i + 1] - b) : (a[(minicnn::mutants::is(2) ? (i - 1) : (i + 1))] + b)); }\n"
    )


def test_the_draw_follows_the_seed_and_is_balanced(all_faults):
    drawn = sample.draw(all_faults, 480, "a seed")
    assert drawn == sample.draw(all_faults, 480, "a seed") != sample.draw(all_faults, 480, "another")
    assert len(set(drawn)) == 480
    for kind in rules.CLASSES:
        exist, chosen = (
            len([m for m in ms if m.kind == kind]) for ms in (all_faults, [all_faults[n - 1] for n in drawn])
        )
        assert chosen >= min(exist, 25)
    of_file = collections.Counter(m.file for m in all_faults)
    assert {file for file, count in of_file.items() if count >= 30} <= {all_faults[n - 1].file for n in drawn}


def test_a_member_is_mistaken_only_for_one_that_takes_as_many_arguments():
    calls = sites.Source(
        "f.cu", "int f(Sums s, Shape t) {\n  return s.row(1, 2) + s.column(3) + t.row(4) + t.column(5);\n}\n"
    )
    faults = [m.faulty for m in rules.mutants(calls) if m.rule == "other_member"]
    assert faults == [
        "s.row(1, 2) + s.column(3) + t.column(4) + t.column(5)",
        "s.row(1, 2) + s.column(3) + t.row(4) + t.row(5)",
    ]


def test_a_loop_that_steps_by_four_loses_its_last_step():
    loop = sites.Source("f.cu", "void f(int n) {\n  for (int i = 0; i < n; i += 4) g(i);\n}\n")
    assert "i + 4 < n" in [m.faulty for m in rules.mutants(loop) if m.rule == "narrower_bound"]


def test_every_argument_is_of_a_fault_that_exists(all_faults):
    for entry in equivalent.EQUIVALENT:
        assert len([m for m in all_faults if equivalent.is_of(entry, m)]) > 0, entry


def test_a_report_counts_and_complains(all_faults):
    outcomes = ["killed", "killed by time", "survived", "not reached"]
    found = report.Report(all_faults, "c", "s", {n: run.Result(n, outcome) for n, outcome in enumerate(outcomes, 1)})
    assert found.score() == 0.5 and found.survivors() == [3, 4]
    assert found.complaints(0.5) == []
    assert found.complaints(0.9) == ["50.0% of the faults were killed, at least 90% must be"]
    assert found.complaints(0.5, 4) == [] and found.complaints(0.5, 480) == [
        "4 of 480 faults were tried, at least 50 must be"
    ]
    found.detector = {3: run.Result(3, "killed")}
    assert found.score() == 0.75 and found.killed_by_outputs() == [1, 2]


def test_an_argument_that_is_wrong_raises_no_score(all_faults):
    wrong = next(number for number, mutant in enumerate(all_faults, 1) if equivalent.argument(mutant))
    found = report.Report(all_faults, "c", "s", {n: run.Result(n, "killed", "a test") for n in (1, wrong)})
    assert found.score() == 1.0
    assert [c.endswith("is called equivalent, but a test found it") for c in found.complaints(0.9)] == [True]


@pytest.mark.skipif("mutants" not in REQUIRED, reason="mutants: builds all kernels anew; MINICNN_REQUIRE=mutants")
def test_the_kernels_without_a_fault_pass_and_two_faults_are_noticed(all_faults):
    wanted = {
        ("csrc/ops/relu.cu", "element < 0.0f", "element > 0.0f"),
        ("csrc/device/reduce.h", "__syncthreads()", "void(0)"),
    }
    numbers = [str(n) for n, m in enumerate(all_faults, 1) if (m.file, m.original, m.faulty) in wanted]
    command = [sys.executable, "-m", "tests.mutants", "--processes", "1", "--minutes", "5", "--number", *numbers]
    done = subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\| all \| 3 \| 0 \| 3 \|", done.stdout)
