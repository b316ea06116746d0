"""A step of an optimizer beside PyTorch's fused one, over one flat parameter as large as a network's."""

import numpy as np
import torch
from harness import Session, device_place

from minicnn import nn

PARAMETERS = {"alexnet_owt": 61_100_840, "alexnet at 28 pixels": 1_100_000}


class Flat(nn.Module):
    """Nothing but parameters."""

    def __init__(self, values):
        super().__init__()
        self.weight = nn.parameter(values)


def race(op: str, ours: type, theirs: type, options: dict, flops: int, nbytes: int) -> None:
    """Check three steps of both, then time them. flops, nbytes: of one parameter's step."""
    session = Session(op)
    for name, count in PARAMETERS.items():
        if session.only not in name:
            continue
        values, gradient = np.random.default_rng(0).standard_normal((2, count), np.float32)
        our_weight = Flat(values).to(session.device).weight
        their_weight = torch.nn.Parameter(torch.tensor(values, device=device_place(session.device)))
        our_step = ours([our_weight], **options).step
        their_step = theirs([their_weight], **options, fused=True).step
        session.device.write(our_weight.slot.open()[0], gradient)
        their_weight.grad = torch.tensor(gradient, device=their_weight.device)
        for _ in range(3):
            our_step()
            their_step()
        worst = np.abs(our_weight.numpy() - their_weight.detach().cpu().numpy()).max()
        if not worst < 1e-5:
            raise SystemExit(f"{name}: after three steps the weights differ by {worst:.3g}; not timed")
        session.race(name, "step", [(count,)], our_step, {"torch fused": their_step}, flops * count, nbytes * count)
    session.close()
