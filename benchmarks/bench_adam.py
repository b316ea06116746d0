"""One step of Adam with weight decay over all parameters of a network, beside PyTorch's fused one.

Floor: weights and both moments are read and written, gradients read: 28 bytes a parameter.
"""

import numpy as np
import torch
from bench_sgd import PARAMETERS, Flat
from harness import Session, device_place

from minicnn.optim import Adam

OPTIONS = {"lr": 1e-3, "weight_decay": 5e-4}


def contenders(values, gradient, device):
    """(our parameter and step, theirs), both with this gradient."""
    ours = Flat(values).to(device).weight
    theirs = torch.nn.Parameter(torch.tensor(values, device=device_place(device)))
    our_step, their_step = Adam([ours], **OPTIONS).step, torch.optim.Adam([theirs], **OPTIONS, fused=True).step
    device.write(ours.slot.open()[0], gradient)
    theirs.grad = torch.tensor(gradient, device=theirs.device)
    return ours, our_step, theirs, their_step


def main() -> None:
    session = Session("adam")
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
        session.race(name, "step", [(count,)], our_step, {"torch fused": their_step}, 14 * count, 28 * count)
    session.close()


if __name__ == "__main__":
    main()
