"""Elementary functions of the native tier: errors within bounds, special values exact."""

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the native tier is an extra")
mpmath = pytest.importorskip("mpmath", reason="the reference of the bounds")

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
}
REFERENCE = {"arctan": "atan"}
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 5e-324, -5e-324, 2.2e-308, -2.2e-308, 1e-300,
     1.7e308, -1.7e308, 0.5, 2.0, 1024.0, -1075.0, 709.8, -745.2, 1e5, 1e22]
)  # fmt: skip


def native(name: str, dtype: Any = "f8") -> Any:
    """The function as a ufunc."""
    x, y = Var(Aval((9,), np.dtype(dtype))), Var(Aval((9,), np.dtype(dtype)))
    return Kernel((x,), (), (Equation(lookup(name), (x,), {}, (y,)),), (y,)).compile()


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
    if name.startswith("log"):
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
    function = getattr(mpmath, REFERENCE.get(name, name), None)
    with mpmath.workprec(1400 if name in ("sin", "cos", "tan") else 200):
        if function is None:
            base = {"exp2": lambda v: mpmath.mpf(2) ** v, "log2": lambda v: mpmath.log(v, 2)}
            function = base[name]
        exact = [function(mpmath.mpf(float(v))) for v in x]
    finite = [i for i, e in enumerate(exact) if abs(e) < 1.797e308]
    errors = np.array([ulps(float(y[i]), exact[i]) for i in finite])
    at = int(np.argmax(errors))
    assert errors[at] <= bound_of(name), f"{name}({x[finite[at]]!r}): {errors[at]:.2f} ulp"


@pytest.mark.parametrize("name", RANGES)
def test_special_values_are_numpys(name: str):
    with np.errstate(all="ignore"):
        got, want = native(name)(SPECIAL), getattr(np, name)(SPECIAL)
    np.testing.assert_allclose(got, want, rtol=1e-15, atol=1e-323)
    assert np.array_equal(np.signbit(got[got == 0]), np.signbit(want[got == 0]))
    assert np.array_equal(np.isfinite(got), np.isfinite(want))


@pytest.mark.parametrize("name", RANGES)
def test_single_precision_is_rounded_once(name: str):
    x = np.random.default_rng(2).uniform(0.1, 3.0, 1000).astype("f4")
    got = native(name, "f4")(x)
    assert got.dtype == np.float32
    exact = getattr(np, name)(x.astype("f8"))
    assert np.max(np.abs(got - exact) / np.spacing(np.abs(exact).astype("f4"))) <= 0.5001


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
