"""A tensor on another device, within the graph."""

from __future__ import annotations

from minicnn import backend
from minicnn.autograd import Op
from minicnn.tensor import Accumulate


class ToDevice(Op):
    """y = x on `device`; dx = dy, back on x's. Both travel through the host's memory."""

    name = "to_device"

    def __init__(self, device):
        self.target = backend.device(device)

    def _agree(self, inputs):
        super()._agree(inputs)
        self.source, self.device, self.kernels = self.device, self.target, None

    def check(self, x):
        return x.shape

    def forward(self, _out_shape, x):
        return self.target.array(self.source.on_host(x))

    def backward(self, dy):
        moved, slot = self.source.array(self.target.on_host(dy)), self.slots[0]
        if not slot.adopt(moved):
            array, accumulate = slot.open()
            if accumulate is Accumulate.add:
                array += moved
            else:
                self.source.copy(moved, array)
