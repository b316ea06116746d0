"""Fingerprints of a network's weights: equal digests mean equal bytes."""

from __future__ import annotations

import hashlib

import numpy as np

from minicnn.nn import Module
from minicnn.threads import in_shares

PIECE = 1 << 20  # bytes that one thread digests at a time: fixed, so that the number of threads changes nothing
HEX_DIGITS = 16


def digest(array: np.ndarray) -> str:
    """16 hexadecimal digits of the array's bytes: a SHA-256 over the SHA-256 of each of its pieces."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    shares = in_shares(
        lambda share: [hashlib.sha256(piece).digest() for piece in pieces[share]], len(pieces), len(data)
    )
    return hashlib.sha256(b"".join(b"".join(share) for share in shares)).hexdigest()[:HEX_DIGITS]


def of_network(network: Module) -> dict[str, str]:
    """The digest of every parameter and buffer, by its path, in the network's order."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return {path: digest(tensor.device.on_host(tensor.data)) for path, tensor in tensors}
