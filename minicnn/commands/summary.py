"""`minicnn summary`: layers, parameters and operations of a network."""

from __future__ import annotations

from minicnn.commands import options
from minicnn.summary import summary


def add(parser) -> None:
    options.add_network(parser, batch_size=1)


def run(arguments) -> int:
    return options.show(summary(*options.network_and_input(arguments, initialize=None)), arguments)
