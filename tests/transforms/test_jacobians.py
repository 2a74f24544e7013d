"""`jacrev`, `jacfwd`, `jacobian`, `hessian`, and what stages functions."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.ir import check

X = np.linspace(0.2, 0.9, 4)
MODES = [vk.jacrev, vk.jacfwd, vk.jacobian]


def f(x: Any) -> Any:
    return np.sin(x[:3]) * np.sum(x * x)


def wanted() -> np.ndarray[Any, Any]:
    rows = np.zeros((3, 4))
    rows[np.arange(3), np.arange(3)] = np.cos(X[:3]) * (X @ X)
    return rows + np.sin(X[:3])[:, None] * 2 * X


@pytest.mark.parametrize("jac", MODES)
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 100])
def test_all_modes_give_the_jacobian(jac: Any, chunk_size: int | None) -> None:
    np.testing.assert_allclose(jac(f, chunk_size=chunk_size)(X), wanted(), rtol=1e-14)


@pytest.mark.parametrize("jac", MODES)
def test_shapes_are_output_then_input(jac: Any) -> None:
    x = np.arange(6.0).reshape(2, 3)
    out = jac(lambda x: x[:, :, None] * np.ones(4))(x)
    assert out.shape == (2, 3, 4, 2, 3)
    for i, j in np.ndindex(2, 3):
        assert out[i, j, 0, i, j] == 1.0
    assert out.sum() == 24.0


@pytest.mark.parametrize("jac", MODES)
def test_trees(jac: Any) -> None:
    out = jac(lambda p: {"s": p["a"] * p["b"], "t": p["a"] * 2.0})({"a": 3.0, "b": X})
    np.testing.assert_array_equal(out["s"]["a"], X)
    np.testing.assert_array_equal(out["s"]["b"], 3.0 * np.eye(4))
    assert out["t"]["a"] == 2.0
    np.testing.assert_array_equal(out["t"]["b"], np.zeros(4))


@pytest.mark.parametrize("jac", MODES)
def test_argnums(jac: Any) -> None:
    both = jac(lambda x, y: x * y, argnums=(0, 1))(X, 2 * X)
    np.testing.assert_array_equal(both[0], np.diag(2 * X))
    np.testing.assert_array_equal(both[1], np.diag(X))
    one = jac(lambda x, y: x * y, argnums=(1,))(X, 2 * X)
    assert isinstance(one, tuple)


@pytest.mark.parametrize("jac", MODES)
def test_has_aux_and_zero_sizes(jac: Any) -> None:
    jacobian, aux = jac(lambda x: (x * x, x.sum()), has_aux=True)(X)
    np.testing.assert_array_equal(jacobian, np.diag(2 * X))
    assert aux == X.sum()
    assert jac(lambda x: x[:0])(X).shape == (0, 4)
    assert jac(lambda x: np.sum(x) * np.ones(2))(np.zeros(0)).shape == (2, 0)


@pytest.mark.parametrize("jac", MODES)
def test_complex_outputs(jac: Any) -> None:
    z = np.array([1.0 + 1.0j, 2.0])
    with pytest.raises(TypeError, match="pass holomorphic=True"):
        jac(lambda z: z * z)(z)
    jacobian = jac(lambda z: z * z, holomorphic=True)(z)
    np.testing.assert_allclose(jacobian, np.diag(2 * z), rtol=1e-15)


def test_the_cheaper_side_is_taken() -> None:
    tall = vk.jacobian(lambda x: np.sin(x[0] * np.ones(50)))
    wide = vk.jacobian(lambda x: np.sum(x))
    assert tall(np.ones(1)).shape == (50, 1)
    assert wide(np.ones(50)).shape == (50,)
    with pytest.raises(ValueError, match="mode must be 'auto', 'fwd' or 'rev', got 'x'"):
        vk.jacobian(f, mode="x")


def test_a_jacobian_that_cannot_fit_is_estimated() -> None:
    x = np.zeros(10_000_000)
    with pytest.raises(MemoryError, match=r"needs 800000.0 GB .*10000000 basis vectors") as e:
        vk.jacrev(lambda x: x * 2.0)(x)
    assert "hvp" in str(e.value)


def test_chunk_size_is_checked() -> None:
    with pytest.raises(ValueError, match="chunk_size must be a positive int, got 0"):
        vk.jacrev(f, chunk_size=0)


def test_hessian() -> None:
    def g(x: Any) -> Any:
        return np.sum(np.exp(x) * x[::-1])

    h = vk.hessian(g)(X)
    other = vk.jacrev(vk.jacfwd(g))(X)
    np.testing.assert_allclose(h, other, rtol=1e-13)
    np.testing.assert_allclose(h, vk.jacfwd(vk.grad(g))(X), rtol=1e-13)
    blocks = vk.hessian(lambda p: p["a"] * np.sum(p["b"] ** 2))({"a": 2.0, "b": X})
    np.testing.assert_allclose(blocks["a"]["b"], 2 * X)
    np.testing.assert_allclose(blocks["b"]["b"], 4 * np.eye(4))


def test_make_ir_is_a_closed_program() -> None:
    w = np.arange(3.0)

    def g(x: Any) -> Any:
        return {"y": np.sin(x) * w}

    closed = vk.make_ir(g)(np.ones(3, np.float32))
    check(closed.program)
    assert [v.aval.dtype.name for v in closed.program.inputs] == ["float64", "float32"]
    np.testing.assert_array_equal(closed.consts[0], w)
    np.testing.assert_allclose(closed(np.ones(3, np.float32))[0], np.sin(np.float32(1.0)) * w)
    sources = {e.source.function for e in closed.program.equations if e.source}
    assert sources == {"g"}


def test_eval_shape_computes_nothing() -> None:
    big = vk.ShapeDtypeStruct((100_000, 100_000), np.float32)
    out = vk.eval_shape(lambda x: {"y": (x @ x.T).sum(axis=0)}, big)
    assert out == {"y": vk.ShapeDtypeStruct((100_000,), np.float32)}


def test_control_flow_on_an_abstract_value_names_its_origin() -> None:
    def g(x: Any) -> Any:
        y = np.sum(x)
        return x if y > 0 else -x

    with pytest.raises(TypeError, match="not known while the function is being staged") as e:
        vk.make_ir(g)(X)
    assert "greater" in str(e.value)
    assert "test_jacobians.py" in str(e.value)
    assert "np.where" in str(e.value)


def test_a_staged_value_used_later_raises() -> None:
    leaked: list[Any] = []

    def g(x: Any) -> Any:
        leaked.append(x)
        return x * 2

    vk.make_ir(g)(X)
    with pytest.raises(RuntimeError, match="after its function had been staged"):
        leaked[0] + 1


def test_closure_convert_hoists_traced_values() -> None:
    def g(x: Any) -> Any:
        converted, hoisted = vk.closure_convert(lambda y: x * y * w, 1.0)
        assert len(hoisted) == 1
        return np.sum(converted(2.0, *hoisted))

    w = np.arange(3.0)
    assert vk.grad(g)(3.0) == 2.0 * w.sum()


def test_vmap_equals_a_loop() -> None:
    xs = np.arange(12.0).reshape(3, 4) / 7
    np.testing.assert_allclose(vk.vmap(f)(xs), np.stack([f(x) for x in xs]), rtol=1e-15)
    per_example = vk.vmap(vk.grad(lambda w, x: np.sum(np.tanh(w * x))), in_axes=(None, 0))(X, xs)
    wanted = np.stack([vk.grad(lambda w, x=x: np.sum(np.tanh(w * x)))(X) for x in xs])
    np.testing.assert_allclose(per_example, wanted, rtol=1e-15)
    np.testing.assert_allclose(vk.vmap(f, in_axes=1, out_axes=1)(xs.T), vk.vmap(f)(xs).T)
    with pytest.raises(ValueError, match=r"must have the same length.*:\n.*argument \[0\] has 3"):
        vk.vmap(np.add)(xs, X)


def test_scalars_have_scalar_derivatives():
    for transform in (vk.jacfwd, vk.jacrev, vk.jacobian):
        assert np.shape(transform(lambda x: x * x)(2.0)) == ()
    assert np.shape(vk.hessian(lambda x: x**3)(2.0)) == ()
    _, pullback = vk.vjp(lambda a, b: a * b, 2.0, np.array(3.0))
    assert [np.shape(block) for block in pullback.dense()] == [(), ()]


@pytest.mark.parametrize("outer", [vk.jacfwd, vk.jacrev])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("second", [0, 1])
def test_python_numbers_do_not_decide_the_dtype_of_second_derivatives(outer, first, second):
    """The tangent of a Python number is strong; single precision stays what it is, staged too."""
    x = np.array([1.0, 2.0, 3.0], np.float32)
    h = outer(vk.grad(lambda x, s: np.sum(np.sin(x) * s * x), first), second)
    eager, staged = h(x, 2.0), vk.jit(h)(x, 2.0)
    assert np.asarray(eager).dtype == np.asarray(staged).dtype
    np.testing.assert_allclose(eager, staged, rtol=1e-6)
    double = h(x.astype(float), 2.0)
    np.testing.assert_allclose(eager, double, rtol=1e-5)
