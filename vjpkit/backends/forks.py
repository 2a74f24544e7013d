"""A lock for what must not be going on in another thread while the process forks.

The child has that thread's locks, those of modules being imported and LLVM's among them, and not
the thread that would release them: it would wait for ever.
"""

from __future__ import annotations

import os
import threading

__all__ = ["UNFORKED"]

UNFORKED = threading.RLock()
"""Held by who makes machine code, one thread at a time; forking waits for it."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=UNFORKED.acquire,
        after_in_parent=UNFORKED.release,
        after_in_child=UNFORKED.release,
    )
