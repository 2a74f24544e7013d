"""Printing values when a program runs."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import PiecewiseConstant
from vjpkit.ops.structural import all_along_front

__all__ = ["print_"]


class Print(PiecewiseConstant):
    """Prints its operands in a format, those with ``names`` by name; its result means nothing.

    Of a batch it prints one line per example, so it runs where its operands are known.
    """

    effect = True

    @staticmethod
    def impl(*xs: Value, text: str, names: tuple[str, ...], depth: int = 0) -> Value:
        if depth:
            for row in zip(*xs, strict=True):
                Print.impl(*row, text=text, names=names, depth=depth - 1)
        else:
            values = [x[()] if isinstance(x, np.ndarray) and not x.ndim else x for x in xs]
            count = len(values) - len(names)
            by_name = dict(zip(names, values[count:], strict=True))
            builtins.print(text.format(*values[:count], **by_name))
        return np.True_

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval((), bool)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        depth = params.get("depth", 0)
        self(*all_along_front(values, batched, n), **{**params, "depth": depth + 1})
        return np.ones(n, bool)

    def samples(self) -> Iterable[Sample]:
        yield Sample(
            np.array([0.3, -1.2]), np.float64(2.0), wrt=(), text="{} {y:.2f}", names=("y",)
        )


print_ = primitive(Print)
