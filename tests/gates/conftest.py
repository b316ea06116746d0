"""What the gates look at."""

import importlib

import pytest
from conftest import unavailable

from minicnn.backend import EmulatedDevice


@pytest.fixture(scope="session")
def checked_device():
    """The emulated device with the checked module, whatever that of this run is."""
    try:
        return EmulatedDevice(importlib.import_module("minicnn._emulated_checked"))
    except ImportError:
        unavailable("checked", "minicnn._emulated_checked was not built (MINICNN_CHECKED=1)")
