"""`check_grads`: do a function's derivatives agree with differences?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of, is_inexact
from vjpkit.pytree import PyTree, flatten_with_path, keystr
from vjpkit.testing.compare import magnitude, pairing, random_like, size_of
from vjpkit.testing.numeric import FINE, STEPS, Estimate, central, one_sided
from vjpkit.transforms.arguments import float_leaf, require_arrays, require_function
from vjpkit.transforms.derivatives import jvp, vjp

__all__ = ["check_grads"]

Function = Callable[..., tuple[Value, ...]]
Line = Callable[[float], tuple[Value, ...]]

_TOLERANCE = {np.dtype(np.float16): 5e-2, np.dtype(np.float32): 5e-3, np.dtype(np.float64): 1e-6}
_ELEMENTS = 200
"""How many elements of an argument are looked at one by one, to name the worst."""
_SEED = 20240229


def check_grads(
    f: Callable[..., PyTree],
    args: Sequence[PyTree],
    order: int,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Check the derivatives of ``f`` at ``args`` against finite differences, up to ``order``.

    `jvp` along a random tangent, and `vjp` of a random cotangent paired with that tangent, must be
    what central differences give; for higher orders these two functions are checked in turn, in
    every mixture of ``modes``. ``args`` and the output are trees; integers in them are left alone,
    complex numbers are moved in both directions.

    Differences are taken at several steps, relative to the size of each leaf, and extrapolated,
    with an estimate of their error; finer steps follow where these disagree with the transform or
    among each other, as near a kink. ``eps`` asks for that one step instead. ``atol`` and ``rtol``
    default to what the coarsest dtype allows. Raises an `AssertionError` that names mode, order,
    argument, path and worst element, and says so where the function has a kink at ``args``.

    >>> import numpy as np
    >>> check_grads(lambda p: np.sum(np.sin(p["x"]) * p["y"]), ({"x": np.ones(3), "y": 2.0},), 2)
    >>> check_grads(abs, (0.0,), order=1, modes=["fwd"])
    """
    require_function("check_grads", f)
    if not isinstance(args, tuple | list):
        raise TypeError(f"check_grads: args is the tuple of arguments, got {type(args).__name__}")
    wanted = (modes,) if isinstance(modes, str) else tuple(modes)
    if not wanted or not set(wanted) <= {"fwd", "rev"}:
        raise ValueError(f"check_grads: modes are 'fwd' and 'rev', got {modes!r}")
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"check_grads: order counts from 1, got {order!r}")
    flat, xs = _flattened(f, tuple(args))
    if not xs:
        raise TypeError("check_grads: args hold no floating-point numbers, so nothing is checked")
    outs = flat.f(*xs)
    step = _Settings.of([*xs, *outs], atol, rtol, eps)
    rng = np.random.default_rng(_SEED)
    for history, each in _derivatives(flat, xs, order, wanted, rng):
        for mode in wanted:
            check = _Check(each, xs, mode, " of ".join([mode, *history]), step, rng)
            check.forward() if mode == "fwd" else check.reverse()


# -------------------------------------------------------------------- functions of lists of leaves


@dataclass(frozen=True)
class _Flat:
    """A function of the floating leaves of its arguments; names of these and of its outputs."""

    f: Function
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _flattened(f: Callable[..., PyTree], args: tuple[PyTree, ...]) -> tuple[_Flat, list[Value]]:
    """``f`` as a function of its floating leaves, and these leaves."""
    pairs, tree = flatten_with_path(args)
    leaves = [
        leaf
        if isinstance(leaf, bool | np.bool_)
        else float_leaf("check_grads", f"args{keystr(path)}", leaf, allow_int=True)
        for path, leaf in pairs
    ]
    live = [i for i, leaf in enumerate(leaves) if is_inexact(leaf)]

    def flat(*xs: Value) -> tuple[Value, ...]:
        full = list(leaves)
        for i, x in zip(live, xs, strict=True):
            full[i] = x
        outs = flatten_with_path(f(*tree.unflatten(full)))[0]
        return tuple(y for _, y in outs if is_inexact(y))

    y = f(*args)
    outs = flatten_with_path(y)[0]
    require_arrays("check_grads", y, [leaf for _, leaf in outs])
    names = tuple(f"output{keystr(path)}" for path, y in outs if is_inexact(y))
    return _Flat(flat, tuple(f"args{keystr(pairs[i][0])}" for i in live), names), [
        leaves[i] for i in live
    ]


def _derivatives(
    flat: _Flat,
    xs: Sequence[Value],
    order: int,
    modes: Sequence[str],
    rng: np.random.Generator,
    history: tuple[str, ...] = (),
) -> Iterator[tuple[tuple[str, ...], _Flat]]:
    """The function and its derivatives below ``order``, in every mixture of modes."""
    yield history, flat
    if order == 1:
        return
    ts = [random_like(x, rng) for x in xs]
    cts = [random_like(y, rng) for y in flat.f(*xs)]

    def push(*ys: Value) -> tuple[Value, ...]:
        return tuple(jvp(flat.f, ys, tuple(ts))[1])

    def pull(*ys: Value) -> tuple[Value, ...]:
        return tuple(vjp(flat.f, *ys)[1](tuple(cts)))

    for mode in modes:
        if mode == "fwd":
            after = _Flat(push, flat.inputs, tuple(f"jvp of {name}" for name in flat.outputs))
        else:
            after = _Flat(pull, flat.inputs, tuple(f"vjp to {name}" for name in flat.inputs))
        yield from _derivatives(after, xs, order - 1, modes, rng, (mode, *history))


# ---------------------------------------------------------------------------------------- the check


@dataclass(frozen=True)
class _Settings:
    """Tolerances and steps."""

    atol: float
    rtol: float
    series: tuple[tuple[float, ...], ...]
    """Steps, and those to be tried after them."""
    relative: bool
    """Whether a step is relative to the size of the leaf."""

    @classmethod
    def of(
        cls, values: Sequence[Value], atol: float | None, rtol: float | None, eps: float | None
    ) -> _Settings:
        kinds = [np.empty(0, aval_of(x).dtype).real.dtype for x in values]
        default = max((_TOLERANCE.get(kind, 1e-6) for kind in kinds), default=1e-6)
        atol, rtol = [default if given is None else given for given in (atol, rtol)]
        return cls(atol, rtol, (STEPS, FINE) if eps is None else ((eps,),), eps is None)


@dataclass(frozen=True)
class _Check:
    """One function, one mode: numbers from the transform against numbers from differences."""

    flat: _Flat
    xs: Sequence[Value]
    mode: str
    name: str
    settings: _Settings
    rng: np.random.Generator

    def forward(self) -> None:
        """The tangent of every output."""
        ts = self.tangents()
        _, pushed = jvp(self.flat.f, tuple(self.xs), tuple(ts))
        estimates = self.differences(self.line(ts, self.flat.f), pushed)
        for name, got, want in zip(self.flat.outputs, pushed, estimates, strict=True):
            if (wrong := self.wrong(got, want)) is not None:
                along = ", ".join(self.guilty_inputs(ts)) or "no single argument"
                raise AssertionError(
                    f"{self.heading}: the tangent of {name} is wrong{wrong}; it is wrong along "
                    f"{along}{self.kink(self.line(ts, self.flat.f))}"
                )

    def reverse(self) -> None:
        """The pairing of the pulled back cotangents with a tangent."""
        ts = self.tangents()
        outs, pullback = vjp(self.flat.f, *self.xs)
        cts = tuple(random_like(y, self.rng) for y in outs)
        pulled = pullback(cts)
        self.check_avals(pulled)
        paired = self.paired(cts)
        got = sum(pairing(c, t) for c, t in zip(pulled, ts, strict=True))
        size = sum(magnitude(c, t) for c, t in zip(pulled, ts, strict=True))
        (estimate,) = self.differences(self.line(ts, paired), [np.float64(got)], size)
        if self.wrong(np.float64(got), estimate, size) is not None:
            self.report_gradient(pulled, paired)
            raise AssertionError(
                f"{self.heading}: the pullback is wrong: paired with a random tangent it gives "
                f"{got:.8g}, differences give {estimate.value:.8g}"
                f"{self.kink(self.line(ts, paired))}"
            )

    @property
    def heading(self) -> str:
        return f"check_grads ({self.name})"

    def tangents(self) -> list[Any]:
        """A random direction, in each leaf of the leaf's own size."""
        ts = [random_like(x, self.rng) for x in self.xs]
        return [t * self.size(x) for t, x in zip(ts, self.xs, strict=True)]

    def size(self, x: Value) -> Any:
        """The size of a leaf, by which its steps are scaled; of its real dtype."""
        return size_of(x) if self.settings.relative else size_of(np.zeros((), aval_of(x).dtype))

    def line(self, ts: Sequence[Value | None], f: Function) -> Line:
        """``f`` along a direction; None stands for a leaf that stays."""

        def line(h: float) -> tuple[Value, ...]:
            pairs = zip(self.xs, ts, strict=True)
            return f(*[x if t is None else (x + h * t).astype(t.dtype) for x, t in pairs])

        return line

    def differences(
        self, line: Line, got: Sequence[Value], size: float = 0.0
    ) -> tuple[Estimate, ...]:
        """The derivatives along a line, or an error that says why there are none.

        Finer steps are tried where the coarse ones do not settle or do not say what ``got`` says;
        where those had settled, what is said against them has to be sure.
        """
        found: tuple[Estimate, ...] | None = None
        reason = ""
        for steps in self.settings.series:
            try:
                estimates = central(line, steps)
            except ArithmeticError as error:
                reason = reason or f"no differences at this point: {error}"
                continue
            slack = 100 if found is None else 1
            if any((e.error > slack * self.allowed(e)).any() for e in estimates):
                reason = "differences at shrinking steps do not settle; the function is not "
                reason += "smooth here, or noisy"
                continue
            found = estimates
            pairs = zip(got, estimates, strict=True)
            if all(self.wrong(a, b, size) is None for a, b in pairs):
                break
        if found is None:
            raise AssertionError(f"{self.heading}: {reason}{self.kink(line)}")
        return found

    def kink(self, line: Line) -> str:
        """A remark, where the slopes from the two sides of the point disagree."""
        try:
            left, right = [one_sided(line, side, FINE) for side in (-1, 1)]
        except ArithmeticError:
            return ""
        for a, b in zip(left, right, strict=True):
            gap = abs(a.value - b.value)
            if (gap > 10 * (a.error + b.error + self.allowed(a))).any():
                i = np.unravel_index(np.argmax(gap), gap.shape)
                return (
                    ".\nThe function has a kink at this point: along a random direction its slope "
                    f"is {a.value[i]:.6g} from the left and {b.value[i]:.6g} from the right"
                )
        return ""

    def allowed(self, want: Estimate, size: float = 0.0) -> Any:
        size = max(size, float(np.max(abs(want.value), initial=0.0)))
        return self.settings.atol + self.settings.rtol * size

    def wrong(self, got: Value, want: Estimate, size: float = 0.0) -> str | None:
        """What is wrong with ``got``, at its worst element; None where nothing is."""
        if np.shape(got) != want.value.shape:
            return f": its shape is {np.shape(got)}, not {want.value.shape}"
        if not want.value.size:
            return None
        off = abs(np.asarray(got) - want.value) - 10 * want.error
        off = np.where(np.isnan(off), np.inf, off)
        if (off <= self.allowed(want, size)).all():
            return None
        i = np.unravel_index(np.argmax(off), off.shape)
        place = f" at {[int(n) for n in i]}" if i else ""
        count = int((off > self.allowed(want, size)).sum())
        return (
            f"{place}: {'jvp' if self.mode == 'fwd' else 'vjp'} gives {np.asarray(got)[i]:.8g}, "
            f"differences give {want.value[i]:.8g} ± {want.error[i]:.1g}"
            + (f" ({count} of {off.size} elements are wrong)" if off.size > 1 else "")
        )

    def guilty_inputs(self, ts: Sequence[Value]) -> Iterator[str]:
        """The inputs along which alone the tangent is wrong."""
        for i, name in enumerate(self.flat.inputs):
            alone = [t if i == j else t * 0 for j, t in enumerate(ts)]
            _, pushed = jvp(self.flat.f, tuple(self.xs), tuple(alone))
            estimates = self.differences(self.line(alone, self.flat.f), pushed)
            if any(self.wrong(a, b) is not None for a, b in zip(pushed, estimates, strict=True)):
                yield name

    def check_avals(self, pulled: Sequence[Value]) -> None:
        for name, x, ct in zip(self.flat.inputs, self.xs, pulled, strict=True):
            got, want = aval_of(ct).strong(), aval_of(x).strong()
            if got != want:
                raise AssertionError(
                    f"{self.heading}: the cotangent of {name} is {got}, not {want}"
                )

    def paired(self, cts: Sequence[Value]) -> Function:
        """``<cts, f>`` as a function of the leaves."""

        def paired(*xs: Value) -> tuple[Value, ...]:
            pairs = zip(cts, self.flat.f(*xs), strict=True)
            return (np.float64(sum(pairing(c, y) for c, y in pairs)),)

        return paired

    def report_gradient(self, pulled: Sequence[Value], paired: Function) -> None:
        """Raise for the first input whose gradient differs in some element."""
        for i, (name, x, ct) in enumerate(zip(self.flat.inputs, self.xs, pulled, strict=True)):
            places = self.places(x)
            got = np.array([np.asarray(ct)[place] for place in places])
            want = self.gradient(i, x, dict(zip(places, got, strict=True)), paired)
            if self.wrong(got, want) is None:
                continue
            worst = int(np.argmax(abs(got - want.value)))
            place = f" at {list(places[worst])}" if places[worst] else ""
            count = int((abs(got - want.value) > self.allowed(want)).sum())
            raise AssertionError(
                f"{self.heading}: the cotangent of {name} is wrong{place}: vjp gives "
                f"{got[worst]:.8g}, differences give {want.value[worst]:.8g} ± "
                f"{want.error[worst]:.1g} ({count} of {len(places)} elements are wrong)"
                f"{self.kink(self.along(i, x, places[worst], paired))}"
            )

    def along(
        self,
        i: int,
        x: Value,
        place: tuple[int, ...],
        f: Function,
        unit: complex = 1,
    ) -> Line:
        """``f`` along one element of input ``i``."""
        t = np.zeros(np.shape(x), aval_of(x).dtype)
        t[place] = unit * self.size(x)
        return self.line([t[()] if i == j else None for j in range(len(self.xs))], f)

    def places(self, x: Value) -> list[tuple[int, ...]]:
        """Indices of all elements of ``x``, or of as many as one can look at."""
        shape = np.shape(x)
        size = int(np.prod(shape))
        numbers = np.arange(size)
        if size > _ELEMENTS:
            numbers = np.sort(self.rng.choice(size, _ELEMENTS, replace=False))
        return [tuple(int(n) for n in np.unravel_index(k, shape)) for k in numbers]

    def gradient(
        self,
        i: int,
        x: Value,
        got: dict[tuple[int, ...], Any],
        paired: Function,
    ) -> Estimate:
        """Differences of ``paired`` with respect to those elements of input ``i`` that ``got``
        has."""
        values, errors = [], []
        size = self.size(x)
        for place, ct in got.items():
            value: complex = 0.0
            error = 0.0
            for unit in (1, 1j) if aval_of(x).dtype.kind == "c" else (1,):
                slope = np.real(ct * unit) * size
                (estimate,) = self.differences(self.along(i, x, place, paired, unit), [slope])
                value += estimate.value / size * (1 if unit == 1 else -1j)
                error += float(estimate.error / size)
            values.append(value)
            errors.append(error)
        return Estimate(np.array(values), np.array(errors))
