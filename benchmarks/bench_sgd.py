"""One SGD step with momentum and weight decay over all parameters of a network, beside PyTorch's fused one.

Floor: weights and velocity are read and written, gradients read: 20 bytes a parameter.
"""

import numpy as np
import torch
from harness import Session, device_place

from minicnn import nn
from minicnn.optim import SGD

PARAMETERS = {"alexnet_owt": 61_100_840, "alexnet at 28 pixels": 1_100_000}
OPTIONS = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4}


class Flat(nn.Module):
    """Nothing but parameters."""

    def __init__(self, values):
        super().__init__()
        self.weight = nn.parameter(values)


def contenders(values, gradient, device):
    """(our parameter and step, theirs), both with this gradient."""
    ours = Flat(values).to(device).weight
    theirs = torch.nn.Parameter(torch.tensor(values, device=device_place(device)))
    our_step, their_step = SGD([ours], **OPTIONS).step, torch.optim.SGD([theirs], **OPTIONS, fused=True).step
    device.write(ours.slot.open()[0], gradient)
    theirs.grad = torch.tensor(gradient, device=theirs.device)
    return ours, our_step, theirs, their_step


def main() -> None:
    session = Session("sgd")
    for name, count in PARAMETERS.items():
        if session.only not in name:
            continue
        values, gradient = np.random.default_rng(0).standard_normal((2, count), np.float32)
        ours, our_step, theirs, their_step = contenders(values, gradient, session.device)
        for _ in range(3):
            our_step()
            their_step()
        worst = np.abs(ours.numpy() - theirs.detach().cpu().numpy()).max()
        if not worst < 1e-5:
            raise SystemExit(f"{name}: after three steps the weights differ by {worst:.3g}; not timed")
        session.race(name, "step", [(count,)], our_step, {"torch fused": their_step}, 6 * count, 20 * count)
    session.close()


if __name__ == "__main__":
    main()
