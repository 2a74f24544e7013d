"""What compiled programs are held against: the same programs, equation by equation."""

from collections.abc import Callable
from typing import Any

import vjpkit as vk
from tests.laws.test_metamorphic import POINT, close
from vjpkit.backends import executable
from vjpkit.core.ir import Program, check
from vjpkit.passes import optimize


def same_compiled(function: Any, run: Callable[[Program], Program] = lambda p: p) -> None:
    """A function at `POINT` is what its program gives compiled, and a pass makes a sound one."""
    closed = vk.make_ir(function)(POINT)
    check(run(optimize(closed.program)))
    outs = executable(closed.program)(*closed.consts, POINT)
    for got, want in zip(outs, closed(POINT), strict=True):
        close(got, want)
