"""Errors that NumPy and SciPy raise where they meet traced values say what to do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

import vjpkit as vk

X = np.array([2.0, 3.0])
OBJECTS = [
    ("np.sqrt(np.array([x[0], 1.0]))", "no callable sqrt"),
    ("np.linalg.inv(np.array([[x[0], 0.0], [0.0, x[1]]]))", "Cannot cast ufunc 'inv'"),
    ("np.linalg.det([[x[0], 0.0], [0.0, x[1]]])", "Cannot cast ufunc 'det'"),
    ("np.linalg.solve(np.array([[x[0], 0.0], [0.0, x[1]]]), np.ones(2))", "Cannot cast ufunc"),
    ("np.isnan(np.array([x[0], x[1]]))", "ufunc 'isnan' not supported"),
    ("np.fft.fft(np.array([x[0], x[1]]))", "ufunc 'fft' not supported"),
    ("np.interp(0.5, [0.0, 1.0], [x[0], x[1]])", "Cannot cast array data"),
    ("np.cov([x[0], x[1]])", "'float' object has no attribute"),
]
TRANSFORMS = {
    "grad": lambda f: vk.grad(f)(X),
    "jvp": lambda f: vk.jvp(f, (X,), (X,)),
    "vjp": lambda f: vk.vjp(f, X),
    "linearize": lambda f: vk.linearize(f, X),
}


def program(code):
    return eval(f"lambda x: np.sum({code})", {"np": np})


@pytest.mark.parametrize(("code", "message"), OBJECTS)
def test_an_error_about_objects_names_vnp_array(code, message):
    for transform in TRANSFORMS.values():
        with pytest.raises((TypeError, AttributeError), match=message) as caught:
            transform(program(code))
        (note,) = [n for n in caught.value.__notes__ if "vnp.array" in n]
        assert "np.array([x, y]) of traced values is an array of objects" in note
        assert "np.stack" in note


@pytest.mark.parametrize(("code", "message"), OBJECTS)
def test_the_advice_is_right(code, message):
    stacked = code.replace("np.array(", "vk.numpy.array(")
    if stacked == code:
        stacked = code.replace("[x[0], x[1]]", "vk.numpy.array([x[0], x[1]])").replace(
            "([[x[0], 0.0], [0.0, x[1]]])", "(vk.numpy.array([[x[0], 0.0], [0.0, x[1]]]))"
        )
    f = eval(f"lambda x: {stacked}", {"np": np, "vk": vk})
    np.testing.assert_allclose(vk.vjp(lambda x: (0.0, f(x)), X, has_aux=True)[2], f(X))


def test_other_errors_are_left_alone():
    def f(x):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine") as caught:
        vk.grad(f)(1.0)
    assert not getattr(caught.value, "__notes__", ())

    with pytest.raises(AttributeError) as other:
        vk.grad(lambda x: (1.0).shape)(1.0)  # type: ignore[attr-defined]
    assert not getattr(other.value, "__notes__", ())


def test_a_note_is_made_once():
    inner = lambda x: vk.grad(program(OBJECTS[0][0]))(x)
    with pytest.raises(TypeError, match="sqrt") as caught:
        vk.jvp(inner, (X,), (X,))
    assert len([n for n in caught.value.__notes__ if "vnp.array" in n]) == 1


@pytest.mark.parametrize("transform", ["vmap", "jit", "grad"])
def test_a_traced_index_into_a_plain_array(transform):
    a = np.arange(5.0)
    calls = {
        "vmap": lambda: vk.vmap(lambda i: a[i])(np.arange(3)),
        "jit": lambda: vk.jit(lambda i: a[i])(2),
        "grad": lambda: vk.grad(lambda x: a[x])(2.0),
    }
    with pytest.raises(IndexError, match="only integers") as caught:
        calls[transform]()
    assert any("vnp.take(a, i, axis=0)" in note for note in caught.value.__notes__)


def test_full_like_names_itself():
    with pytest.raises(TypeError, match=r"^np\.full_like: .*\(test_notes\.py:\d+\)") as caught:
        vk.grad(lambda x: np.sum(np.full_like(np.ones(3), x)))(2.0)
    assert "vnp.full_like(a, value)" in str(caught.value)


def test_an_error_from_compiled_code_names_the_line_that_called_it():
    with pytest.raises(TypeError) as caught:
        vk.grad(lambda x: np.sum(np.random.default_rng(0).normal(x)))(X)
    told = "".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert "test_notes.py:" in told
    assert ".pyx" not in told


def test_an_error_inside_of_scipy_names_the_line_that_called_it():
    with pytest.raises(vk.core.TracerConversionError, match=r"\(test_notes\.py:\d+\)"):
        vk.grad(lambda a: quad(lambda t: np.exp(-a * t), 0.0, 1.0)[0])(1.0)
