"""Named scopes are shown with the user's line, nest, and change nothing."""

import threading
from typing import Any

import numpy as np
import pytest

import vjpkit

vk: Any = vjpkit
X = np.ones(3)


@vk.named_scope("layer")
def layer(x, name):
    with vk.named_scope(name):
        y = np.sin(x)
    return y * x


def scopes(program):
    return {e.primitive.name: e.source.scope for e in program.equations if e.source is not None}


def test_scopes_nest_and_decorate():
    program = vk.make_ir(lambda x: layer(x, "first") + 1.0)(X).program
    assert scopes(program) == {"sin": "layer/first", "multiply": "layer", "add": ""}
    assert "# test_scopes.py:18 in layer/first" in program.pretty(color=False)
    plain = vk.make_ir(lambda x: np.sin(x) * x + 1.0)(X).program
    assert program == plain
    assert "in layer" not in str(program)


def test_scopes_survive_jit_and_its_derivatives():
    f = vk.jit(lambda x: np.sum(layer(layer(x, "a"), "b")))
    text = vk.make_ir(vk.grad(f))(X).program.pretty(color=False)
    assert "in layer/a" in text
    assert "in layer/b" in text
    reference = lambda x: np.sum(np.sin(np.sin(x) * x) * (np.sin(x) * x))
    np.testing.assert_allclose(vk.grad(f)(X), vk.grad(reference)(X), rtol=1e-14)


DERIVATIVES = {
    "grad": vk.grad,
    "jvp": lambda f: lambda x: vk.jvp(f, (x,), (x,)),
    "grad of jit": lambda f: vk.grad(vk.jit(f)),
}


@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_every_equation_of_a_derivative_has_the_scope(derivative):
    def f(x):
        with vk.named_scope("here"):
            y = np.tanh(x) * x[::-1] + np.exp(x) / (1.0 + x)
            return np.sum(np.sqrt(y @ np.outer(y, y)))

    def equations(program):
        for eqn in program.equations:
            yield eqn
            if "program" in eqn.params:
                yield from equations(eqn.params["program"])

    program = vk.make_ir(DERIVATIVES[derivative](f))(X).program
    outside = ("fill", "broadcast_to", "call")  # what seeds the cotangent
    inside = [e for e in equations(program) if e.primitive.name not in outside]
    assert len(inside) > 20
    assert [e for e in inside if e.source is None or e.source.scope != "here"] == []


def test_errors_name_the_scope():
    def f(x):
        with vk.named_scope("decision"):
            return x if x > 0 else -x

    with pytest.raises(TypeError, match=r"test_scopes.py:\d+ in decision"):
        vk.make_ir(f)(1.0)


def test_exceptions_and_threads_leave_nothing_behind():
    with pytest.raises(ZeroDivisionError), vk.named_scope("broken"):
        raise ZeroDivisionError
    seen = []

    def other():
        seen.append(scopes(vk.make_ir(np.sin)(X).program))

    with vk.named_scope("here"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert set(seen[0].values()) <= {""}
    assert scopes(vk.make_ir(lambda x: np.sin(x))(X).program) == {"sin": ""}


@pytest.mark.parametrize("name", [3, "", None])
def test_bad_input(name):
    with pytest.raises(TypeError, match=r"named_scope: name must be a string .*test_scopes.py"):
        vk.named_scope(name)
