"""`scipy.special`: its ufuncs as they are, its functions of arrays on traced values.

>>> import numpy as np, vjpkit as vk
>>> from vjpkit.scipy import special
>>> special.erf is __import__("scipy").special.erf
True
>>> vk.grad(special.logsumexp)(np.zeros(2))
array([0.5, 0.5])
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.nn import _normalization
from vjpkit.numpy._arguments import as_array
from vjpkit.numpy.special import multigammaln, polygamma
from vjpkit.ops import scipy_elementary, scipy_gamma, scipy_polynomials, scipy_spherical
from vjpkit.ops.structural import to_dtype
from vjpkit.scipy._namespace import passing
from vjpkit.scipy._traced import holds_traced, refusing, unsupported, version_of

__all__ = [
    "assoc_laguerre", "comb", "diric", "factorial", "lambertw", "legendre_p", "log_softmax",
    "logsumexp", "multigammaln", "perm", "polygamma", "softmax", "sph_harm_y", "spherical_in",
    "spherical_jn", "spherical_kn", "spherical_yn",
]  # fmt: skip

Axis = int | tuple[int, ...] | None

logsumexp = _normalization.logsumexp


def softmax(x: Value, axis: Axis = None) -> Value:
    """``exp(x) / sum(exp(x))`` along ``axis`` (None: over all elements), without overflow.

    >>> softmax([1000.0, 1000.0])
    array([0.5, 0.5])
    """
    return _normalization.softmax(x, axis)


def log_softmax(x: Value, axis: Axis = None) -> Value:
    """``log(softmax(x, axis))``, without overflow.

    >>> log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    return _normalization.log_softmax(x, axis)


ours = version_of("special")


@ours
def lambertw(z: Value, k: Any = 0, tol: float = 1e-8) -> Value:
    """The solution w of w exp(w) = z on branch ``k``, complex; infinite slope at -1/e for k = 0.

    >>> import vjpkit as vk
    >>> round(float(vk.grad(lambda z: np.real(vk.scipy.special.lambertw(z)))(0.0)), 9)
    1.0
    """
    return scipy_elementary.lambertw(as_array(z), np.asarray(k, np.dtype("long")), float(tol))


def _whole(n: Any, name: str, function: str) -> Any:
    """Orders, as whole numbers: SciPy's own cast; a traced one has no derivative."""
    if holds_traced(n):
        raise unsupported(f"special.{function}", f"a traced {name}", "Pass integers.")
    return np.asarray(n, dtype=np.dtype("long"))


def _reflected(function: Any, n: Any, z: Value, odd: int) -> Value:
    """At negative real numbers: odd or even in z, as the order (plus ``odd``) is."""
    if z.dtype.kind == "c":
        return function(n, z)
    sign = np.where((z < 0) & ((n + odd) % 2 == 1), -1, 1)
    return sign * function(n, abs(z))


def _spherical(name: str, value: Any, slope_sign: tuple[int, int]) -> Any:
    below_sign, above_sign = slope_sign

    def function(n: Any, z: Value, derivative: bool = False) -> Value:
        n, z = _whole(n, "n", f"spherical_{name}"), as_array(z)
        z = z if z.dtype.kind in "fc" else z.astype(float)
        if not derivative:
            return value(n, z)
        below, above = value(np.maximum(n, 1) - 1, z), value(n + 1, z)
        return (below_sign * n * below + above_sign * (n + 1) * above) / (2 * n + 1)

    function.__name__ = function.__qualname__ = f"spherical_{name}"
    function.__doc__ = f"See `scipy.special.spherical_{name}`; differentiable in z."
    return ours(function)


def _kn(n: Any, z: Value) -> Value:
    """At negative real numbers the real part of the complex function's value."""
    if z.dtype.kind == "c":
        return scipy_spherical.spherical_kn(n, z)
    right = z >= 0
    inside = scipy_spherical.spherical_kn(n, np.where(right, z, 1))
    outside = scipy_spherical.spherical_kn(n, np.where(right, 1, z) + 0j)
    return np.where(right, inside, np.real(outside))


spherical_jn = _spherical(
    "jn", lambda n, z: _reflected(scipy_spherical.spherical_jn, n, z, 0), (1, -1)
)
spherical_yn = _spherical(
    "yn", lambda n, z: _reflected(scipy_spherical.spherical_yn, n, z, 1), (1, -1)
)
spherical_in = _spherical(
    "in", lambda n, z: _reflected(scipy_spherical.spherical_in, n, z, 0), (1, 1)
)
spherical_kn = _spherical("kn", _kn, (-1, -1))


@ours
def comb(N: Value, k: Value, *, exact: bool = False, repetition: bool = False) -> Value:
    """The binomial coefficient, differentiable in N and k where it is not 0 by definition.

    ``exact`` is refused of traced values, which are no Python integers.

    >>> import vjpkit as vk
    >>> round(float(vk.grad(vk.scipy.special.comb)(4.0, 2)), 9)
    3.5
    """
    n, k = as_array(N), as_array(k)
    if exact:
        raise unsupported("special.comb", "exact=True", "Leave it out.")
    if repetition:
        one = (k == 0) & (n >= 0)
        return np.where(one, 1.0, scipy_gamma.binom(np.where(one, 1, n) + k - 1, k))
    inside = (k <= n) & (n >= 0) & (k >= 0)
    return np.where(inside, scipy_gamma.binom(n, k), 0.0)


@ours
def perm(N: Value, k: Value, exact: bool = False) -> Value:
    """N (N - 1) ... (N - k + 1), differentiable in N and k where it is not 0 by definition.

    ``exact`` is refused of traced values, which are no Python integers.

    >>> import vjpkit as vk
    >>> round(float(vk.grad(vk.scipy.special.perm)(4.0, 2)), 9)
    7.0
    """
    n, k = as_array(N), as_array(k)
    if exact:
        raise unsupported("special.perm", "exact=True", "Leave it out.")
    inside = (k <= n) & (n >= 0) & (k >= 0)
    lowest = np.where(inside, n - k + 1, 1)
    return np.where(inside, scipy_gamma.poch(lowest, np.where(inside, k, 0)), 0.0)


@ours
def factorial(n: Value, exact: bool = False, extend: str = "zero") -> Value:
    """Gamma(n + 1); 0 for negative n, unless ``extend="complex"``.

    ``exact`` is refused of traced values, which are no Python integers.

    >>> import vjpkit as vk
    >>> round(float(vk.grad(vk.scipy.special.factorial)(0.0)), 6)
    -0.577216
    """
    if exact:
        raise unsupported("special.factorial", "exact=True", "Leave it out.")
    if extend not in ("zero", "complex"):
        raise ValueError(f"argument `extend` must be either 'zero' or 'complex', got {extend}")
    n = as_array(n)
    if extend == "complex":
        return scipy_gamma.gamma(n + 1)
    if n.dtype.kind == "c":
        raise ValueError("In order to use complex values, use `extend='complex'`.")
    below = n < 0
    return np.where(below, 0, scipy_gamma.gamma(np.where(below, 0, n) + 1))


@ours
def diric(x: Value, n: Any) -> Value:
    """sin(n x/2) / (n sin(x/2)), and its limits; nan unless n is a positive whole number.

    It is periodic with even or odd symmetry; near its limits the derivatives are the series'.

    >>> import vjpkit as vk
    >>> round(float(vk.grad(vk.grad(vk.scipy.special.diric))(0.0, 3)), 9)
    -0.666666667
    """
    x = as_array(x)
    x = x if x.dtype.kind == "f" else x.astype(float)
    if holds_traced(n):
        raise unsupported("special.diric", "a traced n", "Pass integers.")
    n = np.asarray(n)
    turns = np.round(x / (2 * math.pi))
    rest = x - turns * (2 * math.pi)  # in (-pi, pi)
    sign = np.where((turns * (n - 1)) % 2 == 0, 1.0, -1.0)
    near = abs(rest) < 1e-2 / np.maximum(n, 1)
    inside = np.where(near, rest, 0) / 2
    square = inside * inside
    m = n * n - 1.0
    series = 1 - m / 6 * square + m * (3 * n * n - 7) / 360 * square**2
    series = series - m * (3.0 * n**4 - 18 * n * n + 31) / 15120 * square**3
    half = np.where(near, 1, rest) / 2
    far = np.sin(n * half) / (n * np.sin(half))
    valid = (n > 0) & (n == np.floor(n))
    return np.where(valid, sign * np.where(near, series, far), np.nan)


@ours
def assoc_laguerre(x: Value, n: Any, k: Any = 0.0) -> Value:
    """`eval_genlaguerre` with its arguments in another order."""
    return scipy_polynomials.eval_genlaguerre(n, k, as_array(x))


@ours
def legendre_p(n: Any, z: Value, *, diff_n: int = 0) -> Value:
    """Legendre's polynomial of degree ``n`` and its first ``diff_n`` derivatives, along axis 0.

    >>> import vjpkit as vk
    >>> round(float(vk.grad(lambda z: vk.scipy.special.legendre_p(2, z)[0])(0.5)), 9)
    1.5
    """
    n, z = _whole(n, "n", "legendre_p"), as_array(z)
    n = np.where(n < 0, -n - 1, n)
    values = [scipy_polynomials.eval_legendre(n, z)]
    factor = 1.0
    for order in range(1, int(diff_n) + 1):
        factor *= 2 * order - 1
        degree = np.maximum(n - order, 0)
        value = factor * scipy_polynomials.eval_gegenbauer(degree, order + 0.5, z)
        values.append(np.where(n >= order, value, 0.0))
    return np.stack(values)


@ours
def sph_harm_y(n: Any, m: Any, theta: Value, phi: Value, *, diff_n: int = 0) -> Value:
    """The spherical harmonic of degree ``n`` and order ``m``; ``diff_n`` is refused.

    Its derivative in the polar angle theta is by ladder operators, in phi it is i m times it.

    >>> import vjpkit as vk
    >>> f = lambda theta: np.real(vk.scipy.special.sph_harm_y(1, 0, theta, 0.0))
    >>> bool(np.isclose(vk.grad(f)(np.pi / 2), -f(0.0)))
    True
    """
    if diff_n:
        raise unsupported("special.sph_harm_y", f"diff_n={diff_n!r}", "Use vk.grad or vk.jacfwd.")
    n, m = _whole(n, "n", "sph_harm_y"), _whole(m, "m", "sph_harm_y")
    theta, phi = as_array(theta), as_array(phi)
    along = scipy_polynomials.sph_theta(n, m, to_dtype(theta, np.dtype(float)))
    return along * np.exp(1j * (m * to_dtype(phi, np.dtype(float))))


REFUSED = (
    "assoc_legendre_p", "assoc_legendre_p_all", "ellip_harm", "ellip_harm_2", "ellip_normal",
    "factorial2", "factorialk", "gegenbauer", "genlaguerre", "jacobi", "legendre_p_all", "lmbda",
    "lqmn", "lqn", "mathieu_even_coef", "mathieu_odd_coef", "obl_cv_seq", "pbdn_seq", "pbdv_seq",
    "pbvv_seq", "pro_cv_seq", "riccati_jn", "riccati_yn", "roots_gegenbauer", "roots_genlaguerre",
    "roots_jacobi", "roots_sh_jacobi", "sh_jacobi", "sph_harm_y_all", "sph_legendre_p",
    "sph_legendre_p_all", "stirling2",
)  # fmt: skip
"""Functions of arrays that have no version for traced values."""

globals().update({name: refusing("special", name) for name in REFUSED})
__all__ += REFUSED

__getattr__, __dir__ = passing("special", __all__)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
