"""The work that is measured: plain functions, the same ones for every contender."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np


def echo(n: Any) -> Any:
    """Return ``n``: nothing but orchestration is measured."""
    return n


def count(n: int) -> int:
    """Return the number after ``n``: a step whose parameters no other step of its chain has."""
    return n + 1


def spin(seconds: float) -> int:
    """Keep a processor busy for so long, by the clock on the wall."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return 1


def trace(seconds: float) -> tuple[int, float, float]:
    """Do the same, and return which process did it, from when to when."""
    begun = time.perf_counter()
    spin(seconds)
    return os.getpid(), begun, time.perf_counter()


def make(floats: int) -> np.ndarray:
    """Return an array of so many float64 numbers."""
    return np.ones(floats)


def grow(array: np.ndarray) -> np.ndarray:
    """Return a new array, each number one larger."""
    return array + 1


def look(array: np.ndarray, place: int) -> float:
    """Read one number of a large array."""
    return float(array[place]) + place


def size(array: np.ndarray) -> int:
    """Return how many bytes an array has."""
    return int(array.nbytes)
