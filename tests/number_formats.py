"""The formats that tensor cores multiply, as the tests of their kernels want them."""

from dataclasses import dataclass

import numpy as np
import pytest

from minicnn.shapes import Math


@dataclass(frozen=True)
class Format:
    """How numbers lie in arrays, what becomes of them, and the ends of the kernels' names."""

    name: str
    math: Math
    depth: int  # elements of the reduction that one instruction sums
    operand_bits: int  # significant bits of an operand on its way to the tensor cores
    suffix: str = ""

    @property
    def is_narrow(self) -> bool:
        return bool(self.suffix)

    def encode(self, x):
        """Nearest numbers of the format, as arrays hold them."""
        x = np.ascontiguousarray(x, np.float32)
        if self.name == "bfloat16":
            bits = x.view(np.uint32)
            return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        return x.astype(np.float16) if self.name == "float16" else x

    def decode(self, array):
        if self.name == "bfloat16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float32)


FLOAT32 = Format("float32", Math.float32, 1, 24)  # without tensor cores
TF32 = Format("tf32", Math.tf32, 8, 11)
TF32X3 = Format("tf32x3", Math.tf32x3, 8, 21)
BFLOAT16 = Format("bfloat16", Math.float32, 16, 24, "_bfloat16")
FLOAT16 = Format("float16", Math.float32, 16, 24, "_float16")
FORMATS = [TF32, TF32X3, BFLOAT16, FLOAT16]  # of the tensor cores
formats = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
