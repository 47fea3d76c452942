"""Compiling kernels with numba, on machines whose package folder cannot be written.

Always true here: a kernel releases the interpreter lock, keeps IEEE arithmetic as written (no fast-math), and is cached on
disk where numba finds a place for it: beside the module, else the user's cache folder. Where it finds none, the kernel is
compiled anew in each process instead of failing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["kernel"]


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function lazily; call it with positional arguments only."""
    compiled: Callable[..., Any]
    try:
        compiled = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba's "no locator available": neither the package's folder nor the user's can be written
        compiled = njit(nogil=True)(function)
    return compiled
