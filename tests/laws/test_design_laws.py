"""The mathematics that vjpkit stands on: every line of the design's table as a test by its name."""

import tracemalloc

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.rows import Rows, add_cotangent, new_slots, pull_rows
from vjpkit.core.staging import seed_cotangents
from vjpkit.testing.case import linearize

RNG = np.random.default_rng(11)
X = RNG.standard_normal(5)
W = RNG.standard_normal((5, 4))


def elementwise(x):
    return np.sin(x) * x / (2.0 + x * x) - np.tanh(x)


def network(x):
    hidden = np.tanh(x @ W + 0.3)
    return np.exp(-hidden) @ W.T + x


def reduction(x):
    centred = x - np.mean(x)
    return np.stack([np.sum(centred * centred), np.max(x), np.log(np.sum(np.exp(x)))])


def indexing(x):
    return np.concatenate([x[1:] * x[:-1], x[[0, 0, 2]] + x[::-1][:3]])


def loop(x):
    y = x
    for i in range(6):
        y = y + 0.1 * np.cos(y) * x[i % 5]
    return y


def textbook(x):
    """The worked example: (x1, x2) -> (x1 x2, x1 + sin x2)."""
    return np.stack([x[0] * x[1], x[0] + np.sin(x[1])])


PROGRAMS = [elementwise, network, reduction, indexing, loop, textbook]
every_program = pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)


def jacobian_by_columns(f, x):
    return np.stack([vk.jvp(f, (x,), (e,))[1] for e in np.eye(x.size)], axis=1)


def walked(made, seed):
    """Names of the primitives whose rows are pulled, in the order of the walk."""
    names = []

    def noted(row):
        def pull(row_, ct, cts):
            names.append(row[0].primitive.name)
            row[0](row, ct, cts)

        return (pull, *row[1:])

    slots = new_slots(made.count)
    seed_cotangents(slots, made.slots[:1], [seed])
    pull_rows([noted(row) for row in made.rows], slots)
    return names


# ------------------------------------------------------------------------------------ linearization


@every_program
def test_linearization_is_right_to_first_order(f):
    """f(x + d) = f(x) + J d + O(d^2): half the step leaves a quarter of the error."""
    y, push = vk.linearize(f, X)
    d = RNG.standard_normal(5)
    errors = [np.max(abs(f(X + h * d) - y - h * push(d))) for h in (1e-2, 5e-3, 2.5e-3)]
    assert errors[0] < 1e-2
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.2)


@every_program
def test_jvp_is_J_v_and_vjp_is_u_J(f):
    y, pullback = vk.vjp(f, X)
    J = jacobian_by_columns(f, X)
    v, u = RNG.standard_normal(5), RNG.standard_normal(y.shape)
    np.testing.assert_allclose(vk.jvp(f, (X,), (v,))[1], J @ v, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(pullback(u)[0], u @ J, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
def test_the_jacobian_is_never_built(mode):
    """n = 10^6 outputs of 10^6 inputs: J would have 8 TB; at most a dozen vectors are held."""
    x = np.linspace(0.0, 1.0, 1_000_000)
    tracemalloc.start()
    if mode == "jvp":
        vk.jvp(elementwise, (x,), (x,))
    else:
        vk.vjp(elementwise, x)[1](x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * x.nbytes


# ------------------------------------------------------------------------------------------ duality


@every_program
def test_duality(f):
    """<u, J v> = <J' u, v>."""
    y, pullback = vk.vjp(f, X)
    _, push = vk.linearize(f, X)
    for _ in range(5):
        v, u = RNG.standard_normal(5), RNG.standard_normal(y.shape)
        left, right = u @ push(v), pullback(u)[0] @ v
        assert abs(left - right) <= 1e-14 * (abs(u) @ abs(push(v)) + abs(pullback(u)[0]) @ abs(v))


@every_program
def test_the_transpose_of_the_transpose_is_the_map(f):
    _, push = vk.linearize(f, X)
    v = RNG.standard_normal(5)
    np.testing.assert_array_equal(push.T.T(v), push(v))


# ----------------------------------------------------------------------------------------- pullback


@every_program
def test_a_pullback_is_linear(f):
    y, pullback = vk.vjp(f, X)
    u, w = RNG.standard_normal((2, *y.shape))
    wanted = 2 * pullback(u)[0] - 3 * pullback(w)[0]
    np.testing.assert_allclose(pullback(2 * u - 3 * w)[0], wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(pullback(0 * u)[0], np.zeros(5))


@every_program
def test_a_pullback_is_fixed_at_its_point(f):
    """It can be called again and again, and nothing that happens elsewhere changes it."""
    y, pullback = vk.vjp(f, X)
    u = RNG.standard_normal(y.shape)
    first = pullback(u)[0]
    vk.vjp(f, X + 1)[1](u)
    vk.grad(lambda x: np.sum(f(x)))(X - 1)
    np.testing.assert_array_equal(pullback(u)[0], first)
    assert pullback(u)[0] is not pullback(u)[0]


# -------------------------------------------------------------------------------------- composition


@pytest.mark.parametrize("h", [elementwise, network, loop], ids=lambda f: f.__name__)
@every_program
def test_composition_pulls_back_in_reverse_order(f, h):
    """pullback(f . h) = pullback(h) . pullback(f)."""
    y, pull_h = vk.vjp(h, X)
    z, pull_f = vk.vjp(f, y)
    _, pull = vk.vjp(lambda x: f(h(x)), X)
    u = RNG.standard_normal(z.shape)
    np.testing.assert_allclose(pull(u)[0], pull_h(pull_f(u)[0])[0], rtol=1e-12, atol=1e-13)


def test_the_rows_are_walked_in_reverse():
    """Reverse order is not a strategy: it is what the transpose of a product of maps is."""
    made = linearize(lambda x: (np.tanh(np.sin(np.exp(x))),), [0.3 * X])
    order = walked(made, np.ones(5))
    assert [row[0].primitive.name for row in made.rows] == ["exp", "sin", "tanh"]
    assert order == ["tanh", "sin", "exp"]


# ------------------------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("uses", [2, 3, 7])
def test_a_value_used_several_times_receives_the_sum(uses):
    def f(x):
        y = np.sin(x)
        return sum(np.sum(y * float(k)) for k in range(uses))

    wanted = np.cos(X) * sum(range(uses))
    np.testing.assert_allclose(vk.grad(f)(X), wanted, rtol=1e-14)


def test_adjoints_of_different_uses_are_not_shared():
    """Adding to one adjoint in place must not reach another that began as the same array."""
    a, b, c = vk.grad(lambda x, y, z: np.sum((x + y) + (x + z) + x), argnums=(0, 1, 2))(X, X, X)
    np.testing.assert_array_equal(a, np.full(5, 3.0))
    np.testing.assert_array_equal(b, np.ones(5))
    np.testing.assert_array_equal(c, np.ones(5))


def test_the_seed_is_not_written_to():
    _, pullback = vk.vjp(lambda x: x + x + x + x, X)
    u = np.ones(5)
    np.testing.assert_array_equal(pullback(u)[0], np.full(5, 4.0))
    np.testing.assert_array_equal(u, np.ones(5))


def test_sums_are_made_in_place_from_the_third_contribution_on():
    slots = new_slots(1)
    slots[0] = first = np.ones(3)
    add_cotangent(slots, 0, np.ones(3))
    owned = slots[0]
    assert owned is not first
    add_cotangent(slots, 0, np.ones(3))
    assert slots[0] is owned
    np.testing.assert_array_equal(owned, np.full(3, 3.0))
    np.testing.assert_array_equal(first, np.ones(3))


# -------------------------------------------------------------------------------------- scalar case


@every_program
def test_the_seed_1_gives_the_gradient(f):
    scalar = lambda x: np.sum(f(x) * 0.7)
    y, pullback = vk.vjp(scalar, X)
    value, gradient = vk.value_and_grad(scalar)(X)
    assert value == y
    np.testing.assert_array_equal(gradient, pullback(1.0)[0])
    np.testing.assert_allclose(gradient, 0.7 * jacobian_by_columns(f, X).sum(0), rtol=1e-12)


# --------------------------------------------------------------------------------------------- cost


def chain(length):
    def f(x):
        for _ in range(length):
            x = np.sin(x) * 1.1 + 0.1
        return np.sum(x)

    return f


def equations(f, *args):
    return len(vk.make_ir(f)(*args).program.equations)


def test_rows_are_the_operations_executed():
    """One row per operation on traced values; none for the rest of the program."""
    made = linearize(lambda x: (np.sum(np.sin(x) * np.exp(np.ones(5) * 2)),), [X])
    assert [row[0].primitive.name for row in made.rows] == ["sin", "multiply", "sum"]


@pytest.mark.parametrize("length", [5, 50, 500])
def test_gradient_has_a_constant_times_the_functions_equations(length):
    assert equations(vk.grad(chain(length)), X) <= 4 * equations(chain(length), X)


def test_gradient_grows_with_the_function_by_a_constant_number_of_equations():
    counts = [equations(vk.grad(chain(n)), X) for n in (10, 20, 30, 40)]
    assert len(set(np.diff(counts))) == 1


@pytest.mark.parametrize("inputs", [1, 10, 100])
def test_the_reverse_walk_is_one_step_per_row_whatever_the_number_of_inputs(inputs):
    def f(*xs):
        return (np.sum(np.stack(xs) ** 2),)

    made = linearize(f, [X] * inputs)
    assert len(walked(made, 1.0)) == len(made.rows)
    assert all(ct is not None for ct in made.pull([1.0]))


def test_what_the_output_does_not_depend_on_costs_nothing_backwards():
    made = linearize(lambda x: (np.exp(np.cos(x)), np.sum(x))[1:], [X])
    assert walked(made, 1.0) == ["sum"]


def test_residuals_are_linear_in_operations_and_in_size():
    def nbytes(length, size):
        return vk.vjp(chain(length), np.linspace(0, 1, size))[1].nbytes

    base = nbytes(10, 1000)
    assert 0 < base <= 10 * 2 * 1000 * 8 + 1000
    assert nbytes(20, 1000) == pytest.approx(2 * base, rel=0.02)
    assert nbytes(10, 3000) == pytest.approx(3 * base, rel=0.02)


def test_gradient_frees_what_it_has_used():
    """The walk of a gradient never holds more than the forward pass left, plus a few vectors."""
    x = np.linspace(0.0, 1.0, 200_000)
    f = chain(40)
    tracemalloc.start()
    made = linearize(lambda x: (f(x),), [x])
    forward = tracemalloc.get_traced_memory()[1]
    del made
    tracemalloc.reset_peak()
    vk.grad(f)(x)
    total = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total <= forward + 4 * x.nbytes


def test_linear_operations_keep_no_arrays():
    x = np.ones(100_000)
    _, pullback = vk.vjp(lambda x: np.sum(np.reshape(2.0 * x[::-1] - x, (100, -1)).T), x)
    assert pullback.nbytes < 1000


# -------------------------------------------------------------------------------------------- batch


def test_batch_pulls_back_to_products_of_matrices():
    """Y = X W: X' = Y' W^T, W' = X^T Y', and these are two products of matrices."""
    inputs = RNG.standard_normal((7, 5))
    outputs, pullback = vk.vjp(lambda x, w: x @ w, inputs, W)
    adjoint = RNG.standard_normal((7, 4))
    x_bar, w_bar = pullback(adjoint)
    np.testing.assert_allclose(x_bar, adjoint @ W.T, rtol=1e-14)
    np.testing.assert_allclose(w_bar, inputs.T @ adjoint, rtol=1e-13)
    names = [eqn.primitive.name for eqn in pullback.program.equations]
    assert names.count("matmul") == 2
    assert set(names) <= {"matmul", "transpose"}


def test_batch_of_examples_is_the_sum_over_examples():
    inputs, adjoint = RNG.standard_normal((7, 5)), RNG.standard_normal((7, 4))
    _, w_bar = vk.vjp(lambda x, w: x @ w, inputs, W)[1](adjoint)
    each = [vk.vjp(lambda w, x=x: x @ w, W)[1](a)[0] for x, a in zip(inputs, adjoint, strict=True)]
    np.testing.assert_allclose(w_bar, sum(each), rtol=1e-13)


def test_mapped_pullback_is_one_pass():
    """A batch of cotangents costs as many row steps as one cotangent."""
    y, pullback = vk.vjp(network, X)
    cts = RNG.standard_normal((6, *y.shape))
    wanted = np.stack([pullback(ct)[0] for ct in cts])
    np.testing.assert_allclose(pullback.batched(cts)[0], wanted, rtol=1e-12, atol=1e-13)


def test_levels_are_distinct():
    """Perturbations are not confused: inside, the outer variable is a constant."""
    inner = lambda x: vk.jvp(lambda y: x + y, (1.0,), (1.0,))[1]
    assert vk.jvp(lambda x: x * inner(x), (1.0,), (1.0,))[1] == 1.0
    assert vk.grad(lambda x: x * vk.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert Rows("a").level < Rows("b").level
