"""The machine, as far as numbers depend on it, and the environment of the child processes."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["child_environment", "describe_machine"]

ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


# glibc gives memory above these back to the kernel, and each page of it is faulted in again.
RETAIN_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


def child_environment(one_core: bool, retain_memory: bool) -> dict[str, str]:
    """The environment for a library's process.

    A pinned OPENBLAS_CORETYPE would run another processor's kernels, in some libraries only;
    without bytecode files, an import would be measured with its compilation.
    """
    environment = dict(os.environ)
    for name in ("OPENBLAS_CORETYPE", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    if one_core:
        environment.update(ONE_THREAD)
    if retain_memory:
        environment.update(RETAIN_MEMORY)
    return environment


def describe_machine(environment: dict[str, str]) -> dict[str, Any]:
    """What to print and save beside the numbers; ``environment`` is the child processes'."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": _cores(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "environment": {
            name: value
            for name, value in sorted(environment.items())
            if re.match("OPENBLAS_|OMP_|MKL_|XLA_|MALLOC_|NPY_", name)
        },
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = {
        key: found[1]
        for key in ("model name", "cpu family", "model")
        if (found := re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE))
    }
    wide = ", AVX-512" if "avx512f" in text else ", AVX2" if "avx2" in text else ""
    name = names.get("model name", platform.processor())
    return f"{name} (family {names.get('cpu family', '?')}, model {names.get('model', '?')}{wide})"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return "unknown"
