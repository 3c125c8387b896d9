"""Chooses how many threads compute, by trying: more are slower where the cores are taken."""

import time
from functools import lru_cache

import torch

ROWS, WIDTH = 80, 1024
"""A step's usual matrix: eight inputs with a prompt of ten, in a model of BLOOM-560M's width."""


@lru_cache(maxsize=1)
def best_threads() -> int:
    """Time a product of the usual size with one thread and with as many as PyTorch would use.

    Returns:
        The faster number, found out once in a process; ``OMP_NUM_THREADS`` bounds it.
    """
    most = torch.get_num_threads()
    a, b = torch.randn(ROWS, WIDTH), torch.randn(4 * WIDTH, WIDTH)
    seconds = {}
    for threads in sorted({1, most}):
        torch.set_num_threads(threads)
        seconds[threads] = min(_time(a, b) for _ in range(15))
    torch.set_num_threads(most)
    return min(seconds, key=lambda threads: seconds[threads])


def _time(a: torch.Tensor, b: torch.Tensor) -> float:
    """Time one product."""
    start = time.perf_counter()
    torch.nn.functional.linear(a, b)
    return time.perf_counter() - start
