"""One step of Adam with weight decay over all parameters of a network, beside PyTorch's fused one.

Floor: weights and both moments are read and written, gradients read: 28 bytes a parameter.
"""

import torch
from optimizers import race

from minicnn.optim import Adam

OPTIONS = {"lr": 1e-3, "weight_decay": 5e-4}

if __name__ == "__main__":
    race("adam", Adam, torch.optim.Adam, OPTIONS, flops=14, nbytes=28)
