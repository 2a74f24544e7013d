"""`grad` and `value_and_grad`: what they accept, what they return, what they refuse and how."""

import gc
import itertools
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import TracerConversionError


class Point(NamedTuple):
    x: Any
    y: Any


def test_an_int_argnum_gives_the_bare_gradient() -> None:
    g = vk.grad(lambda x, y: np.sum(x * y), argnums=1)(np.ones(2), np.array([3.0, 4.0]))
    np.testing.assert_array_equal(g, [1.0, 1.0])


@pytest.mark.parametrize(("argnums", "length"), [((0,), 1), ((0, 1), 2), ([1, 0], 2), ((-1,), 1)])
def test_a_sequence_of_argnums_gives_a_tuple(argnums: Any, length: int) -> None:
    g = vk.grad(lambda x, y: x * y, argnums=argnums)(2.0, 5.0)
    assert isinstance(g, tuple)
    assert len(g) == length
    wanted = [5.0, 2.0]
    assert list(g) == [wanted[n] for n in argnums]


@pytest.mark.parametrize("argnums", [2, -3, (0, 5)])
def test_argnums_out_of_range_are_named(argnums: Any) -> None:
    with pytest.raises(TypeError, match=r"argnums=.*out of range: the call has 2 positional") as e:
        vk.grad(lambda x, y: x * y, argnums=argnums)(1.0, 2.0)
    assert "keywords are not differentiated" in str(e.value)
    assert "test_grad.py" in str(e.value)


def test_argnums_must_be_ints() -> None:
    with pytest.raises(TypeError, match="argnums must be an int or a tuple of ints, got 'x'"):
        vk.grad(lambda x: x, argnums="x")(1.0)  # type: ignore[arg-type]


def test_keywords_pass_through_undifferentiated() -> None:
    def f(x: Any, *, scale: float) -> Any:
        assert isinstance(scale, float)
        return scale * x

    assert vk.grad(f)(2.0, scale=3.0) == 3.0


def test_has_aux_order() -> None:
    def f(x: Any) -> Any:
        return np.sum(x * x), {"twice": 2 * x, "name": "aux"}

    x = np.array([1.0, 2.0])
    g, aux = vk.grad(f, has_aux=True)(x)
    (value, aux2), g2 = vk.value_and_grad(f, has_aux=True)(x)
    np.testing.assert_array_equal(g, 2 * x)
    np.testing.assert_array_equal(g2, g)
    assert value == 5.0
    assert type(aux["twice"]) is np.ndarray
    np.testing.assert_array_equal(aux2["twice"], 2 * x)
    assert aux["name"] == "aux"


def test_has_aux_needs_a_pair() -> None:
    with pytest.raises(TypeError, match=r"has_aux=True the function must return a pair"):
        vk.grad(lambda x: x, has_aux=True)(1.0)


def test_trees_in_trees_out() -> None:
    tree = {"b": (1.0, np.array([2.0, 3.0])), "a": Point(np.float32(4.0), None), "c": []}

    def f(t: Any) -> Any:
        return t["b"][0] * np.sum(t["b"][1]) + t["a"].x

    g = vk.grad(f)(tree)
    assert g["b"][0] == 5.0
    np.testing.assert_array_equal(g["b"][1], [1.0, 1.0])
    assert g["a"] == Point(np.float32(1.0), None)
    assert g["a"].x.dtype == np.float32
    assert g["c"] == []


def test_python_numbers_give_float64_scalars_and_stay_weak() -> None:
    assert type(vk.grad(lambda x: x * x)(3.0)) is np.float64
    assert vk.grad(lambda x: x * x)(3) == 6.0
    single = np.ones(2, np.float32)

    def f(x: Any) -> Any:
        assert (x * single).dtype == np.float32
        return np.sum(x * single)

    assert vk.grad(f)(2.0) == 2.0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_gradients_have_their_primals_dtype(dtype: str) -> None:
    x = np.linspace(0.5, 1.0, 3).astype(dtype)
    g = vk.grad(lambda x: np.sum(np.sin(x) * 2.0))(x)
    assert g.dtype == x.dtype
    np.testing.assert_allclose(g, 2 * np.cos(x), rtol=float(4 * np.finfo(dtype).eps))


def test_zero_dimensional_arrays_stay_arrays_and_scalars_stay_scalars() -> None:
    g = vk.grad(lambda x: x * 3.0)(np.array(2.0))
    assert type(g) is np.ndarray
    assert g.shape == ()
    assert type(vk.grad(lambda x: x * 3.0)(np.float64(2.0))) is np.float64


def test_gradients_are_fresh_and_writable() -> None:
    x, y = np.ones(3), np.ones(3)
    gx, gy = vk.grad(lambda x, y: np.sum(x + y), argnums=(0, 1))(x, y)
    assert not np.shares_memory(gx, gy)
    for g in (gx, gy):
        assert not np.shares_memory(g, x)
        assert not np.shares_memory(g, y)
        g[0] = 7.0
    w = np.arange(3.0)
    g = vk.grad(lambda x: x @ w)(x)
    assert not np.shares_memory(g, w)


def test_an_output_that_ignores_the_input_has_zero_gradient() -> None:
    g = vk.grad(lambda x: 3.0)(np.ones((2, 2)))
    np.testing.assert_array_equal(g, np.zeros((2, 2)))


def test_the_output_must_be_a_scalar() -> None:
    def f(x: Any) -> Any:
        return x * 2

    with pytest.raises(TypeError, match=r"grad\(f\): the function returned an array f64\[3\]") as e:
        vk.grad(f)(np.ones(3))
    assert "jacrev" in str(e.value)


def test_an_output_of_one_element_says_how_to_make_it_a_scalar() -> None:
    with pytest.raises(TypeError, match=r"Return y\[0\] or np.sum\(y\): it has one element"):
        vk.grad(lambda x: x[:1])(np.ones(3))


@pytest.mark.parametrize("output", ["text", None, (1.0, 2.0), {"a": 1.0}])
def test_outputs_that_are_no_numbers_are_refused(output: Any) -> None:
    with pytest.raises(TypeError, match=f"the function returned {type(output).__name__}"):
        vk.grad(lambda x: output)(1.0)


def test_integer_and_boolean_outputs_are_refused() -> None:
    with pytest.raises(TypeError, match=r"returned i64.*a gradient needs a floating-point number"):
        vk.grad(lambda x: int(x))(1.5)
    with pytest.raises(TypeError, match="do not change continuously; return a float"):
        vk.grad(lambda x: x > 0)(1.5)


def test_integer_arguments_say_how_to_cast() -> None:
    with pytest.raises(TypeError, match=r"argument 0 is i64\[3\]; derivatives are taken in") as e:
        vk.grad(lambda x: np.sum(x))(np.arange(3))
    assert "x.astype(float)" in str(e.value)
    assert "allow_int=True" in str(e.value)
    assert "test_grad.py" in str(e.value)


def test_an_integer_leaf_is_named_by_its_path() -> None:
    with pytest.raises(TypeError, match=r"argument 0 at \['layers'\]\[1\] is i64\[2\]"):
        vk.grad(lambda t: 0.0)({"layers": [np.ones(2), np.arange(2)]})


def test_allow_int_gives_float0_zeros() -> None:
    g = vk.grad(lambda t: t["w"] * t["n"].sum(), allow_int=True)({"w": 2.0, "n": np.arange(3)})
    assert g["w"] == 3.0
    assert g["n"].dtype == vk.float0
    assert g["n"].shape == (3,)


@pytest.mark.parametrize("bad", ["text", object(), True])
def test_arguments_that_are_no_numbers_are_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="argument 0 is a") as e:
        vk.grad(lambda x: 1.0)(bad)
    assert "grad(<lambda>)" in str(e.value)


def test_not_a_function() -> None:
    with pytest.raises(TypeError, match="grad: the first argument must be a function, got ndarray"):
        vk.grad(np.ones(2))  # type: ignore[call-overload]


def test_complex_arguments_with_a_real_output_need_no_conjugation() -> None:
    z = 1.0 + 2.0j
    assert vk.grad(lambda z: np.real(z * z))(z) == 2 * z
    assert vk.grad(lambda z: np.abs(z) ** 2)(z) == pytest.approx(2 * np.conj(z))


def test_a_complex_output_needs_holomorphic() -> None:
    z = np.complex128(1.0 + 2.0j)
    with pytest.raises(TypeError, match="pass holomorphic=True"):
        vk.grad(lambda z: z * z)(z)
    assert vk.grad(lambda z: z * z, holomorphic=True)(z) == 2 * z
    with pytest.raises(TypeError, match="holomorphic=True needs complex arguments, got f64"):
        vk.grad(lambda x: x * 1j, holomorphic=True)(1.0)
    with pytest.raises(TypeError, match="holomorphic=True, but the function returned f64"):
        vk.grad(lambda z: np.real(z), holomorphic=True)(z)


def test_as_a_decorator_with_and_without_keywords() -> None:
    @vk.grad
    def f(x: Any) -> Any:
        """Documented."""
        return x**3

    @vk.grad(argnums=1)
    def g(x: Any, y: Any) -> Any:
        return x * y

    assert f(2.0) == 12.0
    assert f.__name__ == "f"
    assert f.__doc__ == "Documented."
    assert repr(g) == "grad(g, argnums=1)"
    assert g(3.0, 4.0) == 3.0


def test_as_a_method() -> None:
    class Model:
        scale = 3.0

        @vk.grad(argnums=1)
        def slope(self, x: Any) -> Any:
            return self.scale * x * x

    assert Model().slope(2.0) == 12.0


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_nested_gradients_of_sine_times_square(order: int) -> None:
    def f(x: Any) -> Any:
        return np.sin(x) * x * x

    derivative = f
    for _ in range(order):
        derivative = vk.grad(derivative)
    s, c, x = np.sin(1.3), np.cos(1.3), 1.3
    wanted = {
        1: c * x**2 + 2 * x * s,
        2: -s * x**2 + 4 * x * c + 2 * s,
        3: -c * x**2 - 6 * x * s + 6 * c,
        4: s * x**2 - 8 * x * c - 12 * s,
    }
    assert derivative(x) == pytest.approx(wanted[order], rel=1e-13)


def test_perturbations_are_not_confused() -> None:
    def outer(x: Any) -> Any:
        return x * vk.grad(lambda y: x + y)(2.0)

    assert vk.grad(outer)(1.0) == 1.0
    inner = lambda x: vk.jvp(lambda y: x * y, (2.0,), (1.0,))[1]  # shorter so
    assert vk.jvp(lambda x: x * inner(x), (3.0,), (1.0,))[1] == 6.0


def test_every_mix_of_modes_agrees_at_second_order() -> None:
    x = np.linspace(0.2, 0.9, 4)
    t = np.array([1.0, -2.0, 0.5, 0.3])

    def f(x: Any) -> Any:
        return np.sum(np.exp(np.sin(x) * x[::-1])) * x[1]

    reverse = vk.grad(lambda x: np.sum(vk.grad(f)(x) * t))(x)
    forward_reverse = vk.jvp(vk.grad(f), (x,), (t,))[1]
    reverse_forward = vk.grad(lambda x: vk.jvp(f, (x,), (t,))[1])(x)
    hessian = vk.hessian(f)(x)
    for product in (forward_reverse, reverse_forward, hessian @ t, vk.hvp(f, (x,), (t,))):
        np.testing.assert_allclose(product, reverse, rtol=1e-13)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-13)


def test_a_leaked_tracer_raises_where_it_is_used() -> None:
    leaked = []

    def f(x: Any) -> Any:
        leaked.append(x * 2)
        return np.sum(x)

    vk.grad(f)(np.ones(2))
    with pytest.raises(RuntimeError, match=r"a traced value of grad\(f\) was used after") as e:
        leaked[0] + 1
    assert "test_grad.py" in str(e.value)
    assert "has_aux=True" in str(e.value)


def test_a_tracer_of_a_finished_inner_transform_cannot_be_returned() -> None:
    leaked = []

    def inner(y: Any) -> Any:
        leaked.append(y)
        return y * y

    def outer(x: Any) -> Any:
        vk.grad(inner)(x)
        return leaked[-1]

    with pytest.raises(RuntimeError, match="an inner transformation that has finished"):
        vk.grad(outer)(1.0)


def test_an_exception_midway_leaves_nothing_behind() -> None:
    def f(x: Any) -> Any:
        if x > 1:
            raise ZeroDivisionError("the user's own")
        return x * x

    with pytest.raises(ZeroDivisionError, match="the user's own"):
        vk.grad(lambda x: vk.grad(f)(x) * x)(2.0)
    assert vk.grad(f)(0.5) == 1.0
    assert vk.grad(vk.grad(f))(0.5) == 2.0


def test_everything_dies_by_reference_counting() -> None:
    freed: list[weakref.ref[Any]] = []

    def f(x: Any) -> Any:
        y = np.sin(x)
        freed.append(weakref.ref(y.value))
        return np.sum(y * y)

    gc.disable()
    try:
        vk.grad(f)(np.ones(5))
        vk.grad(lambda x: np.sum(vk.grad(lambda z: np.sum(np.sin(z) * x))(x)))(np.ones(5))
        assert all(ref() is None for ref in freed)
    finally:
        gc.enable()


@pytest.mark.parametrize("convert", [float, complex])
def test_conversion_of_a_traced_value_raises_and_says_what_to_do(convert: Any) -> None:
    with pytest.raises(TypeError, match=rf"{convert.__name__}\(\) of a traced value") as e:
        vk.grad(lambda x: convert(x) * 2)(1.0)
    assert "stop_gradient" in str(e.value)
    assert "test_grad.py" in str(e.value)


def test_eager_values_decide_control_flow_and_print() -> None:
    def f(x: Any) -> Any:
        assert int(x) in (1, 2)
        assert f"{x:.2f}" in ("2.50", "1.50")
        return x * x if x > 2 else x

    assert vk.grad(f)(2.5) == 5.0
    assert vk.grad(f)(1.5) == 1.0


def test_writing_a_traced_value_into_a_plain_array_raises() -> None:
    def f(x: Any) -> Any:
        out = np.zeros(2)
        out[0] = x[0]
        return np.sum(out)

    with pytest.raises(TracerConversionError) as e:
        vk.grad(f)(np.ones(2))
    text = str(e.value)
    assert "vnp.zeros" in text
    assert "np.zeros_like(x)" in text


def test_a_large_captured_array_that_changes_raises() -> None:
    w = np.ones(40_000)

    def f(x: Any) -> Any:
        y = x * w
        w[7] = 3.0
        return np.sum(y)

    with pytest.raises(RuntimeError, match="changed in place before the program or pullback") as e:
        vk.grad(f)(np.ones(40_000))
    assert "test_grad.py" in str(e.value)
    assert "(40000,)" in str(e.value)


def test_a_small_captured_array_that_changes_gives_the_right_answer() -> None:
    w = np.ones(3)

    def f(x: Any) -> Any:
        y = x * w
        w[:] = 5.0
        return np.sum(y * w)

    np.testing.assert_array_equal(vk.grad(f)(np.ones(3)), np.full(3, 5.0))


def test_strict_restores_plain_arithmetic() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.where(x > 0, np.sqrt(x), 0.0))

    x = np.array([0.0, 4.0])
    np.testing.assert_array_equal(vk.grad(f)(x), [0.0, 0.25])
    with np.errstate(all="ignore"):
        assert np.isnan(vk.grad(f, strict=True)(x)[0])


def test_higher_derivatives_are_exact_and_their_cost_does_not_explode():
    """The n-th derivative of a chain grows with its length as the chain does, by a factor each."""

    def chain(length):
        def f(x):
            for _ in range(length):
                x = np.sin(x) * x
            return x

        return f

    def equations(order, length):
        f = chain(length)
        for _ in range(order):
            f = vk.grad(f)
        return len(vk.make_ir(f)(0.7).program.equations)

    counts = [equations(order, 4) for order in range(5)]
    assert all(after <= 6 * before for before, after in itertools.pairwise(counts)), counts
    for order in range(1, 5):
        assert equations(order, 8) <= 3 * equations(order, 4)
    f = lambda x: np.sin(x) * np.exp(x)
    for order in range(1, 5):
        f = vk.grad(f)
        exact = np.exp(0.7) * 2 ** (order / 2) * np.sin(0.7 + order * np.pi / 4)
        np.testing.assert_allclose(f(0.7), exact, rtol=1e-13)
