"""The libraries, and which of them are installed here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.libraries.library import Library

__all__ = ["ENTRIES", "HAND", "OURS", "Entry", "installed", "open_library", "peers"]


@dataclass(frozen=True)
class Entry:
    """Where a library's adapter is, what it needs, and what tables call it.

    An adapter's module imports its library; this table imports none.
    """

    name: str
    package: str
    module: str
    adapter: str
    title: str
    extra: str = ""
    """A package that it needs besides."""


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("numpy", "numpy", "by_hand", "ByHand", "by hand"),
        Entry("vjpkit", "vjpkit", "ours", "Vjpkit", "vjpkit"),
        Entry("vjpkit-jit", "vjpkit", "ours", "Jit", "vjpkit jit"),
        Entry("vjpkit-native", "vjpkit", "ours", "Native", "vjpkit native", "llvmlite"),
        Entry("autograd", "autograd", "hips", "Autograd", "HIPS autograd"),
        Entry("torch", "torch", "pytorch", "Torch", "PyTorch"),
        Entry("jax", "jax", "xla", "JaxJit", "JAX jit"),
        Entry("jax-eager", "jax", "xla", "JaxEager", "JAX eager"),
        Entry("torch-compile", "torch", "pytorch", "TorchCompiled", "torch.compile"),
        Entry("mygrad", "mygrad", "mygrad_tensors", "MyGrad", "MyGrad"),
        Entry("pytensor", "pytensor", "pytensor_graphs", "PyTensor", "PyTensor"),
        Entry("casadi", "casadi", "casadi_graphs", "CasADi", "CasADi"),
        Entry("numba", "numba", "numba_loops", "Numba", "Numba by hand"),
    )
}


OURS = ("vjpkit", "vjpkit-jit", "vjpkit-native")
"""vjpkit op by op, compiled to NumPy source, and to machine code."""
HAND = ("numpy", "numba")
"""What is written by hand for one function is no library's doing, and no peer."""


def peers(names: Iterable[str]) -> list[str]:
    """Other libraries that differentiate by themselves."""
    return [name for name in names if name not in (*OURS, *HAND)]


def installed() -> list[str]:
    """Names of the libraries that can be measured here."""
    return [
        name
        for name, entry in ENTRIES.items()
        if all(find_spec(package) for package in (entry.package, entry.extra) if package)
    ]


def open_library(name: str) -> Library:
    """Import a library and give its adapter."""
    entry = ENTRIES[name]
    module = import_module(f"benchmarks.libraries.{entry.module}")
    adapter: type[Library] = getattr(module, entry.adapter)
    return adapter()
