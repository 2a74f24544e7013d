"""SciPy on traced values: its ufuncs as they are, and with its array API dispatch switched on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from tests.numpy.scipy_calls import CALLS
from vjpkit.core.errors import NotDifferentiableError, UnsupportedError

special = pytest.importorskip("scipy.special")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """What is wrong with each call, from one run of all of them."""
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.numpy.scipy_calls"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return dict(map(json.loads, run.stdout.splitlines()))


@pytest.mark.skipif(
    tuple(map(int, __import__("scipy").__version__.split(".")[:2])) < (1, 17),
    reason="older SciPy takes arrays of other libraries in fewer functions",
)
@pytest.mark.parametrize("name", CALLS)
def test_array_api(name: str, outcomes: dict[str, str]) -> None:
    assert not outcomes[name]


def test_ufuncs_take_traced_values() -> None:
    x = np.array([0.3, 1.2])
    assert vk.grad(lambda x: np.sum(special.erf(x)))(x) == pytest.approx(
        2 / np.sqrt(np.pi) * np.exp(-x * x)
    )
    value, tangent = vk.jvp(lambda x: special.xlogy(2.0, x), (x,), (x,))
    assert value == pytest.approx(2 * np.log(x))
    assert tangent == pytest.approx([2.0, 2.0])
    assert vk.grad(special.log1p)(1.0) == 0.5
    assert vk.jit(special.expit)(0.0) == 0.5
    assert vk.vmap(special.gammaln)(x) == pytest.approx(special.gammaln(x))
    assert vk.grad(lambda x: np.sum(special.erf(x, out=np.zeros_like(x))))(x).shape == (2,)


def test_the_namespace_has_the_names_and_checks_arguments() -> None:
    assert vnp.special.erf(0.5) == special.erf(0.5)
    assert vnp.special.gammainc([1.0, 2.0], 0.5) == pytest.approx(special.gammainc([1.0, 2.0], 0.5))
    for name in vnp.special.__all__:
        assert hasattr(special, name), name
    with pytest.raises(TypeError, match=r"erf\(\) takes 1 argument, but 2 were given"):
        vnp.special.erf(1.0, 2.0)
    with pytest.raises(ValueError, match="the order is -1"):
        vnp.special.polygamma(-1, 2.0)
    assert vnp.special.polygamma(0, 2.0) == special.digamma(2.0)
    with pytest.raises(ValueError, match=r"must be greater than \(d - 1\)/2 = 1\.0"):
        vnp.special.multigammaln(0.5, 3)


def test_what_has_no_derivative_says_so() -> None:
    with pytest.raises(NotDifferentiableError, match=r"special\.gammainc: .* derivative in a") as e:
        vk.grad(lambda a: special.gammainc(a, 1.0))(2.0)
    assert "test_scipy.py" in str(e.value)
    assert "stop_gradient(a)" in str(e.value)
    assert vk.grad(lambda x: special.gammainc(2.0, x))(1.0) == pytest.approx(np.exp(-1.0))
    with pytest.raises(TypeError, match=r"special\.gamma of complex numbers has no derivative"):
        vk.vjp(special.gamma, 1.0 + 1.0j)
    with pytest.raises(UnsupportedError, match=r"struve is not supported on traced values"):
        vk.grad(lambda x: special.struve(0.0, x))(1.0)


def test_arrays_of_one_kind() -> None:
    """Whatever a library makes of a traced value through its namespace is one of its kind."""

    def f(x: Any) -> Any:
        xp = x.__array_namespace__()
        count = xp.sum(x > 0)
        constants = xp.asarray(2.0), xp.ones(3), x > 0, xp.any(x > 5), count, count / 2, -count
        for c in (*constants, *xp.linalg.svd(xp.eye(2)), xp.special.erf(xp.zeros(2))):
            assert c.__array_namespace__() is xp
        assert int(count) == 2
        assert not constants[3]
        assert np.arange(3.0)[x > 0].tolist() == [0.0, 2.0]
        mine = np.zeros(3)
        held = xp.asarray(mine)
        held[0] = x[0]
        assert mine.tolist() == [0.0, 0.0, 0.0]
        return xp.sum(xp.where(x > 0, x**2, 0.0)) * constants[0] + held[0], count

    x = np.array([1.0, -2.0, 3.0])
    g, count = vk.grad(f, has_aux=True)(x)
    assert g.tolist() == [5.0, 0.0, 12.0]
    assert type(count) in (np.ndarray, np.int64)
    assert vk.jvp(lambda x: f(x)[0], (x,), (np.ones(3),))[1] == 17.0
    assert isinstance(vk.grad(lambda x: (x > 0) * x)(1.0), float)
