"""`retain_memory`: ask the C library to keep freed memory instead of returning it to the system."""

from __future__ import annotations

import numpy as np

__all__ = ["retain_memory"]


def retain_memory(nbytes: int = 32 << 20) -> None:
    """Let arrays of up to ``nbytes`` be reused after they are freed, for the rest of the process.

    Fresh memory is dearer than arithmetic: where glibc returns freed arrays to the system, the next
    one costs a page fault for every 4 kB, and a gradient of 10^5 elements takes several times as
    long as its arithmetic. Allocating and freeing one block of the size raises glibc's thresholds;
    it touches no page. Up to twice ``nbytes`` of freed memory stay with the process. It changes
    nothing elsewhere than on glibc, and nothing in any result.

    >>> import vjpkit as vk
    >>> vk.retain_memory()
    """
    if nbytes <= 0:
        raise ValueError(f"retain_memory: nbytes must be positive, got {nbytes}")
    block = np.empty(min(nbytes, 32 << 20) - 8192, np.uint8)
    del block
