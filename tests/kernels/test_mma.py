"""mma.sync and the formats of its operands (csrc/device/mma.h, float16.h) against plain statements of both.

The fragments are written here as the PTX ISA writes them ("Matrix Fragments for mma.m16n8k8" and "... mma.m16n8k16 with
floating point type"): element i of a lane, in the order of its registers, lower half first.
"""

from dataclasses import dataclass

import numpy as np
import pytest

GROUP, MEMBER = np.divmod(np.arange(32), 4)  # groupID and threadID_in_group of each lane


@dataclass(frozen=True)
class Instruction:
    name: str
    number: int  # in the probe
    k: int
    dtype: str

    def place_in_a(self, i):
        """(row, column) of element i of each lane."""
        if self.k == 16:
            row = GROUP if i < 2 or 4 <= i < 6 else GROUP + 8
            return row, MEMBER * 2 + (i & 1) + (0 if i < 4 else 8)
        if self.dtype == "float16":
            return (GROUP if i < 2 else GROUP + 8), MEMBER * 2 + (i & 1)
        return (GROUP if i in (0, 2) else GROUP + 8), (MEMBER if i < 2 else MEMBER + 4)

    def place_in_b(self, i):
        if self.k == 16:
            return MEMBER * 2 + (i & 1) + (0 if i < 2 else 8), GROUP
        if self.dtype == "float16":
            return MEMBER * 2 + i, GROUP
        return (MEMBER if i == 0 else MEMBER + 4), GROUP

    @staticmethod
    def place_in_d(i):
        return (GROUP if i < 2 else GROUP + 8), MEMBER * 2 + (i & 1)

    def encode(self, matrix):
        """The bits of numbers that the format holds, as uint16 or (TF32) uint32."""
        matrix = np.asarray(matrix, np.float32)
        if self.dtype == "float16":
            return matrix.astype(np.float16).view(np.uint16)
        return (matrix.view(np.uint32) >> 16).astype(np.uint16) if self.dtype == "bfloat16" else matrix.view(np.uint32)

    def decode(self, bits):
        if self.dtype == "float16":
            return bits.view(np.float16).astype(np.float64)
        bits = bits.astype(np.uint32) << 16 if self.dtype == "bfloat16" else bits
        return bits.view(np.float32).astype(np.float64)

    def registers(self, bits, place, count):
        """(32, registers) of elements i < count."""
        elements = np.stack([bits[place(i)] for i in range(count)], 1)
        return elements.copy().view(np.uint32)

    def run(self, emulated, on_device, run, a, b, d):
        """d (16, 8) after the instruction; a (16, k) and b (k, 8) as bits, d float32."""
        of_a = self.registers(a, self.place_in_a, a.size // 32)
        of_b = self.registers(b, self.place_in_b, b.size // 32)
        of_d = on_device(np.stack([d[self.place_in_d(i)] for i in range(4)], 1))
        run(emulated.instructions.mma, on_device(of_a), on_device(of_b), of_d, self.number)
        result = np.empty((16, 8), np.float32)
        for i in range(4):
            result[self.place_in_d(i)] = of_d[:, i]
        return result

    def expected(self, a, b, d):
        """The twin's arithmetic: exact products, added to d from k = 0 on in double precision, one rounding."""
        total = d.astype(np.float64)
        for k in range(self.k):
            total = total + np.outer(self.decode(a)[:, k], self.decode(b)[k])
        return total.astype(np.float32)


INSTRUCTIONS = [
    Instruction("mma_m16n8k16_bf16", 0, 16, "bfloat16"),
    Instruction("mma_m16n8k16_f16", 1, 16, "float16"),
    Instruction("mma_m16n8k8_f16", 2, 8, "float16"),
    Instruction("mma_m16n8k8_tf32", 3, 8, "tf32"),
]
instructions = pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=lambda instruction: instruction.name)


def f32(bits):
    return np.asarray(bits, np.uint32).view(np.float32)


def random_numbers(instruction, rng, shape):
    """Random bits of the format, NaNs left out; TF32 has its last 13 bits 0."""
    if instruction.dtype == "tf32":
        bits = rng.integers(0, 2**19, shape).astype(np.uint32) << 13
    else:
        bits = rng.integers(0, 2**16, shape).astype(np.uint16)
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        return np.where(np.isnan(instruction.decode(bits)), instruction.encode(1), bits)


# ---- which lane holds what ----


@instructions
def test_places_cover_each_matrix_once(instruction):
    for place, count, shape in [
        (instruction.place_in_a, instruction.k // 2, (16, instruction.k)),
        (instruction.place_in_b, instruction.k // 4, (instruction.k, 8)),
        (instruction.place_in_d, 4, (16, 8)),
    ]:
        seen = np.zeros(shape, int)
        for i in range(count):
            np.add.at(seen, place(i), 1)
        assert (seen == 1).all()


@instructions
def test_integers_are_exact(instruction, emulated, schedule, on_device, run, rng):
    a, b = rng.integers(-100, 101, (16, instruction.k)), rng.integers(-100, 101, (instruction.k, 8))
    d = rng.integers(-(10**6), 10**6, (16, 8))
    got = instruction.run(emulated, on_device, run, instruction.encode(a), instruction.encode(b), d.astype(np.float32))
    np.testing.assert_array_equal(got, a @ b + d)


@instructions
@pytest.mark.parametrize("operand", ["a", "b"])
def test_each_element_reaches_its_products(instruction, emulated, on_device, run, operand):
    """A single 1 in one operand picks a row or a column of the other, whose elements are all different."""
    k = instruction.k
    numbers = (np.arange(16 * k) + 1).reshape(16, k)
    for i in range(k):
        if operand == "a":
            a, b = numbers, np.zeros((k, 8))
            b[i, i % 8] = 1
        else:
            a, b = np.zeros((16, k)), numbers[:8].T
            a[i, i] = 1
        got = instruction.run(
            emulated, on_device, run, instruction.encode(a), instruction.encode(b), np.zeros((16, 8), np.float32)
        )
        np.testing.assert_array_equal(got, a @ b)


# ---- arithmetic ----


@instructions
@pytest.mark.parametrize("seed", range(8))
def test_random_numbers_of_every_size(instruction, emulated, on_device, run, seed):
    """Subnormal numbers and infinities among them, overflow and NaN among the results."""
    rng = np.random.default_rng(seed)
    a = random_numbers(instruction, rng, (16, instruction.k))
    b = random_numbers(instruction, rng, (instruction.k, 8))
    d = rng.standard_normal((16, 8)).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = instruction.expected(a, b, d)
    np.testing.assert_array_equal(instruction.run(emulated, on_device, run, a, b, d), expected)


@instructions
@pytest.mark.parametrize("seed", range(8))
def test_sums_are_rounded_once(instruction, emulated, on_device, run, seed):
    rng = np.random.default_rng(seed)
    shift = 16 if instruction.dtype == "bfloat16" else 13
    a, b = (
        instruction.encode(f32(rng.standard_normal(shape).astype(np.float32).view(np.uint32) >> shift << shift))
        for shape in [(16, instruction.k), (instruction.k, 8)]
    )
    d = rng.standard_normal((16, 8)).astype(np.float32)
    np.testing.assert_array_equal(instruction.run(emulated, on_device, run, a, b, d), instruction.expected(a, b, d))


@pytest.mark.parametrize("seed", range(8))
def test_below_sm_80_a_product_of_float16_is_two_of_its_halves(emulated, on_device, run, seed):
    """Bit for bit: the sum is rounded between them."""
    rng = np.random.default_rng(seed)
    _, whole, half, _ = INSTRUCTIONS
    a, b = (whole.encode(rng.standard_normal(shape)) for shape in ((16, 16), (16, 8)))
    d = rng.standard_normal((16, 8)).astype(np.float32)
    once = whole.run(emulated, on_device, run, a, b, d)
    emulated.configure(**emulated.configuration() | {"capability": 75})
    got = whole.run(emulated, on_device, run, a, b, d)
    np.testing.assert_array_equal(got, half.expected(a[:, 8:], b[8:], half.expected(a[:, :8], b[:8], d)))
    assert (got != once).any()


@pytest.mark.parametrize("name, number", [("mma_m16n8k16_bf16", 0), ("mma_m16n8k8_tf32", 3)])
def test_what_sm_75_does_not_have(name, number, emulated, on_device, run):
    emulated.configure(**emulated.configuration() | {"capability": 75})
    zeros = (on_device(np.zeros((32, registers), np.uint32)) for registers in (4, 2))
    with pytest.raises(RuntimeError, match=f"{name}: there is no such instruction below sm_80, in block"):
        run(emulated.instructions.mma, *zeros, on_device(np.zeros((32, 4), np.float32)), number)


SMALLEST = {"bfloat16": 2.0**-133, "float16": 2.0**-24, "tf32": 2.0**-136}  # subnormal


@instructions
def test_subnormal_operands_count(instruction, emulated, on_device, run):
    smallest = np.float32(SMALLEST[instruction.dtype])
    a, b = np.full((16, instruction.k), 3 * smallest), np.full((instruction.k, 8), 4.0)
    got = instruction.run(
        emulated, on_device, run, instruction.encode(a), instruction.encode(b), np.zeros((16, 8), np.float32)
    )
    assert (got == np.float32(12 * instruction.k) * smallest).all()
    assert (got > 0).all()


@instructions
@pytest.mark.parametrize(
    "x, y, d, expected",
    [
        (np.inf, 1, 0, np.inf),
        (-np.inf, 1, 0, -np.inf),
        (np.inf, 0, 0, np.nan),
        (np.inf, 1, -np.inf, np.nan),
        (np.nan, 0, 0, np.nan),
        (1, 1, np.nan, np.nan),
        (1, 1, np.inf, np.inf),
        (-1, 0, -0.0, -0.0),
    ],
    ids=str,
)
def test_specials(instruction, emulated, on_device, run, x, y, d, expected):
    """x times y at k = 3 in one element; the other products are -0, so that they leave a sum of -0 alone."""
    a, b = np.full((16, instruction.k), -0.0), np.zeros((instruction.k, 8))
    sums = np.zeros((16, 8), np.float32)
    a[5, 3], b[3, 6], sums[5, 6] = x, y, d
    got = instruction.run(emulated, on_device, run, instruction.encode(a), instruction.encode(b), sums)
    np.testing.assert_array_equal(got[5, 6], np.float32(expected))
    assert np.signbit(got[5, 6]) == np.signbit(expected) or np.isnan(expected)
    others = np.delete(got, 5 * 8 + 6)
    assert np.isnan(others).sum() == (7 if not np.isfinite(x) else 0), "inf and NaN times the zeros of the same row"


# ---- formats ----


def neighbours(x, dropped):
    """The numbers next to x whose last `dropped` bits are 0, towards 0 and away from it, exactly, with their bits."""
    bits = x.view(np.uint32) >> dropped << dropped
    away = bits + np.uint32(1 << dropped)
    value = lambda b: np.where(np.isinf(f32(b)), np.copysign(np.float64(2.0**128), f32(b)), f32(b).astype(np.float64))  # noqa: E731
    return (bits, value(bits)), (away, value(away))


def nearest(x, dropped, ties_to_even):
    """Bits of the number nearest to a finite x; of two, the one with an even last bit or the one farther from 0."""
    (towards, low), (away, high) = neighbours(x, dropped)
    exact = x.astype(np.float64)
    below, above = np.abs(exact - low), np.abs(high - exact)
    wins_tie = (away >> dropped) % 2 == 0 if ties_to_even else np.full(x.shape, True)
    return np.where((above < below) | ((above == below) & wins_tie), away, towards)


def all_ties(dropped):
    """Every number that has 0 in its last bits, with what lies around a tie there: finite ones only."""
    low = np.array([0, 1, (1 << dropped - 1) - 1, 1 << dropped - 1, (1 << dropped - 1) + 1, (1 << dropped) - 1])
    x = f32(np.add.outer(np.arange(2 ** (32 - dropped), dtype=np.uint32) << dropped, low.astype(np.uint32)).ravel())
    return x[np.isfinite(x)]


def narrow(emulated, on_device, run, x):
    """x as (bfloat16, float16, TF32) bits."""
    results = [on_device(np.zeros(x.size, dtype)) for dtype in (np.uint16, np.uint16, np.uint32)]
    run(emulated.instructions.narrow, on_device(x), *results, x.size)
    return results


@pytest.fixture(params=["ties", "random"])
def finite(request, rng):
    """A function: float32 numbers to round, for a format that drops so many bits."""

    def numbers(dropped):
        if request.param == "ties":
            return all_ties(dropped)
        x = f32(rng.integers(0, 2**32, 200_000).astype(np.uint32))
        return x[np.isfinite(x)]

    return numbers


def test_tf32_rounds_to_nearest_ties_away(emulated, on_device, run, finite):
    x = finite(13)
    np.testing.assert_array_equal(narrow(emulated, on_device, run, x)[2], nearest(x, 13, ties_to_even=False))


def test_bfloat16_rounds_to_nearest_ties_to_even(emulated, on_device, run, finite):
    x = finite(16)
    expected = (nearest(x, 16, ties_to_even=True) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(narrow(emulated, on_device, run, x)[0], expected)


def float16_table():
    """Every finite float16 from 0 up, and behind the largest the one that would follow; exact."""
    bits = np.arange(0x7C01, dtype=np.int64)
    exponent, mantissa = bits >> 10, bits & 1023
    return np.where(exponent == 0, mantissa * 2.0**-24, (1024 + mantissa) * 2.0 ** (np.maximum(exponent, 1) - 25.0))


def test_float16_rounds_to_nearest_ties_to_even(emulated, on_device, run, rng):
    """By the table of all float16 numbers: each of them, each tie, what lies around both, and random numbers."""
    table = float16_table()
    seeds = np.concatenate([table, (table[1:] + table[:-1]) / 2]).astype(np.float32)
    around = [np.nextafter(seeds, np.float32(limit)) for limit in (-np.inf, np.inf)]
    sizes = np.exp2(rng.uniform(-30, 18, 200_000)).astype(np.float32)
    x = np.concatenate([seeds, *around, sizes])
    x = np.where(rng.random(x.size) < 0.5, x, -x)
    magnitude = np.abs(x.astype(np.float64))
    low = np.minimum(np.searchsorted(table, magnitude, "right") - 1, table.size - 2)
    below, above = magnitude - table[low], table[low + 1] - magnitude
    expected = low + ((above < below) | ((above == below) & (low % 2 == 1)))
    expected |= np.where(np.signbit(x), 0x8000, 0)
    np.testing.assert_array_equal(narrow(emulated, on_device, run, x)[1], expected.astype(np.uint16))


def test_nan_and_infinity(emulated, on_device, run):
    """NaN as CUDA's headers have it; TF32 as ptxas has it: a NaN whose bits are all among the last 13 gets lost."""
    x = f32([0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0x7F800001, 0x7F802000, 0x7FFFFFFF])
    bf16, f16, tf32 = narrow(emulated, on_device, run, x)
    assert [hex(word) for word in bf16] == ["0x7f80", "0xff80"] + ["0x7fff"] * 5
    assert [hex(word) for word in f16] == ["0x7c00", "0xfc00"] + ["0x7fff"] * 5
    assert [hex(word) for word in tf32] == [
        "0x7f800000", "0xff800000", "0x7fc00000", "0xffc12000", "0x7f800000", "0x7f802000", "0x7fffe000",
    ]  # fmt: skip


def test_widening_is_exact(emulated, on_device, run):
    """All 65,536 numbers."""
    bits = np.arange(2**16, dtype=np.uint16)
    y = on_device(np.zeros(bits.size, np.float32))
    run(emulated.instructions.widen_bf16, on_device(bits), y, bits.size)
    np.testing.assert_array_equal(y.view(np.uint32), bits.astype(np.uint32) << 16)
    run(emulated.instructions.widen_f16, on_device(bits), y, bits.size)
    magnitudes = np.append(float16_table()[:-1], np.inf)
    expected = np.append(magnitudes, np.full(2**15 - magnitudes.size, np.nan)).astype(np.float32)
    np.testing.assert_array_equal(y[: 2**15], expected)
    np.testing.assert_array_equal(y[2**15 :], -expected)
    np.testing.assert_array_equal(np.signbit(y), (bits >> 15 == 1) & ~np.isnan(y))
    assert set(y[np.isnan(y)].view(np.uint32)) == {0x7FFFFFFF}


# ---- with ldmatrix, a whole product ----


@pytest.mark.parametrize("k", [16, 48, 160])
@pytest.mark.parametrize(
    "instruction, b_by_rows",  # ldmatrix transposes elements of 16 bits only
    [(i, by_rows) for i in INSTRUCTIONS for by_rows in (False, True) if not (by_rows and i.dtype == "tf32")],
    ids=lambda value: value.name if isinstance(value, Instruction) else f"b_by_{'rows' if value else 'columns'}",
)
def test_product_of_one_warp(instruction, emulated, schedule, on_device, run, rng, b_by_rows, k):
    a, b = rng.integers(-60, 61, (16, k)), rng.integers(-60, 61, (k, 8))
    of_a, of_b = (on_device(instruction.encode(matrix)) for matrix in (a, b if b_by_rows else b.T))
    d = on_device(np.zeros((16, 8), np.float32))
    if instruction.dtype == "bfloat16":
        run(emulated.instructions.warp_gemm_bf16, of_a, of_b, d, k, int(b_by_rows))
    elif instruction.dtype == "float16":
        run(emulated.instructions.warp_gemm_f16, of_a, of_b, d, k, int(b_by_rows), instruction.k)
    else:
        run(emulated.instructions.warp_gemm_tf32, of_a, of_b, d, k)
    np.testing.assert_array_equal(d, a @ b)


# ---- what kernels do wrong ----

AT = r"probes_tensor_core\.cu:\d+"


def test_lanes_at_different_instructions(emulated, schedule, run):
    one = r"mma_m16n8k16_b?f16"
    message = (
        rf"^diverge_at_mma: {AT}: divergent warp: this lane is in {one} with mask 0xffffffff, others wait in {one} "
        rf"\({AT}\) with mask 0xffffffff, in block \(0,0,0\), thread \(\d+,0,0\)$"
    )
    with pytest.raises(RuntimeError, match=message):
        run(emulated.probes.diverge_at_mma)


@pytest.mark.parametrize("operand, register", [("a", 0), ("a", 3), ("b", 1)])
@pytest.mark.parametrize("bit", [0, 12])
def test_tf32_operand_that_was_not_rounded(emulated, on_device, run, operand, register, bit):
    operands = {"a": np.zeros((32, 4), np.uint32), "b": np.zeros((32, 2), np.uint32)}
    operands[operand][7, register] = 0x3F800000 | 1 << bit
    message = (
        rf"^mma: {AT}: mma_m16n8k8_tf32: register {register} of {operand} is no TF32 number, its last 13 bits are not 0: "
        r"float_to_tf32 makes one, in block \(0,0,0\), thread \(7,0,0\)$"
    )
    with pytest.raises(RuntimeError, match=message):
        run(emulated.instructions.mma, *map(on_device, operands.values()), on_device(np.zeros((32, 4), np.float32)), 3)
