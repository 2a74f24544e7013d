"""`scipy.optimize` on traced values: solutions, differentiated by what they solve.

SciPy finds the solution, with its own results, options and errors. Where something is traced (the
extra arguments, or what a function closes over), the solution is differentiated by its equations:
the function is zero, or its gradient is. First guesses have derivative zero. The equations are
solved densely, in n² numbers for n unknowns; derivatives are right where these are regular, and
as exact as the solution is. Under `jit` and `vmap` SciPy runs example by example.

>>> import vjpkit as vk
>>> from vjpkit.scipy import optimize
>>> vk.grad(lambda a: optimize.brentq(lambda x: x**3 + x - a, 0.0, 9.0))(2.0).round(9)
np.float64(0.25)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import Bounds, OptimizeResult

from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.scipy._calls import (
    Call,
    Known,
    Parameters,
    host,
    known_only_in,
    like,
    real_array,
    reported,
    tuple_of,
    unknowns,
    value_of,
)
from vjpkit.scipy._implicit import constant, implicit
from vjpkit.scipy._namespace import passing
from vjpkit.transforms.derivatives import grad
from vjpkit.transforms.jacobians import jacobian

__all__ = [
    "bisect",
    "brenth",
    "brentq",
    "curve_fit",
    "fixed_point",
    "fsolve",
    "least_squares",
    "linear_sum_assignment",
    "lsq_linear",
    "minimize",
    "minimize_scalar",
    "newton",
    "nnls",
    "ridder",
    "root",
    "root_scalar",
    "toms748",
]

_SCALAR = Aval((), np.float64)


def _functions(
    p: Parameters, given: dict[str, Any], examples: Sequence[Value], args: Callable[[Any], Any]
) -> dict[str, Known]:
    """Those of SciPy's arguments that are functions, as functions of the parameters."""
    return {name: p.function(f, examples, args) for name, f in given.items() if callable(f)}


def _plain(p: Parameters, functions: dict[str, Known], values: Sequence[Value]) -> dict[str, Any]:
    """Functions at plain parameters: the extra arguments are in them."""
    return {name: p.plain(f, values) for name, f in functions.items()}


def _first(f: Callable[..., Any], both: Any) -> Callable[..., Any]:
    """A function that returns its derivative too, if ``both``, as one that does not."""
    return (lambda *xs: f(*xs)[0]) if both is True else f


# ------------------------------------------------------------------------------ roots of one number


def _bracketed(call: Call, f: Any, a: Value, b: Value, args: Any) -> Value:
    """A root between two points, by SciPy's function of this name."""
    p = Parameters(call.label, (a, b, tuple_of(args)))
    g = p.function(f, [0.0], lambda tree: tree[2])

    def solve(*values: Value) -> tuple[Any, ...]:
        low, high, _ = p.at(values)
        x = call.run(f=p.plain(g, values), a=low, b=high, args=())
        return (real_array(call.label, x),)

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        return np.reshape(value_of(g(values, x)), ())

    return implicit(call.label, solve, residual, p.values, [_SCALAR])[0]


@like("optimize", "xtol rtol maxiter disp")
def brentq(call: Call, f: Any, a: Value, b: Value, args: Any) -> Value:
    """A root of ``f`` between ``a`` and ``b``, a float64; dx = -f_p dp / f_x.

    ``full_output`` is refused on traced values.

    >>> import vjpkit as vk
    >>> vk.grad(lambda p: brentq(lambda x: x * x - p, 0.0, 9.0))(4.0).round(9)
    np.float64(0.25)
    """
    return _bracketed(call, f, a, b, args)


@like("optimize", "xtol rtol maxiter disp")
def brenth(call: Call, f: Any, a: Value, b: Value, args: Any) -> Value:
    """As `brentq`.

    >>> import vjpkit as vk
    >>> vk.grad(lambda p: brenth(lambda x: x * x - p, 0.0, 9.0))(4.0).round(9)
    np.float64(0.25)
    """
    return _bracketed(call, f, a, b, args)


@like("optimize", "xtol rtol maxiter disp")
def bisect(call: Call, f: Any, a: Value, b: Value, args: Any) -> Value:
    """As `brentq`.

    >>> import vjpkit as vk
    >>> vk.grad(lambda p: bisect(lambda x: x * x - p, 0.0, 9.0))(4.0).round(9)
    np.float64(0.25)
    """
    return _bracketed(call, f, a, b, args)


@like("optimize", "xtol rtol maxiter disp")
def ridder(call: Call, f: Any, a: Value, b: Value, args: Any) -> Value:
    """As `brentq`.

    >>> import vjpkit as vk
    >>> vk.grad(lambda p: ridder(lambda x: x * x - p, 0.0, 9.0))(4.0).round(9)
    np.float64(0.25)
    """
    return _bracketed(call, f, a, b, args)


@like("optimize", "k xtol rtol maxiter disp")
def toms748(call: Call, f: Any, a: Value, b: Value, args: Any) -> Value:
    """As `brentq`.

    >>> import vjpkit as vk
    >>> vk.grad(lambda p: toms748(lambda x: x * x - p, 0.0, 9.0))(4.0).round(9)
    np.float64(0.25)
    """
    return _bracketed(call, f, a, b, args)


@like("optimize", "tol maxiter rtol disp")
def newton(
    call: Call, func: Any, x0: Value, fprime: Any, args: Any, fprime2: Any, x1: Value
) -> Value:
    """A root of ``func`` near ``x0``, a number or an array of them; ``full_output`` is refused.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda p: newton(lambda x, p: x * x - p, 1.0, args=(p,)))(4.0).round(9)
    np.float64(0.25)
    """
    x0 = unknowns(call.label, x0)
    p = Parameters(call.label, (x0, x1, tuple_of(args)))
    given = {"func": func, "fprime": fprime, "fprime2": fprime2}
    functions = _functions(p, given, [np.zeros(x0.shape)[()]], lambda tree: tree[2])

    def solve(*values: Value) -> tuple[Any, ...]:
        start, second, _ = p.at(values)
        x = call.run(x0=start, x1=second, args=(), **_plain(p, functions, values))
        return (real_array(call.label, x),)

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        return np.reshape(value_of(functions["func"](values, x)), x.shape)

    return implicit(call.label, solve, residual, p.values, [Aval(x0.shape, np.float64)])[0]


@like("optimize", "method xtol rtol maxiter options")
def root_scalar(
    call: Call, f: Any, args: Any, bracket: Any, fprime: Any, fprime2: Any, x0: Value, x1: Value
) -> Any:
    """SciPy's result with the root of ``f``, a float64, as ``root``.

    Under `jit` and `vmap` it has ``root`` alone.

    >>> import vjpkit as vk
    >>> vk.grad(lambda p: root_scalar(lambda x: x * x - p, bracket=(0.0, 9.0)).root)(4.0).round(9)
    np.float64(0.25)
    """
    p = Parameters(call.label, (bracket, x0, x1, tuple_of(args)))
    given = {"f": f, "fprime": fprime, "fprime2": fprime2}
    functions = _functions(p, given, [0.0], lambda tree: tree[3])
    zero = _first(functions["f"], bool(fprime) and not callable(fprime))
    found: list[Any] = []

    def solve(*values: Value) -> tuple[Any, ...]:
        bracket, x0, x1, _ = p.at(values)
        plain = _plain(p, functions, values)
        found.append(call.run(bracket=bracket, x0=x0, x1=x1, args=(), **plain))
        return (real_array(call.label, found[-1].root),)

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        return np.reshape(value_of(zero(values, x)), ())

    x = implicit(call.label, solve, residual, p.values, [_SCALAR])[0]
    return reported(x, found, root=x)


# ----------------------------------------------------------------------------- systems of equations


@like("optimize", "col_deriv xtol maxfev band epsfcn factor diag")
def fsolve(call: Call, func: Any, x0: Value, args: Any, fprime: Any) -> Value:
    """A root of ``func``, a float64 vector of as many elements as ``x0``.

    ``full_output`` is refused on traced values.

    >>> import numpy as np, vjpkit as vk
    >>> two = lambda p: fsolve(lambda x: x * x - p, np.ones(2)).sum()
    >>> vk.grad(two)(np.array([1.0, 4.0])).round(6)
    array([0.5 , 0.25])
    """
    return _system(call, "func", func, x0, args, {"fprime": fprime})[0]


@like("optimize", "method tol callback options")
def root(call: Call, fun: Any, x0: Value, args: Any, jac: Any) -> Any:
    """SciPy's result with the root of ``fun`` as ``x`` (float64) and what it is there as ``fun``.

    Under `jit` and `vmap` it has these two alone. As many equations as unknowns are wanted.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(lambda p: root(lambda x: x * x - p, np.ones(1)).x)(np.array([4.0])).round(6)
    array([[0.25]])
    """
    x, fun, found = _system(call, "fun", fun, x0, args, {"jac": jac})
    return reported(x, found, x=x, fun=fun)


def _system(
    call: Call, name: str, fun: Any, x0: Value, args: Any, more: dict[str, Any]
) -> tuple[Value, Value, list[Any]]:
    """A root of several equations, the function there, and what SciPy reported."""
    x0 = unknowns(call.label, x0)
    p = Parameters(call.label, (x0, tuple_of(args)))
    flat = call.bound.arguments.get("method", "hybr") in ("hybr", "lm")
    shape = (x0.size,) if flat else x0.shape
    functions = _functions(p, {name: fun, **more}, [np.zeros(shape)], lambda tree: tree[1])
    zero = _first(functions[name], more.get("jac"))
    found: list[Any] = []

    def solve(*values: Value) -> tuple[Any, ...]:
        found.append(call.run(x0=p.at(values)[0], args=(), **_plain(p, functions, values)))
        result = found[-1]
        x = result.x if isinstance(result, OptimizeResult) else result
        return (real_array(call.label, x),)

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        return value_of(zero(values, x))

    x = implicit(call.label, solve, residual, p.values, [Aval(shape, np.float64)])[0]
    return x, value_of(zero(p.values, x)), found


@like("optimize", "xtol maxiter method")
def fixed_point(call: Call, func: Any, x0: Value, args: Any) -> Value:
    """The x with ``func(x) == x``, float64, of the shape of ``x0``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda p: fixed_point(lambda x: np.sqrt(p * x), 1.0))(4.0).round(6)
    np.float64(1.0)
    """
    x0 = unknowns(call.label, x0)
    p = Parameters(call.label, (x0, tuple_of(args)))
    g = p.function(func, [np.zeros(x0.shape)[()]], lambda tree: tree[1])

    def solve(*values: Value) -> tuple[Any, ...]:
        x = call.run(func=p.plain(g, values), x0=p.at(values)[0], args=())
        return (real_array(call.label, x),)

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        return x - np.reshape(value_of(g(values, x)), x.shape)

    return implicit(call.label, solve, residual, p.values, [Aval(x0.shape, np.float64)])[0]


# ------------------------------------------------------------------------------------------- minima


def _sides(bounds: Any, n: int) -> tuple[Value, Value]:
    """Lower and upper bounds of n unknowns, from a `Bounds` or a sequence of pairs."""
    if isinstance(bounds, Bounds):
        return np.broadcast_to(bounds.lb, n), np.broadcast_to(bounds.ub, n)
    pairs = [tuple(pair) for pair in bounds]
    low = [-np.inf if a is None else a for a, _ in pairs]
    high = [np.inf if b is None else b for _, b in pairs]
    return value_of(low), value_of(high)


def _held(gradient: Value, x: Value, active: Value, sides: tuple[Value, Value]) -> Value:
    """What is zero at a minimum: the gradient, and how far from its bound what is held there is."""
    low, high = (np.where(np.isfinite(side), side, 0.0) for side in sides)
    return np.where(active < 0, x - low, np.where(active > 0, x - high, gradient))


_CLIPPING = (None, "l-bfgs-b", "tnc", "slsqp", "nelder-mead")
"""Methods that end at a bound exactly where it holds the minimum."""


@like("optimize", "method tol callback options")
def minimize(
    call: Call, fun: Any, x0: Value, args: Any, method: Any, jac: Any, hess: Any, hessp: Any,
    bounds: Any, constraints: Any,
) -> Any:  # fmt: skip
    """SciPy's result with the minimum of ``fun`` at ``x``, a float64 vector, and ``fun`` there.

    dx = -H^-1 dg, with the Hessian H and the gradient g of ``fun``; an unknown that a bound holds
    moves with its bound. Under `jit` and `vmap` the result has ``x`` and ``fun`` alone. Traced
    values are refused with ``constraints``, and with ``bounds`` where the method may end beside
    them.

    >>> import numpy as np, vjpkit as vk
    >>> cost = lambda x, p: np.sum((x - p) ** 2)
    >>> vk.grad(lambda p: minimize(cost, np.zeros(2), args=(p,)).x[0])(np.ones(2)).round(6) + 0.0
    array([1., 0.])
    """
    if not (isinstance(constraints, list | tuple) and not constraints):
        raise UnsupportedError(
            f"{call.label}: constraints= are not supported with traced values"
            f"{at(calling_position())}.\nWrite them into the unknowns, or use bounds=."
        )
    named = method.lower() if isinstance(method, str) else method
    if bounds is not None and named not in _CLIPPING:
        raise UnsupportedError(
            f"{call.label}: bounds= with method={method!r} are not supported with traced values"
            f"{at(calling_position())}.\nIt may end beside a bound: use method='L-BFGS-B'."
        )
    start = unknowns(call.label, x0)
    n = start.size
    p = Parameters(call.label, (start, tuple_of(args), bounds))
    given = {"fun": fun, "jac": jac, "hess": hess}
    functions = _functions(p, given, [np.zeros(n)], lambda tree: tree[1])
    more = _functions(p, {"hessp": hessp}, [np.zeros(n), np.zeros(n)], lambda tree: tree[1])
    cost = _first(functions["fun"], jac)
    found: list[Any] = []

    def solve(*values: Value) -> tuple[Any, ...]:
        x0, _, bounds = p.at(values)
        plain = _plain(p, {**functions, **more}, values)
        found.append(call.run(x0=x0, args=(), bounds=bounds, **plain))
        x = real_array(call.label, found[-1].x)
        active = np.zeros(n, int)
        if bounds is not None:
            low, high = _sides(bounds, n)
            active = (x >= high).astype(int) - (x <= low).astype(int)
        return x, active

    def scalar(values: Sequence[Value], x: Value) -> Value:
        return np.reshape(value_of(cost(values, x)), ())

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        gradient = grad(lambda y: scalar(values, y))(x)
        bounds = p.at(values)[2]
        return gradient if bounds is None else _held(gradient, x, aids[0], _sides(bounds, n))

    avals = [Aval((n,), np.float64), Aval((n,), np.int64)]
    x, _ = implicit(call.label, solve, residual, p.values, avals)
    return reported(x, found, x=x, fun=scalar(p.values, x))


@like("optimize", "method tol options")
def minimize_scalar(call: Call, fun: Any, bracket: Any, bounds: Any, args: Any) -> Any:
    """SciPy's result with the minimum of ``fun`` at ``x``, a float64, and ``fun`` there.

    A minimum at the end of ``bounds`` moves with the bound. Under `jit` and `vmap` the result has
    ``x`` and ``fun`` alone.

    >>> import vjpkit as vk
    >>> vk.grad(lambda p: minimize_scalar(lambda x: (x - p * p) ** 2).x)(3.0).round(6)
    np.float64(6.0)
    """
    p = Parameters(call.label, (bracket, bounds, tuple_of(args)))
    g = p.function(fun, [0.0], lambda tree: tree[2])
    found: list[Any] = []

    def scalar(values: Sequence[Value], x: Value) -> Value:
        return np.reshape(value_of(g(values, x)), ())

    def solve(*values: Value) -> tuple[Any, ...]:
        bracket, bounds, _ = p.at(values)
        found.append(call.run(fun=p.plain(g, values), bracket=bracket, bounds=bounds, args=()))
        x = real_array(call.label, found[-1].x)
        return x, np.int64(0 if bounds is None else _end(lambda y: scalar(values, y), x, bounds))

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        gradient = grad(lambda y: scalar(values, y))(x)
        bounds = p.at(values)[1]
        return gradient if bounds is None else _held(gradient, x, aids[0], tuple(bounds))

    x, _ = implicit(call.label, solve, residual, p.values, [_SCALAR, Aval((), np.int64)])
    return reported(x, found, x=x, fun=scalar(p.values, x))


def _end(fun: Callable[[Value], Value], x: Any, bounds: Any) -> int:
    """-1 or 1 where the minimum is that end of an interval, which SciPy only comes close to.

    It is where Newton's step from x leads out of it.
    """
    slope = grad(fun)
    step = slope(x) / abs(grad(slope)(x))
    return int(x - step >= bounds[1]) - int(x - step <= bounds[0])


# ------------------------------------------------------------------------------------ least squares

_LOSSES: dict[str, Callable[[Value], Value]] = {
    "linear": lambda z: z,
    "soft_l1": lambda z: 2 * (np.sqrt(1 + z) - 1),
    "huber": lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1),
    "cauchy": np.log1p,
    "arctan": np.arctan,
}


@like(
    "optimize",
    "method ftol xtol gtol x_scale diff_step tr_solver tr_options jac_sparsity max_nfev verbose "
    "callback workers",
)
def least_squares(
    call: Call, fun: Any, x0: Value, jac: Any, bounds: Any, loss: Any, f_scale: Any, args: Any,
    kwargs: Any,
) -> Any:  # fmt: skip
    """SciPy's result with the least sum of (losses of) squares at ``x``, a float64 vector.

    ``fun`` and ``cost`` there may be traced too; under `jit` and `vmap` there are these alone.
    The derivative is that of the minimum, with the whole Hessian and not Gauss's and Newton's part
    of it; an unknown that a bound holds moves with its bound. A ``loss`` that is a function is
    refused.

    >>> import numpy as np, vjpkit as vk
    >>> t = np.arange(3.0)
    >>> slope = lambda y: least_squares(lambda k: k * t - y, [1.0]).x[0]
    >>> vk.grad(slope)(np.array([0.0, 1.0, 2.0])).round(6)
    array([0. , 0.2, 0.4])
    """
    if callable(loss):
        raise UnsupportedError(
            f"{call.label}: a function as loss= is not supported with traced values"
            f"{at(calling_position())}.\nUse one of {', '.join(map(repr, _LOSSES))}."
        )
    start = np.atleast_1d(unknowns(call.label, x0))
    n = start.size
    p = Parameters(call.label, (start, tuple_of(args), dict(kwargs or {}), bounds, f_scale))
    named = {"fun": _with_keywords(fun), "jac": _with_keywords(jac)}
    functions = _functions(p, named, [np.zeros(n)], lambda tree: (tree[2], *tree[1]))
    found: list[Any] = []

    def errors(values: Sequence[Value], x: Value) -> Value:
        return np.atleast_1d(value_of(functions["fun"](values, x)))

    def cost(values: Sequence[Value], x: Value) -> Value:
        scale = p.at(values)[4]
        losses = _LOSSES[loss]((errors(values, x) / scale) ** 2)
        return 0.5 * scale**2 * np.sum(losses)

    def solve(*values: Value) -> tuple[Any, ...]:
        x0, _, _, bounds, scale = p.at(values)
        plain = _plain(p, functions, values)
        found.append(call.run(x0=x0, bounds=bounds, f_scale=scale, args=(), kwargs={}, **plain))
        return real_array(call.label, found[-1].x), np.asarray(found[-1].active_mask, int)

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        gradient = grad(lambda y: cost(values, y))(x)
        return _held(gradient, x, aids[0], _two_sides(p.at(values)[3], n))

    avals = [Aval((n,), np.float64), Aval((n,), np.int64)]
    x, _ = implicit(call.label, solve, residual, p.values, avals)
    return reported(x, found, x=x, fun=errors(p.values, x), cost=cost(p.values, x))


def _two_sides(bounds: Any, n: int) -> tuple[Value, Value]:
    """Lower and upper bounds of n unknowns, from a `Bounds` or a pair."""
    if isinstance(bounds, Bounds):
        return _sides(bounds, n)
    low, high = (np.broadcast_to(value_of(side), (n,)) for side in bounds)
    return low, high


def _with_keywords(fun: Any) -> Any:
    """A function whose second argument is a dictionary of keywords; what is none stays as it is."""
    if not callable(fun):
        return fun
    return lambda x, keywords, *args: fun(x, *args, **keywords)


@like("optimize", "check_finite method jac kwargs")
def curve_fit(
    call: Call, f: Any, xdata: Value, ydata: Value, p0: Any, sigma: Any, absolute_sigma: Any
) -> tuple[Value, Value]:
    """Parameters of ``f`` that fit the data best, and their covariance: float64 arrays.

    Both are differentiable in ``xdata``, ``ydata``, ``sigma`` and what ``f`` closes over. The
    covariance is that of exact derivatives of ``f``, where SciPy takes differences.

    >>> import numpy as np, vjpkit as vk
    >>> line = lambda x, k: k * x
    >>> vk.grad(lambda y: curve_fit(line, np.arange(3.0), y)[0][0])(np.arange(3.0)).round(6)
    array([0. , 0.2, 0.4])
    """
    xdata = value_of(xdata) if isinstance(xdata, list | tuple) else xdata
    n = len(inspect.signature(f).parameters) - 1 if p0 is None else np.size(p0)
    start = np.ones(n) if p0 is None else np.reshape(value_of(p0), n)
    ydata, sigma = value_of(ydata), None if sigma is None else value_of(sigma)
    p = Parameters(call.label, (start, xdata, ydata, sigma))
    g = p.function(_of_vector(f), [np.zeros(n)], lambda tree: (tree[1],))

    def solve(*values: Value) -> tuple[Any, ...]:
        p0, xdata, ydata, sigma = p.at(values)
        model = p.plain(g, values)
        popt, _ = call.run(
            f=lambda _, *x: model(np.asarray(x)), xdata=xdata, ydata=ydata, p0=p0, sigma=sigma
        )
        return (popt,)

    def errors(x: Value, values: Sequence[Value]) -> Value:
        _, _, ydata, sigma = p.at(values)
        e = value_of(g(values, x)) - ydata
        if sigma is None:
            return e
        return np.linalg.solve(np.linalg.cholesky(sigma), e) if sigma.ndim == 2 else e / sigma

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        return grad(lambda y: 0.5 * np.sum(errors(y, values) ** 2))(x)

    popt = implicit(call.label, solve, residual, p.values, [Aval((n,), np.float64)])[0]
    slope = jacobian(lambda x: errors(x, p.values))(popt)
    pcov = np.linalg.inv(slope.T @ slope)
    if absolute_sigma:
        return popt, pcov
    if ydata.size <= n:
        return popt, np.full((n, n), np.inf)
    return popt, pcov * np.sum(errors(popt, p.values) ** 2) / (ydata.size - n)


def _of_vector(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of data and parameters as one of a vector of parameters and data."""
    return lambda x, data: f(data, *x)


@like("optimize", "maxiter atol")
def nnls(call: Call, A: Value, b: Value) -> tuple[Value, Value]:
    """The x >= 0 with the least ``norm(A @ x - b)``, and that norm.

    What is zero stays zero: derivatives are those of the unknowns that are not.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda b: nnls(np.eye(2), b)[0].sum())(np.array([2.0, -1.0])) + 0.0
    array([1., 0.])
    """
    p = Parameters(call.label, (value_of(A), value_of(b)))
    n = p.args[0].shape[1]

    def solve(*values: Value) -> tuple[Any, ...]:
        A, b = p.at(values)
        return (call.run(A=A, b=b)[0],)

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        A, b = p.at(values)
        return np.where(x > 0, A.T @ (A @ x - b), x)

    x = implicit(call.label, solve, residual, p.values, [Aval((n,), np.float64)])[0]
    A, b = p.args
    return x, np.linalg.norm(A @ x - b)


@like("optimize", "method tol lsq_solver lsmr_tol max_iter verbose lsmr_maxiter")
def lsq_linear(call: Call, A: Value, b: Value, bounds: Any) -> Any:
    """SciPy's result with the x between ``bounds`` that minimizes ``norm(A @ x - b)``.

    ``x``, ``fun`` (A x - b) and ``cost`` may be traced; under `jit` and `vmap` there are these
    alone. What a bound holds moves with it. ``A`` is a dense matrix.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda b: lsq_linear(2 * np.eye(2), b).x.sum())(np.ones(2))
    array([0.5, 0.5])
    """
    p = Parameters(call.label, (value_of(A), value_of(b), bounds))
    n = p.args[0].shape[1]
    found: list[Any] = []

    def solve(*values: Value) -> tuple[Any, ...]:
        A, b, bounds = p.at(values)
        found.append(call.run(A=A, b=b, bounds=bounds))
        return real_array(call.label, found[-1].x), np.asarray(found[-1].active_mask, int)

    def residual(x: Value, aids: Any, values: Sequence[Value]) -> Value:
        A, b, bounds = p.at(values)
        return _held(A.T @ (A @ x - b), x, aids[0], _two_sides(bounds, n))

    avals = [Aval((n,), np.float64), Aval((n,), np.int64)]
    x, _ = implicit(call.label, solve, residual, p.values, avals)
    fun = p.args[0] @ x - p.args[1]
    return reported(x, found, x=x, fun=fun, cost=0.5 * np.sum(fun**2))


@like("optimize")
def linear_sum_assignment(
    call: Call, cost_matrix: Value, maximize: Any = False
) -> tuple[Value, Value]:
    """Rows and columns of the cheapest assignment: integers, which have derivative zero.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda c: c[linear_sum_assignment(c)].sum())(np.array([[1.0, 2.0], [3.0, 1.0]]))
    array([[1., 0.],
           [0., 1.]])
    """
    p = Parameters(call.label, (value_of(cost_matrix),))
    n = min(p.args[0].shape)

    def solve(*values: Value) -> tuple[Any, ...]:
        rows, columns = call.run(cost_matrix=p.at(values)[0])
        return rows, columns

    whole = [Aval((n,), np.intp)] * 2
    rows, columns = constant(call.label, host(call.label, solve, whole), p.values)
    return rows, columns


_MINIMIZE = "Use minimize, whose minimum is differentiable."
_ROOT = "Use root, whose solution is differentiable."
_INSTEAD = {
    **dict.fromkeys(
        ("fmin", "fmin_bfgs", "fmin_cg", "fmin_cobyla", "fmin_l_bfgs_b", "fmin_ncg", "fmin_powell",
         "fmin_slsqp", "fmin_tnc", "basinhopping", "brute", "differential_evolution", "direct",
         "dual_annealing", "shgo", "line_search"),
        _MINIMIZE,
    ),
    **dict.fromkeys(("brent", "fminbound", "golden", "bracket"), "Use minimize_scalar."),
    **dict.fromkeys(
        ("anderson", "broyden1", "broyden2", "diagbroyden", "excitingmixing", "linearmixing",
         "newton_krylov"),
        _ROOT,
    ),
    "leastsq": "Use least_squares, whose solution is differentiable.",
    "approx_fprime": "Use vk.grad or vk.jacobian.",
    "check_grad": "Use vk.test_util.check_grads.",
    **dict.fromkeys(
        ("isotonic_regression", "linprog", "milp", "quadratic_assignment", "rosen", "rosen_der",
         "rosen_hess", "rosen_hess_prod"),
        "Give it vk.lax.stop_gradient of what is traced.",
    ),
}  # fmt: skip
"""What refuses traced values, and what to use there."""

_get, __dir__ = passing("optimize", __all__)
__getattr__ = known_only_in("optimize", _INSTEAD, _get)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
