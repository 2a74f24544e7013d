"""Elementary functions of the native tier: errors within bounds, special values exact."""

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the native tier is an extra")
mpmath = pytest.importorskip("mpmath", reason="the reference of the bounds")
special = pytest.importorskip("scipy.special", reason="the reference of its functions")

from vjpkit.backends.native import functions  # noqa: E402
from vjpkit.backends.native.kernels import Kernel  # noqa: E402
from vjpkit.core.aval import Aval  # noqa: E402
from vjpkit.core.ir import Equation, Var  # noqa: E402
from vjpkit.core.primitive import lookup  # noqa: E402

PER_RANGE = 400
RANGES: dict[str, list[tuple[float, float]]] = {
    "exp": [(-745.2, -700.0), (-700.0, 700.0), (-1.0, 1.0), (700.0, 709.8)],
    "exp2": [(-1075.0, -1000.0), (-1000.0, 1000.0), (-1.0, 1.0), (1000.0, 1024.0)],
    "expm1": [(-60.0, 60.0), (-1.0, 1.0), (-1e-8, 1e-8), (690.0, 709.8)],
    "log": [(0.5, 2.0), (0.999, 1.001), (1e-3, 1e3)],
    "log2": [(0.5, 2.0), (0.999, 1.001), (1e-3, 1e3)],
    "log10": [(0.5, 2.0), (0.999, 1.001), (1e-3, 1e3)],
    "log1p": [(-0.999, 1.0), (-1e-8, 1e-8), (1.0, 1e6)],
    "sin": [(-4.0, 4.0), (-1e3, 1e3), (-1e9, 1e9), (1e9, 1e17)],
    "cos": [(-4.0, 4.0), (-1e3, 1e3), (-1e9, 1e9), (1e9, 1e17)],
    "tan": [(-4.0, 4.0), (-1e3, 1e3), (-1e9, 1e9), (1e9, 1e17)],
    "arctan": [(-1.0, 1.0), (-30.0, 30.0), (-1e6, 1e6)],
    "sinh": [(-1.0, 1.0), (-50.0, 50.0), (700.0, 710.4)],
    "cosh": [(-1.0, 1.0), (-50.0, 50.0), (700.0, 710.4)],
    "tanh": [(-1.0, 1.0), (-25.0, 25.0), (-1e-8, 1e-8)],
    "arcsin": [(-1.0, 1.0), (-0.51, -0.49), (0.99, 1.0), (-1e-8, 1e-8)],
    "arccos": [(-1.0, 1.0), (0.49, 0.51), (0.999, 1.0), (-1.0, -0.999), (-1e-8, 1e-8)],
    "arcsinh": [(-1.0, 1.0), (-1e-6, 1e-6), (-50.0, 50.0), (1e90, 1e110)],
    "arccosh": [(1.0, 1.001), (1.0, 3.0), (1.0, 1e3), (1e90, 1e110)],
    "arctanh": [(-1.0, 1.0), (-1e-6, 1e-6), (0.9999, 1.0)],
    "cbrt": [(-1.0, 1.0), (-10.0, 10.0), (-1e300, 1e300), (-1e-310, 1e-310)],
    "erf": [(-6.0, 6.0), (-1.0, 1.0), (-1e-8, 1e-8), (0.9, 1.1)],
    "erfc": [(-6.0, 6.0), (0.0, 1.0), (0.9, 1.1), (1.0, 8.0), (8.0, 26.0)],
    "expit": [(-700.0, -30.0), (-30.0, 30.0), (-1.0, 1.0)],
    "log_expit": [(-700.0, -30.0), (-30.0, 30.0), (-1.0, 1.0), (30.0, 700.0)],
    "logit": [(0.0, 1.0), (0.24, 0.26), (0.74, 0.76), (0.49, 0.51), (0.0, 1e-10)],
}
PAIRS: dict[str, list[tuple[tuple[float, float], tuple[float, float]]]] = {
    "hypot": [((-10, 10), (-10, 10)), ((1e-3, 1), (1e3, 1e4)), ((-1e300, 1e300), (-8e307, 8e307)),
              ((-1e-310, 1e-310), (-1e-310, 1e-310)), ((1, 1.1), (1, 1.1))],
    "arctan2": [((-10, 10), (-10, 10)), ((-1, 1), (-1e6, 1e6)), ((-1e6, 1e6), (-1, 1)),
                ((-8e307, 8e307), (-8e307, 8e307)), ((-1e-310, 1e-310), (-1e-310, 1e-310)),
                ((0.9, 1.1), (0.9, 1.1)), ((0.41, 0.42), (0.99, 1.01))],
    "power": [((0, 10), (-10, 10)), ((0.5, 2), (-1000, 1000)), ((0.999, 1.001), (-1e5, 1e5)),
              ((1e-300, 1e-200), (-1, 1)), ((1e-310, 1e-309), (-0.9, 0.9)), ((0, 8e307), (-1, 1)),
              ((0, 1), (300, 320))],
    "logaddexp": [((-10, 10), (-10, 10)), ((-700, 700), (-700, 700)), ((0, 1), (5, 30))],
    "logaddexp2": [((-10, 10), (-10, 10)), ((-700, 700), (-700, 700)), ((0, 1), (5, 30))],
    "xlogy": [((-10, 10), (0, 10)), ((-10, 10), (0.99, 1.01))],
    "xlog1py": [((-10, 10), (-0.9, 10)), ((-10, 10), (-1e-6, 1e-6))],
}  # fmt: skip
EXACT: dict[str, Any] = {
    "arctan": mpmath.atan, "arcsin": mpmath.asin, "arccos": mpmath.acos, "arcsinh": mpmath.asinh,
    "arccosh": mpmath.acosh, "arctanh": mpmath.atanh, "arctan2": mpmath.atan2,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log2": lambda x: mpmath.log(x, 2),
    "expit": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log_expit": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "logit": lambda x: mpmath.log(x / (1 - x)),
    "logaddexp": lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y)),
    "logaddexp2": lambda x, y: mpmath.log(mpmath.mpf(2) ** x + mpmath.mpf(2) ** y, 2),
    "xlogy": lambda x, y: x * mpmath.log(y),
    "xlog1py": lambda x, y: x * mpmath.log1p(y),
}  # fmt: skip
"""The functions that mpmath calls otherwise, or does not have."""
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 5e-324, -5e-324, 2.2e-308, -2.2e-308, 1e-300,
     1.7e308, -1.7e308, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1.5, 0.25, 0.75, 30.0, -30.0, 1024.0,
     -1075.0, 709.8, -745.2, 1e5, 1e22, 9007199254740993.0, 1e300, -1e300]
)  # fmt: skip


def native(name: str, dtype: Any = "f8", operands: int = 1) -> Any:
    """The function as a ufunc."""
    xs = tuple([Var(Aval((9,), np.dtype(dtype))) for _ in range(operands)])
    y = Var(Aval((9,), np.dtype(dtype)))
    return Kernel(xs, (), (Equation(lookup(name), xs, {}, (y,)),), (y,)).compile()


def known(name: str) -> Any:
    """NumPy's function of this name, or SciPy's."""
    return getattr(np, name, None) or getattr(special, name)


def exact(name: str) -> Any:
    return EXACT.get(name) or getattr(mpmath, name)


def bound_of(name: str) -> float:
    """The bound that the function's docstring states."""
    stated = re.search(r"Within ([\d.]+) ulp", getattr(functions, name).__doc__ or "")
    assert stated is not None
    return float(stated[1])


def ulps(got: float, exact: Any) -> float:
    """Error in units in the last place of the exact value; of the smallest normal one below it."""
    size = max(abs(float(exact)), 2.2250738585072014e-308)
    return float(abs(mpmath.mpf(got) - exact) / mpmath.mpf(float(np.spacing(size))))


def multiples(name: str) -> np.ndarray:
    """Angles as close to multiples of pi / 2 as doubles get at random; powers of two for others."""
    generator = np.random.default_rng(1)
    if name in ("sin", "cos", "tan"):
        return generator.integers(1, 600_000_000, PER_RANGE) * (np.pi / 2)
    if name in ("log", "log2", "log10", "log1p"):
        return 2.0 ** generator.integers(-1022, 1023, PER_RANGE)
    return np.empty(0)


@pytest.mark.parametrize("name", RANGES)
def test_errors_are_within_the_bound(name: str):
    generator = np.random.default_rng(0)
    points = [generator.uniform(*ends, PER_RANGE) for ends in RANGES[name]]
    if name in ("log", "log2", "log10"):
        points.append(10 ** generator.uniform(-323, 308, PER_RANGE))
    x = np.concatenate([*points, multiples(name)])
    y = native(name)(x)
    with mpmath.workprec(1400 if name in ("sin", "cos", "tan", "erfc") else 200):
        wanted = [exact(name)(mpmath.mpf(float(v))) for v in x]
    finite = [i for i, e in enumerate(wanted) if abs(e) < 1.797e308]
    errors = np.array([ulps(float(y[i]), wanted[i]) for i in finite])
    at = int(np.argmax(errors))
    assert errors[at] <= bound_of(name), f"{name}({x[finite[at]]!r}): {errors[at]:.2f} ulp"


@pytest.mark.parametrize("name", PAIRS)
def test_errors_of_functions_of_two_operands_are_within_the_bound(name: str):
    generator = np.random.default_rng(0)
    ends = PAIRS[name]
    x, y = (
        np.concatenate([generator.uniform(*pair[side], PER_RANGE) for pair in ends])
        for side in range(2)
    )
    got = native(name, operands=2)(x, y)
    for u, v, g in zip(x.tolist(), y.tolist(), got.tolist(), strict=True):
        with mpmath.workprec(1500):
            e = exact(name)(mpmath.mpf(u), mpmath.mpf(v))
        if abs(e) >= 1.797e308:
            continue
        error = ulps(g, e)
        if name.startswith("logaddexp"):  # relative to the larger operand where that cancels
            error *= min(1.0, abs(float(e)) / max(abs(u), abs(v)))
        assert error <= bound_of(name), f"{name}({u!r}, {v!r}): {error:.2f} ulp"


@pytest.mark.parametrize("name", RANGES)
def test_special_values_are_numpys(name: str):
    with np.errstate(all="ignore"):
        got, want = native(name)(SPECIAL), known(name)(SPECIAL)
    assert_equal_at_special_values(got, want)


@pytest.mark.parametrize("name", PAIRS)
def test_special_values_of_two_operands_are_numpys(name: str):
    x, y = [v.ravel() for v in np.meshgrid(SPECIAL, SPECIAL)]
    with np.errstate(all="ignore"):
        got, want = native(name, operands=2)(x, y), known(name)(x, y)
    assert_equal_at_special_values(got, want)


def assert_equal_at_special_values(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, rtol=3e-15, atol=1e-323)
    assert np.array_equal(np.signbit(got[got == 0]), np.signbit(want[got == 0]))
    assert np.array_equal(np.isfinite(got), np.isfinite(want))


@pytest.mark.parametrize("name", [*RANGES, *PAIRS])
def test_single_precision_is_rounded_once(name: str):
    generator = np.random.default_rng(2)
    ends = {"arccosh": (1.1, 3.0), "arcsin": (0.1, 0.9), "arccos": (0.1, 0.9),
            "arctanh": (0.1, 0.9), "logit": (0.1, 0.4)}.get(name, (0.1, 3.0))  # fmt: skip
    operands = 2 if name in PAIRS else 1
    xs = [generator.uniform(*ends, 1000).astype("f4") for _ in range(operands)]
    got = native(name, "f4", operands)(*xs)
    assert got.dtype == np.float32
    wanted = known(name)(*[x.astype("f8") for x in xs])
    assert np.max(np.abs(got - wanted) / np.spacing(np.abs(wanted).astype("f4"))) <= 0.5001


def test_bits_do_not_depend_on_place_or_stride():
    """Vector code and the rest of a block compute alike."""
    x = np.random.default_rng(3).normal(size=1537)
    for name in RANGES:
        f = native(name)
        with np.errstate(all="ignore"):
            whole = f(x)
        one_by_one = np.array([f(x[i : i + 1])[0] for i in range(0, x.size, 61)])
        assert whole[::61].tobytes() == one_by_one.tobytes(), name
        wide = np.zeros((1537, 3))
        wide[:, 1] = x
        assert f(wide[:, 1]).tobytes() == whole.tobytes(), name
        assert f(x[::-1]).tobytes() == whole[::-1].tobytes(), name
