"""Arrays off a 16-byte boundary, one at a time: which of them may be read or written in fours is asked of each."""

import re

import numpy as np
import pytest
from gates.launches import RUNS
from kernels.test_bindings import KERNELS_H
from tolerances import assert_close

from minicnn.backend.kernels import ARRAYS

PARAMETERS = {
    name: [parameter.split()[-1].lstrip("*") for parameter in parameters.split(",")]
    for name, parameters in re.findall(r"^void (\w+)\(([^;]*)\);", KERNELS_H.read_text(), re.MULTILINE)
}


class OneArrayOff:
    """Kernels of a device that run once more for each of their arrays, which then lies off a 16-byte boundary."""

    def __init__(self, device):
        self.device, self.kernels, self.tried = device, device.kernels, set()

    def __getattr__(self, name):
        launch = getattr(self.kernels, name)
        return (lambda *arguments: self.launch(name, launch, arguments)) if name in PARAMETERS else launch

    def launch(self, name, launch, arguments):
        kinds = self.device.module.signatures[name]
        given = [i for i, argument in enumerate(arguments) if kinds[i] in ARRAYS and argument is not None]
        arrays = {i: self.device.to_numpy(arguments[i]) for i in given}
        launch(*arguments)
        results = {i: self.device.to_numpy(arguments[i]) for i in arrays if PARAMETERS[name][i] != "workspace"}
        for off in arrays:
            again = list(arguments)
            for i, values in arrays.items():
                again[i] = self.placed(values, int(i == off))
            launch(*again)
            for i, expected in results.items():
                what = f"{name}: {PARAMETERS[name][i]}, with {PARAMETERS[name][off]} off a boundary"
                if expected.dtype == np.float32:
                    assert_close(self.device.to_numpy(again[i]), expected, what=what)
                else:
                    np.testing.assert_array_equal(self.device.to_numpy(again[i]), expected, what)
            self.tried.add((name, off))

    def placed(self, values, offset):
        """These values in an array that begins `offset` elements past a boundary."""
        room = self.device.empty((offset + values.size,), values.dtype)
        array = room[offset:].reshape(values.shape)
        self.device.write(array, values)
        return array


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_each_array_off_a_16_byte_boundary_by_itself(run, ladder_device, monkeypatch):
    kernels = OneArrayOff(ladder_device)
    monkeypatch.setattr(ladder_device, "kernels", kernels)
    run(ladder_device)
    assert kernels.tried
