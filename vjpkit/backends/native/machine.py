"""A group of equations as a module of LLVM's: what kernels, loops and sweeps have in common."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import ClassVar

import numpy as np

from vjpkit.backends.native.engine import host

__all__ = ["Machine", "module_of", "quietly"]

X86_EXCEPTIONS, ARM_EXCEPTIONS = 0x3F, 0x1F
"""Bits of the exceptions in the control register of vectors; ``FE_ALL_EXCEPT`` of the C library."""


class Machine(ABC):
    """What was made of a group."""

    prefix: ClassVar[str]
    """What its name begins with."""

    @abstractmethod
    def write(self) -> str:
        """The module, in which the function that NumPy calls is ``@loop``."""

    @abstractmethod
    def compile(self) -> np.ufunc:
        """The function as a ufunc."""

    @cached_property
    def module(self) -> str:
        """The module, in which the function has no name of its own."""
        return self.write()

    @cached_property
    def name(self) -> str:
        """A name that tells it from other functions."""
        return f"{self.prefix}_{hashlib.sha256(self.module.encode()).hexdigest()[:24]}"

    @property
    def text(self) -> str:
        """The module, in which the function is called `name`."""
        return self.module.replace("@loop", f"@{self.name}")


def module_of(
    function: Callable[[bool], tuple[str, bool]],
    arrays: int,
    declared: Iterable[str],
    called: Iterable[str] = (),
) -> str:
    """The module of a function of ``arrays`` pointers, called once for everything.

    ``function`` writes it, in the exact form or not, and says whether it has doubts about
    arguments; where it has, and they were justified, the exact form computes everything again.
    ``declared``, and the functions that it calls, are read when it has been written.
    """
    fast, doubtful = function(False)
    functions = [fast, *([function(True)[0]] if doubtful else [])]
    given = ", ".join(f"ptr %p{j}" for j in range(arrays))
    body = ["define void @loop(ptr %args, ptr %dims, ptr %steps, ptr %data) nounwind {"]
    for j in range(arrays):
        body += [f"  %a{j} = getelementptr ptr, ptr %args, i64 {j}",
                 f"  %p{j} = load ptr, ptr %a{j}"]  # fmt: skip
    body.append(f"  %flag = call i1 @fast({given})")
    if doubtful:
        body += [
            "  br i1 %flag, label %again, label %done",
            "again:",
            f"  %ignored = call i1 @exact({given})",
            "  br label %done",
            "done:",
        ]
    needs, quiet = quietly()
    body += [*quiet, "  ret void", "}"]
    return "\n".join([*sorted({*declared, *needs}), *called, *functions, *body, ""])


def quietly() -> tuple[list[str], list[str]]:
    """What is declared, and the lines that take back exceptions, for which NumPy would warn.

    Vector units have a register for them; the C library's function writes others as well, and takes
    as long as a small kernel.
    """
    if not host().has_control_register:
        call = f"  %quiet = call i32 @feclearexcept(i32 {ARM_EXCEPTIONS})"
        return ["declare i32 @feclearexcept(i32)"], [call]
    names = "llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr"
    return [f"declare void @{name}(ptr)" for name in names], [
        "  %control = alloca i32", f"  call void @{names[0]}(ptr %control)",
        "  %raised = load i32, ptr %control", f"  %quiet = and i32 %raised, {~X86_EXCEPTIONS}",
        "  store i32 %quiet, ptr %control", f"  call void @{names[1]}(ptr %control)",
    ]  # fmt: skip
