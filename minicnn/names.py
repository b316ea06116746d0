"""Misspelt names: what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def check_known(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """ValueError for the first of `names` that is not among the `known`, with the nearest of these, or all."""
    known = tuple(known)
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known)
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"there are {', '.join(known)}"
            raise ValueError(f"unknown {what} {name!r}; {hint}")
