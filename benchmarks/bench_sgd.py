"""One SGD step with momentum and weight decay over all parameters of a network, beside PyTorch's fused one.

Floor: weights and velocity are read and written, gradients read: 20 bytes a parameter.
"""

import torch
from optimizers import race

from minicnn.optim import SGD

OPTIONS = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4}

if __name__ == "__main__":
    race("sgd", SGD, torch.optim.SGD, OPTIONS, flops=6, nbytes=20)
