"""`scipy.integrate` on traced values: differential equations, integrals, sums of samples.

Derivatives of solutions of differential equations are solutions of others: of the variational
equation in forward mode, of the adjoint one in reverse mode, each to the tolerances of the call,
to any order. Integrals are differentiated under the integral sign and in their ends. What SciPy
computes from samples is differentiated as it stands.

>>> import numpy as np, vjpkit as vk
>>> from vjpkit.scipy import integrate
>>> vk.grad(lambda k: integrate.quad(lambda x: np.exp(-k * x), 0.0, np.inf)[0])(2.0).round(9)
np.float64(-0.25)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.rows import innermost
from vjpkit.ops.indexing import take
from vjpkit.scipy._calls import (
    Call,
    Parameters,
    known_only_in,
    like,
    real_array,
    reported,
    traced_in,
    tuple_of,
    unknowns,
    value_of,
)
from vjpkit.scipy._namespace import passing, scipy_module
from vjpkit.scipy._ode import Pass, Solver, cascade
from vjpkit.scipy._quadrature import Precision, integral
from vjpkit.transforms.staged import ShapeDtypeStruct, eval_shape, is_abstract

__all__ = [
    "cumulative_simpson",
    "cumulative_trapezoid",
    "fixed_quad",
    "odeint",
    "quad",
    "quad_vec",
    "romb",
    "simpson",
    "solve_ivp",
    "trapezoid",
]

# --------------------------------------------------------------------------- differential equations


def _trajectory(
    label: str, p: Parameters, f: Callable[..., Value], y0: Value, t: Any, solver: Solver,
    own: Callable[[Sequence[Value]], Any],
) -> Value:  # fmt: skip
    """States at times ``t(values)``, a row each: of y' = ``f(values, t, y)`` from ``y0``."""
    n = y0.size

    def rhs(values: Sequence[Value], i: int, s: float, y: Value) -> Value:
        times = t(values)
        start = take(times, i, axis=0)
        step = take(times, i + 1, axis=0) - start
        return step * np.reshape(value_of(f(values, start + s * step, y)), n)

    count = t(p.values).shape[0]
    start = np.concatenate([np.reshape(y0, (1, n)), np.zeros((count - 1, n))])
    one = [Pass(1, n, n, rhs)]
    return cascade(label, one, [start], p.values, solver, lambda values: (own(values),))[0]


@like(
    "integrate",
    "col_deriv ml mu tcrit h0 hmax hmin ixpr mxstep mxhnil mxordn mxords printmessg",
)
def odeint(
    call: Call, func: Any, y0: Value, t: Value, args: Any, Dfun: Any, rtol: Any, atol: Any,
    tfirst: Any,
) -> Value:  # fmt: skip
    """States at the times ``t``, a float64 row each: differentiable in all but ``Dfun``.

    In ``y0``, ``t``, ``args`` and what ``func`` closes over; to any order. ``full_output`` is
    refused on traced values. Derivatives are solved for by LSODA to ``rtol`` and the least
    ``atol``. Under `jit` and `vmap` SciPy runs example by example.

    >>> import numpy as np, vjpkit as vk
    >>> decay = lambda y, t, k: -k * y
    >>> end = lambda k: odeint(decay, 1.0, [0.0, 1.0], (k,), rtol=1e-10, atol=1e-10)[1, 0]
    >>> vk.grad(end)(2.0).round(6), round(-np.exp(-2.0), 6)
    (np.float64(-0.135335), np.float64(-0.135335))
    """
    y0, t = np.atleast_1d(unknowns(call.label, y0)) * 1.0, value_of(t) * 1.0
    p = Parameters(call.label, (y0, t, tuple_of(args)))
    n = y0.size
    examples = [0.0, np.zeros(n)] if tfirst else [np.zeros(n), 0.0]
    given = {"func": func, **({"Dfun": Dfun} if callable(Dfun) else {})}
    functions = {k: p.function(g, examples, lambda tree: tree[2]) for k, g in given.items()}

    def f(values: Sequence[Value], t: Value, y: Value) -> Value:
        return functions["func"](values, *((t, y) if tfirst else (y, t)))

    def own(values: Sequence[Value]) -> Any:
        y0, t, _ = p.at(values)
        plain = {name: p.plain(g, values) for name, g in functions.items()}
        return real_array(call.label, call.run(y0=y0, t=t, args=(), **plain))

    default = 1.49012e-8
    solver = Solver("LSODA", *[default if e is None else float(np.min(e)) for e in (rtol, atol)])
    return _trajectory(call.label, p, f, y0, lambda values: p.at(values)[1], solver, own)


@like("integrate", "vectorized")
def solve_ivp(
    call: Call, fun: Any, t_span: Any, y0: Value, method: Any, t_eval: Any, args: Any,
    options: Any,
) -> Any:  # fmt: skip
    """SciPy's result with the states ``y`` (float64, a column each) at the times ``t``.

    Both are differentiable in ``t_span``, ``y0``, ``t_eval``, ``args`` and what ``fun`` closes
    over, to any order; without ``t_eval`` the times that SciPy chooses are constants, and the
    columns the states at these times. Under `jit` and `vmap` ``t_eval`` is needed, and the result
    has ``t`` and ``y`` alone. ``events`` and ``dense_output`` are refused on traced values.
    Derivatives are solved for by the same ``method``, to ``rtol`` and the least ``atol``.

    >>> import numpy as np, vjpkit as vk
    >>> end = lambda k: solve_ivp(lambda t, y: -k * y, (0.0, 1.0), [1.0], rtol=1e-10).y[0, -1]
    >>> vk.grad(end)(2.0).round(6), round(-np.exp(-2.0), 6)
    (np.float64(-0.135335), np.float64(-0.135335))
    """
    y0 = unknowns(call.label, y0) * 1.0
    ends = tuple(t_span)
    p = Parameters(call.label, (y0, ends, t_eval, () if args is None else tuple(args)))
    examples = [0.0, np.zeros(y0.size)]
    given = {"fun": fun, **{name: g for name, g in options.items() if callable(g)}}
    functions = {k: p.function(g, examples, lambda tree: tree[3]) for k, g in given.items()}
    found: list[Any] = []

    def solved(values: Sequence[Value]) -> Any:
        y0, t_span, t_eval, _ = p.at(values)
        plain = {name: p.plain(g, values) for name, g in functions.items()}
        result = call.run(y0=y0, t_span=t_span, t_eval=t_eval, args=None, **plain)
        if not result.success:
            raise RuntimeError(
                f"{call.label}: {result.message}{at(calling_position())}\n"
                "There is no solution to be differentiated."
            )
        found.append(result)
        return result

    if t_eval is None:
        if any(map(is_abstract, p.values)):
            raise UnsupportedError(
                f"{call.label}: while it is staged or mapped, how many times SciPy will choose is "
                f"not known{at(calling_position())}.\nSay in t_eval= at which times the solution "
                "is wanted."
            )
        chosen = solved(list(map(innermost, p.values))).t

    def times(values: Sequence[Value]) -> Value:
        _, (first, last), t_eval, _ = p.at(values)
        if t_eval is None:
            return np.concatenate([value_of([first]), chosen[1:-1], value_of([last])]) * 1.0
        return np.concatenate([value_of([first]), value_of(t_eval)]) * 1.0

    def own(values: Sequence[Value]) -> Any:
        y = real_array(call.label, solved(values).y.T)
        return y if t_eval is None else np.concatenate([np.reshape(p.at(values)[0], (1, -1)), y])

    rtol, atol = options.get("rtol", 1e-3), float(np.min(options.get("atol", 1e-6)))
    solver = Solver(method, rtol, atol)
    y = _trajectory(call.label, p, functions["fun"], y0, times, solver, own)
    t = times(p.values)
    if t_eval is not None:
        y, t = y[1:], t[1:]
    return reported(y, found, t=t, y=y.T)


# ---------------------------------------------------------------------------------------- integrals


@like("integrate", "limit maxp1 limlst")
def quad(
    call: Call, func: Any, a: Value, b: Value, args: Any, epsabs: Any, epsrel: Any, points: Any
) -> tuple[Value, Value]:
    """The integral of ``func`` from ``a`` to ``b``, and SciPy's estimate of its error: float64.

    d = f(b) db - f(a) da + integral of df, where SciPy's vector rule integrates the gradient of f,
    to ``epsabs`` and ``epsrel``. Infinite ends are constants. ``weight``, ``full_output`` and
    ``complex_func`` are refused on traced values.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda b: quad(np.cos, 0.0, b)[0])(0.5).round(9), np.cos(0.5).round(9)
    (np.float64(0.877582562), np.float64(0.877582562))
    """
    p = Parameters(call.label, (tuple_of(args), points))
    g = p.function(func, [0.0], lambda tree: tree[0])
    _require_plain(call.label, "points", points)

    def own(a: Any, b: Any, *values: Any) -> tuple[Any, Any]:
        value, error = call.run(func=p.plain(g, values), a=a, b=b, args=())
        return real_array(call.label, value), np.float64(error)

    def f(values: Sequence[Value], x: float) -> Value:
        return np.reshape(value_of(g(values, x)), ())

    inner = Precision(epsabs, epsrel, points)
    return integral(call.label, f, (a, b), p.values, inner, (), own)


@like("integrate", "norm cache_size limit workers quadrature")
def quad_vec(
    call: Call, f: Any, a: Value, b: Value, epsabs: Any, epsrel: Any, points: Any, args: Any = ()
) -> tuple[Value, Value]:
    """The integral of an array from ``a`` to ``b``, and SciPy's estimate of its error: float64.

    As `quad`. ``full_output`` is refused on traced values.

    >>> import numpy as np, vjpkit as vk
    >>> powers = lambda b: quad_vec(lambda x: x ** np.arange(3), 0.0, b)[0]
    >>> vk.jacobian(powers)(2.0).round(9)
    array([1., 2., 4.])
    """
    p = Parameters(call.label, tuple_of(args))
    g = p.function(f, [0.0], lambda tree: tree)
    _require_plain(call.label, "points", points)

    def own(a: Any, b: Any, *values: Any) -> tuple[Any, Any]:
        more = {"args": ()} if "args" in call.bound.arguments else {}
        value, error = call.run(f=p.plain(g, values), a=a, b=b, **more)
        return real_array(call.label, value), np.float64(error)

    def integrand(values: Sequence[Value], x: float) -> Value:
        return value_of(g(values, x))

    shape = None
    if any(map(is_abstract, (a, b, *p.values))):
        number = ShapeDtypeStruct((), float)
        shape = eval_shape(lambda x: integrand(p.values, x), number).shape
    inner = Precision(epsabs, epsrel, points)
    return integral(call.label, integrand, (a, b), p.values, inner, shape, own)


def _require_plain(label: str, name: str, x: Any) -> None:
    if traced_in(x):
        raise UnsupportedError(
            f"{label}: {name}= is traced{at(calling_position())}.\nThe integral does not depend on "
            f"it: pass vk.lax.stop_gradient of it."
        )


@like("integrate")
def fixed_quad(call: Call, func: Any, a: Value, b: Value, args: Any, n: Any) -> tuple[Value, None]:
    """The integral by Gauss's and Legendre's rule of order ``n``, and None: as it stands.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda b: fixed_quad(lambda x: x**2, 0.0, b)[0])(3.0).round(9)
    np.float64(9.0)
    """
    if any(not is_abstract(end) and np.isinf(end) for end in (a, b)):
        raise ValueError("Gaussian quadrature is only available for finite limits.")
    nodes, weights = scipy_module("special").roots_legendre(n)
    x = (b - a) * (nodes + 1) / 2.0 + a
    y = value_of(func(x, *tuple_of(args)))
    return (b - a) / 2.0 * np.sum(weights * y, axis=-1), None


# ------------------------------------------------------------------------------------------ samples


def _parts(y: Value, axis: int, *slices: slice) -> list[Value]:
    """Parts of an array along an axis."""
    lead = (slice(None),) * (axis % y.ndim)
    return [y[(*lead, part)] for part in slices]


_NOT_FIRST, _NOT_LAST = slice(1, None), slice(None, -1)


def _steps(x: Value, y: Value, axis: int) -> Value:
    """Distances of samples, to be multiplied with what lies along ``axis`` of ``y``."""
    if x.ndim == 1:
        shape = [1] * y.ndim
        shape[axis] = -1
        return np.reshape(np.diff(x), shape)
    return np.diff(x, axis=axis)


@like("integrate")
def trapezoid(call: Call, y: Value, x: Any, dx: Value, axis: int) -> Value:
    """The integral of samples by the trapezoidal rule, as `numpy.trapezoid`.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(trapezoid)(np.ones(3))
    array([0.5, 1. , 0.5])
    """
    y, x = value_of(y), None if x is None else value_of(x)
    return np.trapezoid(y, x, dx, axis)


@like("integrate")
def cumulative_trapezoid(call: Call, y: Value, x: Any, dx: Value, axis: int, initial: Any) -> Value:
    """Running integrals of samples by the trapezoidal rule.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(cumulative_trapezoid)(np.ones(3))
    array([[0.5, 0.5, 0. ],
           [0.5, 1. , 0.5]])
    """
    y = value_of(y)
    steps = dx
    if x is not None:
        x = value_of(x)
        steps = _steps(x, y, axis)
        if steps.shape[axis] != y.shape[axis] - 1:
            raise ValueError("If given, length of x along axis must be the same as y.")
    later, earlier = _parts(y, axis, _NOT_FIRST, _NOT_LAST)
    out = np.cumsum(steps * (later + earlier) / 2.0, axis=axis)
    if initial is None:
        return out
    if initial != 0:
        raise ValueError("`initial` must be `None` or `0`.")
    first = np.zeros_like(_parts(out, axis, slice(0, 1))[0])
    return np.concatenate([first, out], axis=axis)


def _ratio(a: Value, b: Value) -> Value:
    """a / b, and zero where b is zero, as SciPy has it for samples in the same place."""
    apart = b != 0
    return np.where(apart, a / np.where(apart, b, 1.0), 0.0)


def _along_last(y: Value, x: Any, axis: int) -> tuple[Value, Any]:
    """Samples along the last axis, and where they were taken."""
    if x is None:
        return np.moveaxis(y, axis, -1), None
    if x.ndim != 1 and x.ndim != y.ndim:
        raise ValueError("If given, shape of x must be 1-D or the same as y.")
    if x.shape[0 if x.ndim == 1 else axis] != y.shape[axis]:
        raise ValueError("If given, length of x along axis must be the same as y.")
    return np.moveaxis(y, axis, -1), x if x.ndim == 1 else np.moveaxis(x, axis, -1)


@like("integrate")
def simpson(call: Call, y: Value, x: Any, dx: Value, axis: int) -> Value:
    """The integral of samples by Simpson's rule; of an even number by Cartwright's correction.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(simpson)(np.ones(3)) * 3
    array([1., 4., 1.])
    """
    y, x = _along_last(value_of(y), None if x is None else value_of(x), axis)
    count = y.shape[-1]
    steps = dx * np.ones(count - 1) if x is None else np.diff(x, axis=-1)
    if count == 2:
        return 0.5 * steps[..., -1] * (y[..., -1] + y[..., -2])
    odd = count - 1 + count % 2
    y0, y1, y2 = (y[..., i : odd - 2 + i : 2] for i in range(3))
    h0, h1 = steps[..., 0 : odd - 2 : 2], steps[..., 1 : odd - 1 : 2]
    both, quotient = h0 + h1, _ratio(h0, h1)
    middle = both * _ratio(both, h0 * h1)
    parts = y0 * (2.0 - _ratio(np.ones_like(quotient), quotient)) + y1 * middle
    out = np.sum(both / 6.0 * (parts + y2 * (2.0 - quotient)), axis=-1)
    if count % 2:
        return out
    h0, h1 = steps[..., -2], steps[..., -1]
    alpha = _ratio(2 * h1**2 + 3 * h0 * h1, 6 * (h1 + h0))
    beta = _ratio(h1**2 + 3 * h0 * h1, 6 * h0)
    eta = _ratio(h1**3, 6 * h0 * (h0 + h1))
    return out + (alpha * y[..., -1] + beta * y[..., -2] - eta * y[..., -3])


@like("integrate")
def romb(call: Call, y: Value, dx: Value, axis: int) -> Value:
    """The integral of 2**k + 1 samples by Romberg's rule; ``show`` is refused on traced values.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(romb)(np.ones(3)) * 3
    array([1., 4., 1.])
    """
    y = np.moveaxis(value_of(y), axis, -1)
    intervals = y.shape[-1] - 1
    if intervals < 1 or intervals & (intervals - 1):
        raise ValueError("Number of samples must be one plus a non-negative power of 2.")
    h, step = intervals * dx, intervals
    row = [(y[..., 0] + y[..., -1]) / 2.0 * h]
    while step > 1:
        between = np.sum(y[..., step // 2 :: step], axis=-1)
        new = [0.5 * (row[0] + h * between)]
        for j, before in enumerate(row):
            new.append(new[j] + (new[j] - before) / (4 ** (j + 1) - 1))
        h, step, row = h / 2.0, step // 2, new
    return row[-1]


def _first_halves(y: Value, steps: Value) -> Value:
    """The integral over the first of every two intervals, of the parabola through three samples."""
    f1, f2, f3 = y[..., :-2], y[..., 1:-1], y[..., 2:]
    x21, x32 = steps[..., :-1], steps[..., 1:]
    x21_x31, x21_x32 = x21 / (x21 + x32), x21 / x32
    both = x21_x31 * x21_x32
    return x21 / 6 * ((3 - x21_x31) * f1 + (3 + both + x21_x31) * f2 - both * f3)


@like("integrate")
def cumulative_simpson(call: Call, y: Value, x: Any, dx: Value, axis: int, initial: Any) -> Value:
    """Running integrals of samples, by the parabolas through three of them.

    ``x`` is not asked whether it increases where its values are not known.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(cumulative_simpson)(np.ones(3))[-1] * 3
    array([1., 4., 1.])
    """
    y = value_of(y) * 1.0
    if y.shape[axis] < 3:
        out = np.moveaxis(cumulative_trapezoid(y, x, dx, axis), axis, -1)
    else:
        whole, x = _along_last(y, None if x is None else value_of(x) * 1.0, axis)
        if x is None:
            dx = value_of(dx)
            steps = np.moveaxis(dx, axis, -1) if dx.ndim else dx
            steps = np.broadcast_to(steps, (*whole.shape[:-1], whole.shape[-1] - 1))
        else:
            steps = np.broadcast_to(np.diff(x, axis=-1), (*whole.shape[:-1], whole.shape[-1] - 1))
            if not is_abstract(x) and np.any(steps <= 0):
                raise ValueError("Input x must be strictly increasing.")
        first = _first_halves(whole, steps)
        second = _first_halves(whole[..., ::-1], steps[..., ::-1])[..., ::-1]
        count = whole.shape[-1] - 1
        place = np.arange(count)
        ahead = first[..., np.minimum(place, count - 2)]
        behind = second[..., np.maximum(place - 1, 0)]
        out = np.cumsum(np.where((place % 2 == 0) & (place < count - 1), ahead, behind), axis=-1)
    if initial is not None:
        initial = value_of(initial) * 1.0
        start = np.moveaxis(initial, axis, -1) if initial.ndim else initial
        start = np.broadcast_to(start, (*out.shape[:-1], 1))
        out = np.concatenate([start, out + start], axis=-1)
    return np.moveaxis(out, -1, axis)


_SAMPLES = "Give it vk.lax.stop_gradient of what is traced."
_INSTEAD = {
    "complex_ode": "Use solve_ivp, whose solution is differentiable.",
    "cubature": "Use quad_vec, whose value is differentiable.",
    "dblquad": "Use quad_vec, whose value is differentiable, one variable inside the other.",
    "tplquad": "Use quad_vec, whose value is differentiable, one variable inside the other.",
    "nquad": "Use quad_vec, whose value is differentiable, one variable inside the other.",
    "lebedev_rule": _SAMPLES,
    "newton_cotes": _SAMPLES,
    "nsum": _SAMPLES,
    "ode": "Use solve_ivp, whose solution is differentiable.",
    "qmc_quad": _SAMPLES,
    "solve_bvp": "Use optimize.root on the discretized equation.",
    "tanhsinh": "Use quad, whose value is differentiable.",
}
"""What refuses traced values, and what to use there."""

_get, __dir__ = passing("integrate", __all__)
__getattr__ = known_only_in("integrate", _INSTEAD, _get)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
