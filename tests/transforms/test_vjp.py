"""`vjp`, `linearize`, `jvp`, `hvp`, `linear_transpose` and the `LinearMap` they return."""

import pickle
import re
import threading
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg

import vjpkit as vk
from vjpkit.core.ir import check


def program(x: Any, b: Any) -> Any:
    return {"p": np.sin(x) * b, "q": np.sum(x * x)}


X = np.linspace(0.1, 1.0, 5)
CT = {"p": np.arange(5.0), "q": 2.0}


def made() -> Any:
    return vk.vjp(program, X, 2.0)


def test_the_pullback_takes_the_outputs_tree_and_gives_a_tuple() -> None:
    out, pullback = made()
    np.testing.assert_array_equal(out["p"], np.sin(X) * 2.0)
    ct_x, ct_b = pullback(CT)
    np.testing.assert_allclose(ct_x, np.arange(5.0) * np.cos(X) * 2.0 + 4.0 * X, rtol=1e-15)
    assert ct_b == pytest.approx(np.arange(5.0) @ np.sin(X), rel=1e-15)
    again = pullback(CT)
    np.testing.assert_array_equal(again[0], ct_x)


@pytest.mark.parametrize(
    ("ct", "words"),
    [
        ({"p": np.ones(4), "q": 1.0}, [r"f64\[4\]", r"\['p'\]", r"f64\[5\] is wanted"]),
        (
            {"p": np.ones(5, np.float32), "q": 1.0},
            [r"f32\[5\]", r"\['p'\]", r"astype\(np.float64\)"],
        ),
        ({"p": np.ones(5)}, ["tree", "'q'"]),
        (np.ones(5), ["tree"]),
        ({"p": np.ones(5), "q": 1j}, [r"complex", r"\['q'\]"]),
    ],
)
def test_a_wrong_cotangent_is_a_value_error_that_names_the_path(ct: Any, words: list[str]) -> None:
    _, pullback = made()
    with pytest.raises(ValueError, match=r"vjp\(program\)") as e:
        pullback(ct)
    for word in words:
        assert re.search(word, str(e.value)), str(e.value)


def test_the_number_of_arguments_is_checked() -> None:
    _, pullback = made()
    with pytest.raises(TypeError, match="takes 1 argument"):
        pullback(np.ones(5), 1.0)
    with pytest.raises(TypeError, match="takes 2 arguments"):
        pullback.T(np.ones(5))


def test_transposes_undo_each_other_and_pair_alike() -> None:
    _, pullback = made()
    pushforward = pullback.T
    t = np.cos(X), 0.7
    jt = pushforward(*t)
    pulled = pullback(CT)
    left = CT["p"] @ jt["p"] + CT["q"] * jt["q"]
    right = pulled[0] @ t[0] + pulled[1] * t[1]
    assert left == pytest.approx(right, rel=1e-14)
    np.testing.assert_array_equal(pushforward.T(CT)[0], pulled[0])


def test_the_program_is_linear_and_gives_the_same() -> None:
    _, pullback = made()
    for linear in (pullback, pullback.T, pullback.compile(), pullback.compile().T):
        check(linear.program)
    compiled = pullback.compile()
    for a, b in zip(compiled(CT), pullback(CT), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(compiled.T(X, 1.0)["p"], pullback.T(X, 1.0)["p"])


def test_compile_evaluates_residual_expressions_once() -> None:
    _, pullback = vk.vjp(lambda x: np.sum(np.sin(x) * np.exp(x)), X)
    names = [e.primitive.name for e in pullback.compile().program.equations]
    assert "cos" not in names
    assert "exp" not in names


def test_only_is_a_smaller_program() -> None:
    _, pullback = made()
    whole = len(pullback.program.equations)
    for n in (0, 1):
        part = pullback.only(n)
        assert len(part.program.equations) < whole
        (ct,) = part(CT)
        np.testing.assert_allclose(ct, pullback(CT)[n], rtol=1e-15)
    assert len(pullback.only(1).program.equations) <= 2
    push = pullback.T.only(1)
    assert push(3.0)["p"] == pytest.approx(pullback.T(np.zeros(5), 3.0)["p"])
    with pytest.raises(ValueError, match="argnums 2 is out of range for 2 arguments"):
        pullback.only(2)


def test_batched_is_one_pass_over_many_cotangents() -> None:
    _, pullback = made()
    cts = {"p": np.eye(5)[:3], "q": np.array([1.0, 2.0, 3.0])}
    many = pullback.batched(cts)
    for i in range(3):
        one = pullback({"p": cts["p"][i], "q": float(cts["q"][i])})
        np.testing.assert_allclose(many[0][i], one[0], rtol=1e-15)
        np.testing.assert_allclose(many[1][i], one[1], rtol=1e-15)
    with pytest.raises(ValueError, match=r"got shape \(3, 4\)"):
        pullback.batched({"p": np.ones((3, 4)), "q": np.ones(3)})


def test_dense_is_the_jacobian() -> None:
    _, linear = vk.linearize(lambda x: np.sin(x) * x[0], X)
    jacobian = linear.dense()
    np.testing.assert_allclose(jacobian, vk.jacrev(lambda x: np.sin(x) * x[0])(X), rtol=1e-15)
    np.testing.assert_allclose(linear.T.dense(), jacobian.T, rtol=1e-15)


def test_algebra_of_maps() -> None:
    _, a = vk.linearize(np.sin, X)
    _, b = vk.linearize(lambda x: x * x[::-1], X)
    t = np.arange(5.0)
    np.testing.assert_allclose((a @ b)(t), a(b(t)), rtol=1e-15)
    np.testing.assert_allclose((a @ b).T(t)[0], b.T(*a.T(t))[0], rtol=1e-15)
    np.testing.assert_allclose((b.T @ a.T)(t)[0], (a @ b).T(t)[0], rtol=1e-15)
    np.testing.assert_allclose((a + b)(t), a(t) + b(t), rtol=1e-15)
    np.testing.assert_allclose((a - b)(t), a(t) - b(t), rtol=1e-15)
    np.testing.assert_allclose((2 * a)(t), 2 * a(t), rtol=1e-15)
    np.testing.assert_allclose((a * 2.0)(t), 2 * a(t), rtol=1e-15)
    np.testing.assert_allclose((-a)(t), -a(t), rtol=1e-15)
    with pytest.raises(ValueError, match="A @ B: B gives"):
        a @ vk.linearize(np.sum, X)[1]
    with pytest.raises(ValueError, match=r"A \+ B: A and B"):
        a + vk.linearize(np.sum, X)[1]


def test_residuals_say_what_is_kept_and_where() -> None:
    _, pullback = vk.vjp(lambda x: np.sum(np.exp(x)), np.ones(1000))
    (residual,) = pullback.residuals
    assert residual.shape == (1000,)
    assert residual.dtype == np.float64
    assert residual.nbytes == 8000 == pullback.nbytes
    assert "exp" in residual.name
    assert residual.source is not None
    assert residual.source.file.endswith("test_vjp.py")
    assert "1 residual" in repr(pullback)
    assert "vjp(<lambda>)" in repr(pullback)


def test_residuals_of_a_call_are_among_those_of_the_row_that_runs_it() -> None:
    f = vk.jit(lambda x: np.sum(np.sin(x)))
    _, pullback = vk.vjp(lambda x: f(2.0 * x), np.ones(1000))
    (residual,) = pullback.residuals
    assert residual.name == "call"
    assert residual.shape == (1000,)
    assert pullback.nbytes == 8000


def test_free_drops_the_residuals() -> None:
    _, pullback = made()
    pullback.free()
    assert pullback.nbytes == 0
    with pytest.raises(RuntimeError, match="was freed"):
        pullback(CT)


def test_pickles_and_is_a_pytree() -> None:
    _, pullback = made()
    copy = pickle.loads(pickle.dumps(pullback))
    np.testing.assert_array_equal(copy(CT)[0], pullback(CT)[0])
    leaves, tree = vk.tree.flatten(pullback)
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves)
    back = vk.tree.unflatten(tree, [2 * leaf for leaf in leaves])
    assert isinstance(back, vk.LinearMap)


def test_as_scipy_is_a_linear_operator_with_the_adjoint() -> None:
    factors = np.array([1.0 + 2.0j, 3.0])
    _, linear = vk.linearize(lambda z: factors * z * z, np.array([1.0 + 1.0j, 2.0]))
    operator = linear.as_scipy()
    dense = linear.dense()
    v = np.array([0.3 + 0.1j, -1.0])
    np.testing.assert_allclose(operator @ v, dense @ v, rtol=1e-14)
    np.testing.assert_allclose(operator.H @ v, dense.conj().T @ v, rtol=1e-14)
    np.testing.assert_allclose(linear.H(v)[0], dense.conj().T @ v, rtol=1e-14)
    np.testing.assert_allclose(operator @ np.eye(2), dense, rtol=1e-14)
    matrix = np.diag([2.0, 3.0, 4.0])
    _, real = vk.linearize(lambda x: matrix @ x, np.ones(3))
    solution, info = scipy.sparse.linalg.cg(real.as_scipy(), np.ones(3))
    assert info == 0
    np.testing.assert_allclose(solution, 1 / np.diag(matrix), rtol=1e-5)


def test_as_scipy_refuses_maps_that_are_not_complex_linear() -> None:
    _, linear = vk.linearize(np.conj, np.array([1.0 + 1.0j]))
    with pytest.raises(TypeError, match="linear over the real numbers only"):
        linear.as_scipy()


def test_changing_a_small_input_or_output_does_not_change_the_pullback() -> None:
    x = np.array([0.0, 1.0])
    y, pullback = vk.vjp(np.exp, x)
    x[:] = 5.0
    y[:] = 7.0
    np.testing.assert_allclose(pullback(np.ones(2))[0], np.exp([0.0, 1.0]), rtol=1e-15)


def test_changing_a_large_input_or_output_raises() -> None:
    x = np.ones(40_000)
    _, pullback = vk.vjp(np.sin, x)
    x -= 0.1
    with pytest.raises(RuntimeError, match="changed in place before the program or pullback"):
        pullback(np.ones(40_000))
    y, pullback = vk.vjp(np.exp, np.ones(40_000))
    y *= 2
    with pytest.raises(RuntimeError, match="changed in place"):
        pullback(np.ones(40_000))


def test_the_users_cotangent_is_neither_changed_nor_returned() -> None:
    _, pullback = vk.vjp(lambda x: x, X)
    ct = np.ones(5)
    (out,) = pullback(ct)
    assert not np.shares_memory(out, ct)
    out[:] = 0
    np.testing.assert_array_equal(ct, np.ones(5))


def test_integer_primals_have_float0_cotangents() -> None:
    _, pullback = vk.vjp(lambda x, n: x * n, 2.0, np.arange(3))
    ct_x, ct_n = pullback(np.ones(3))
    assert ct_x == 3.0
    assert ct_n.dtype == vk.float0


def test_a_pullback_is_differentiable_in_its_residuals() -> None:
    def f(x: Any) -> Any:
        _, pullback = vk.vjp(np.sin, x)
        return np.sum(pullback(np.ones(5))[0] ** 2)

    wanted = -2 * np.cos(X) * np.sin(X)
    np.testing.assert_allclose(vk.grad(f)(X), wanted, rtol=1e-14)


def test_pullbacks_are_thread_safe() -> None:
    _, pullback = made()
    wanted = pullback(CT)[0]
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(50):
            if not np.array_equal(pullback(CT)[0], wanted):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_jvp_checks_trees_and_shapes() -> None:
    assert vk.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.5)) == (6.0, 4.0)
    with pytest.raises(TypeError, match=r"(?s)must be tuples or lists.*jvp\(sin, \(x,\), \(t,\)\)"):
        vk.jvp(np.sin, X, X)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must have the same tree"):
        vk.jvp(np.sin, (X,), (X, X))
    with pytest.raises(ValueError, match=r"got f64\[4\].*f64\[5\] is wanted"):
        vk.jvp(np.sin, (X,), (np.ones(4),))
    out, tangent, aux = vk.jvp(lambda x: (x * x, x), (3.0,), (1.0,), has_aux=True)
    assert (out, tangent, aux) == (9.0, 6.0, 3.0)


def test_linear_transpose_checks_linearity() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    transposed = vk.linear_transpose(lambda x: matrix @ x, vk.ShapeDtypeStruct((3,), np.float64))
    np.testing.assert_array_equal(transposed(np.ones(2))[0], matrix.T @ np.ones(2))
    with pytest.raises(TypeError, match=r"not linear: sin of f64.*test_vjp.py"):
        vk.linear_transpose(np.sin, 1.0)
    with pytest.raises(TypeError, match="not linear: add of"):
        vk.linear_transpose(lambda x: x + 1.0, 1.0)
    with pytest.raises(TypeError, match="not linear: multiply of"):
        vk.linear_transpose(lambda x: x * x, 1.0)


@pytest.mark.parametrize("steps", [np.floor, vk.lax.stop_gradient])
def test_linear_transpose_takes_zeros_from_outside(steps: Any) -> None:
    """The derivative of a step function is zero, which is linear; another constant is not."""

    def through(f: Any, x: Any) -> Any:
        push = lambda t: vk.jvp(lambda x: (f(x), np.sin(x)), (x,), (t,))[1]
        return vk.linear_transpose(push, x)((np.ones(2), np.ones(2)))[0]

    x = np.array([0.5, -1.5])
    f = lambda x: through(steps, x)
    for got in (f(x), vk.jit(f)(x), vk.vmap(f)(x[None])[0]):
        np.testing.assert_array_equal(got, np.cos(x))
    np.testing.assert_array_equal(vk.grad(lambda x: np.sum(f(x)))(x), -np.sin(x))
    for g in (lambda t: (t, np.ones(2)), lambda t: (t, np.array([0.0, 1e-300]))):
        with pytest.raises(TypeError, match=r"output 1 is a constant f64\[2\] that is not known"):
            vk.linear_transpose(g, x)


def test_the_worked_example() -> None:
    def f(x1: Any, x2: Any) -> Any:
        return x1 * x2, x1 + np.sin(x2)

    _, pullback = vk.vjp(f, 3.0, 0.5)
    u1, u2 = 0.7, -1.3
    ct1, ct2 = pullback((u1, u2))
    assert ct1 == pytest.approx(u1 * 0.5 + u2, rel=1e-15)
    assert ct2 == pytest.approx(u1 * 3.0 + u2 * np.cos(0.5), rel=1e-15)


def test_a_pullback_that_vmap_returned_is_mapped_with_its_cotangents():
    f = lambda x: np.sin(x) * x
    xs = np.arange(6.0).reshape(2, 3)
    cts = np.cos(xs)
    pullbacks = vk.vmap(lambda x: vk.vjp(f, x)[1])(xs)
    maps = vk.vmap(lambda x: vk.linearize(f, x)[1])(xs)
    for linear, name in ((pullbacks, r"vjp\(<lambda>\)"), (maps, r"linearize\(<lambda>\)")):
        for vector in (cts, cts[0]):
            with pytest.raises(ValueError, match=rf"{name}: this map was .* of 2 examples.*py:\d+"):
                linear(vector)
    (got,) = vk.vmap(lambda pullback, ct: pullback(ct))(pullbacks, cts)
    np.testing.assert_allclose(got, (np.cos(xs) * xs + np.sin(xs)) * cts, rtol=1e-14)
