"""The NumPy tier answers, and one thread compiles what has run long enough to be worth it.

A program is compiled when it has run for as long as its compilation may take: whoever rents until
the rent has cost as much as a purchase pays at most twice the least. Nobody waits: calls go on
through the NumPy tier until the machine code is there; then some calls are on trial, and where they
take longer the NumPy tier stays. So it does where nothing can be compiled.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import perf_counter
from typing import Any

import numpy as np

from vjpkit.backends.forks import UNFORKED
from vjpkit.backends.numpy_source import Lowered, Part, Unavailable
from vjpkit.core.aval import Value
from vjpkit.core.ir import Program, subprograms

__all__ = ["WORTH", "Auto"]

WORTH, WORTH_PER_EQUATION = 0.02, 0.0005
"""Seconds of running from which a program is compiled: about as long as compiling it takes."""

TRIALS = 5
"""Calls of the machine code that are timed, the least of them against the NumPy tier's."""
SLOWER = 1.1
"""Times from which machine code has lost: what lies below is noise."""


def size(program: Program) -> int:
    """Equations of a program, those of the programs in it included."""
    return len(program.equations) + sum(map(size, subprograms(program)))


class Auto:
    """An executable that is the NumPy tier's at first and may become machine code.

    ``tier`` is what runs now; ``settled`` says that it will stay.
    """

    def __init__(
        self,
        program: Program,
        begin: Callable[[Program], Lowered],
        compiler: Callable[[Program], Lowered],
    ) -> None:
        self.program = program
        self.tier = self.first = begin(program)
        self.compiler = compiler
        self.settled = False
        self.ordered = False
        self.worth = WORTH + WORTH_PER_EQUATION * size(program)
        self.reason = (
            f"it has run for less than {1000 * self.worth:.0f} ms, as long as compiling takes"
        )
        self.spent = 0.0
        self.least = inf
        self.trials: list[float] = []
        self.lock = threading.Lock()

    @property
    def run(self) -> Callable[..., tuple[Value, ...]]:
        return self.tier.run if self.settled else self.measured

    def measured(self, *values: Value) -> tuple[Value, ...]:
        """Run, and learn from how long it takes."""
        tier = self.tier
        start = perf_counter()
        outs = tier.run(*values)
        seconds = perf_counter() - start
        if tier is self.first:
            self.spent += seconds
            self.least = min(self.least, seconds)
            if self.spent > self.worth and not self.ordered:
                self.order()
        else:
            self.trials.append(seconds)
            if len(self.trials) == TRIALS:
                self.judge()
        return outs

    def __call__(self, *values: Value) -> tuple[Value, ...]:
        try:
            return self.run(*values)
        except Exception as error:
            self.name_line(error)
            raise

    def order(self) -> None:
        """Have the program compiled, in the background."""
        with self.lock:
            if self.ordered or self.settled:
                return
            self.ordered, self.reason = True, "machine code is being made"
        WORKSHOP.order(self)

    def prepare(self) -> None:
        """Compile the program, and put the machine code on trial."""
        with UNFORKED, self.lock:
            if self.settled or self.tier is not self.first:
                return
            try:
                compiled = self.compiler(self.program)
            except Exception as error:
                self.settle(self.first, f"{type(error).__name__} in compiling it: {error}")
                raise
            if compiled.is_native:
                self.tier, self.reason = compiled, ""
            else:
                self.settle(self.first, "nothing in it is quicker as machine code")

    def judge(self) -> None:
        """Keep what is quicker."""
        took = min(self.trials)
        if took > SLOWER * self.least:
            times = f"{1e6 * took:.0f} against {1e6 * self.least:.0f} us"
            self.settle(self.first, f"as machine code it took longer: {times}")
        else:
            self.settle(self.tier, "")

    def settle(self, tier: Lowered, reason: str) -> None:
        self.tier, self.reason, self.settled = tier, reason, True

    def compile(self) -> None:
        """Make machine code now, whatever it takes and gains; it may be missing only."""
        with suppress(Unavailable):
            self.prepare()
        self.settle(self.tier, self.reason)

    def forget(self) -> None:
        """Be as if nothing had been ordered: who should have compiled is gone."""
        self.lock, self.ordered, self.spent = threading.Lock(), False, 0.0

    # ---- as an executable --------------------------------------------------------------------

    @property
    def source(self) -> str:
        return self.tier.source

    @property
    def direct(self) -> Callable[..., Any] | None:
        return self.tier.direct if self.settled else None

    @property
    def silent(self) -> bool:
        return self.tier.silent

    def name_line(self, error: Exception) -> None:
        self.tier.name_line(error)

    def explain(self) -> tuple[Part, ...]:
        """Which equations run where, and why; first of all, why not as machine code."""
        told = (Part((), "NumPy tier", self.reason),) if self.reason else ()
        return (*told, *self.tier.explain())

    def native_ir(self) -> str:
        return self.tier.native_ir()


class Workshop:
    """One thread that compiles what is ordered, in order.

    It is a daemon: work that has not begun when the interpreter ends is dropped, and work that has
    is waited for, since LLVM must not be left in the middle.
    """

    def __init__(self) -> None:
        self.open_again()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.after_fork)

    def open_again(self) -> None:
        self.orders: deque[Auto] = deque()
        self.current: Auto | None = None
        self.bell = threading.Condition()
        self.thread: threading.Thread | None = None
        self.closed = False

    def after_fork(self) -> None:
        """A child has no such thread, and locks that nobody will release."""
        orders, current = list(self.orders), self.current
        self.open_again()
        for auto in [*orders, *([current] if current else [])]:
            auto.forget()

    def order(self, auto: Auto) -> None:
        with self.bell:
            if self.closed:
                return
            if self.thread is None:
                thread = threading.Thread(target=self.work, name="vjpkit", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # there are none, or the interpreter is ending
                    auto.settle(auto.first, f"no thread can compile it: {error}")
                    return
                self.thread = thread
            self.orders.append(auto)
            self.bell.notify()

    def work(self) -> None:
        while True:
            with self.bell:
                self.current = None
                while not self.orders:
                    if self.closed or not self.bell.wait(timeout=1.0):
                        self.thread = None
                        return
                auto = self.current = self.orders.popleft()
            with np.errstate(all="ignore"), suppress(Exception):  # `explain` tells
                auto.prepare()
            del auto

    def close(self) -> None:
        """Drop what has not begun, and wait for the rest."""
        with self.bell:
            self.closed = True
            self.orders.clear()
            thread = self.thread
            self.bell.notify()
        if thread is not None:
            thread.join()


WORKSHOP = Workshop()
