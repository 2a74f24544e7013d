"""`vjpkit.scipy.integrate`: SciPy's solutions and integrals, and their derivatives."""

import inspect

import numpy as np
import pytest

import vjpkit as vk
from tests.scipy.programs import Program, check
from vjpkit.core.errors import TracerConversionError, UnsupportedError

integrate = pytest.importorskip("scipy.integrate")
ours = vk.scipy.integrate

K = np.array([1.1, 0.4])
Y0 = np.array([1.0, 0.2])
T = np.array([0.0, 0.4, 1.0])
S = np.array([0.2, 1.4, -0.3, 0.8, 2.0, -1.1, 0.5, 0.9])
X = np.array([0.0, 1.5, 3.5, 6.0, 7.0, 10.0, 11.0, 15.0])
TIGHT = {"rtol": 1e-11, "atol": 1e-11}
ROUGH = {"rtol": 1e-6, "atol": 1e-6}


def predators(y, t, k):
    return [y[0] * (k[0] - y[1]), y[1] * (k[1] * y[0] - 1.0) + 0.1 * np.sin(t)]


def turned(t, y, k):
    return predators(y, t, k)


def swing(y, t):
    angle, speed = y
    return speed, -np.sin(angle)


def decay(t, y):
    return -y


EQUATIONS = [
    Program(
        "odeint", lambda m, y0, k: m.odeint(predators, y0, T, (k,), **TIGHT), (Y0, K), staged=False
    ),
    Program(
        "odeint in time",
        lambda m, t: m.odeint(predators, Y0, t, (K,), **TIGHT)[1:],
        (T,),
        staged=False,
    ),
    Program(
        "odeint of a closure",
        lambda m, k: m.odeint(lambda y, t: predators(y, t, k), [1.0, 0.2], T, **TIGHT)[-1],
        (K,),
        order=1,
    ),
    Program(
        "odeint backwards",
        lambda m, y0: m.odeint(lambda t, y: [-y[0] * y[0]], y0, T[::-1], tfirst=True, **TIGHT),
        (0.7,),
    ),
    Program(
        "odeint of Python numbers",
        lambda m, y0, v: m.odeint(swing, [y0, v], [0.0, 1.0], **TIGHT)[1],
        (0.7, 0.1),
        order=1,
    ),
    *[
        Program(
            f"solve_ivp {method}",
            lambda m, y0, k, method=method: m.solve_ivp(
                turned, (0.0, 1.0), y0, method, T[1:], args=(k,), **TIGHT
            ).y,
            (Y0, K),
            order=2 if method == "DOP853" else 1,
            staged=method == "RK45",
        )
        for method in ("RK45", "DOP853", "LSODA")
    ],
    *[
        Program(
            f"solve_ivp {method}",
            lambda m, y0, method=method: m.solve_ivp(
                lambda t, y: np.stack([-40.0 * y[0] + y[1], -y[1]]),
                (0.0, 1.0), y0, method, T, rtol=1e-7, atol=1e-9,
            ).y,
            (Y0,),
            order=1,
            staged=False,
        )
        for method in ("Radau", "BDF")
    ],
    Program(
        "solve_ivp over a span",
        lambda m, a, b: m.solve_ivp(
            lambda t, y: y * t, (a, b), [1.0], "DOP853", t_eval=[a, 0.5 * (a + b), b], **TIGHT
        ).y,
        (0.2, 1.3),
        order=1,
    ),
]  # fmt: skip


@pytest.mark.parametrize("program", EQUATIONS, ids=repr)
def test_equations(program):
    check(ours, integrate, program)


def test_second_derivatives_under_jit():
    """Of a solution at one time: the rules of rules are staged too, as far as they are asked."""

    def end(k):
        return ours.odeint(lambda y, t: -k * y * y, [1.0], [0.0, 1.0], **TIGHT)[-1, 0]

    exact = lambda k: 1.0 / (1.0 + k)
    assert vk.jit(vk.grad(end))(0.7) == pytest.approx(vk.grad(exact)(0.7), rel=1e-8)
    assert vk.jit(vk.grad(vk.grad(end)))(0.7) == pytest.approx(vk.hessian(exact)(0.7), rel=1e-7)
    assert vk.grad(vk.grad(vk.grad(end)))(0.7) == pytest.approx(
        vk.grad(vk.grad(vk.grad(exact)))(0.7), rel=1e-6
    )


@pytest.mark.parametrize("method", ["odeint", "BDF", "Radau"])
def test_stiff_equations_are_not_integrated_back(method):
    """Over an interval of 10,000 times the decay; backwards it would grow by exp(10,000)."""

    def end(y0, rate):
        if method == "odeint":
            fun = lambda y, t: -rate * (y - np.cos(t))
            return ours.odeint(fun, [y0], [0.0, 10.0], rtol=1e-9, atol=1e-9)[-1, 0]
        turned = lambda t, y: -rate * (y - np.cos(t))
        return ours.solve_ivp(turned, (0.0, 10.0), [y0], method, [10.0], rtol=1e-8, atol=1e-10).y[
            0, 0
        ]

    def exact(rate):  # the start is forgotten
        return rate * (rate * np.cos(10.0) + np.sin(10.0)) / (1.0 + rate**2)

    to_start, to_rate = vk.grad(end, (0, 1))(2.0, 1000.0)
    assert abs(to_start) < 1e-9
    assert to_rate == pytest.approx(vk.grad(exact)(1000.0), rel=1e-3)


def test_small_cotangents_have_exact_gradients():
    """Tolerances are relative to the cotangents, not to one."""
    end = lambda k: ours.odeint(lambda y, t: -k * y, [1.0], [0.0, 1.0])[-1, 0]
    tiny = vk.grad(lambda k: 1e-9 * end(k))(2.0)
    assert tiny == pytest.approx(-1e-9 * np.exp(-2.0), rel=1e-6)


def test_a_network_in_an_equation_learns_a_spiral():
    """odeint of a small network, fitted by gradients, as HIPS autograd's ode_net does it."""
    rng = np.random.default_rng(0)
    times = np.linspace(0.0, 2.0, 9)
    turn = np.array([[-0.1, 2.0], [-2.0, -0.1]])
    data = integrate.odeint(lambda y, t: turn @ y**3, [1.5, 0.0], times)
    params = [
        (0.1 * rng.standard_normal((2, 6)), np.zeros(6)),
        (0.1 * rng.standard_normal((6, 2)), np.zeros(2)),
    ]

    def network(y, params):
        (w1, b1), (w2, b2) = params
        return np.tanh(y**3 @ w1 + b1) @ w2 + b2

    def func(y, t, w1, b1, w2, b2):
        return network(y, [(w1, b1), (w2, b2)])

    def loss(params):
        flat = tuple(x for layer in params for x in layer)
        return np.mean(np.abs(ours.odeint(func, [1.5, 0.0], times, flat, **ROUGH) - data))

    exact = lambda p: np.mean(
        (ours.odeint(lambda y, t: network(y, p), [1.5, 0.0], times, **TIGHT) - data) ** 2
    )
    vk.test_util.check_grads(exact, (params,), order=1)
    losses, mean, square = [], None, None
    gradient = vk.value_and_grad(loss)
    for step in range(1, 26):  # Adam
        value, g = gradient(params)
        losses.append(value)
        tree_map = vk.tree_util.tree_map
        mean = (
            tree_map(lambda x: 0.1 * x, g)
            if mean is None
            else tree_map(lambda m, x: 0.9 * m + 0.1 * x, mean, g)
        )
        square = (
            tree_map(lambda x: 0.01 * x * x, g)
            if square is None
            else tree_map(lambda v, x: 0.99 * v + 0.01 * x * x, square, g)
        )
        params = tree_map(
            lambda x, m, v, k=step: (
                x - 0.05 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.99**k)) + 1e-8)
            ),
            params,
            mean,
            square,
        )
    assert losses[-1] < 0.6 * losses[0]


def test_results_are_scipys():
    seen = {}

    def last(k):
        seen.update(ours.solve_ivp(turned, (0.0, 1.0), Y0, args=(k,)))
        return seen["y"][0, -1]

    vk.grad(last)(K)
    theirs = integrate.solve_ivp(turned, (0.0, 1.0), Y0, args=(K,))
    assert seen.keys() == {"t", "y", "nfev", "njev", "nlu", "status", "message", "success"}
    np.testing.assert_array_equal(vk.lax.stop_gradient(seen["t"]), theirs.t)
    assert [seen[k] for k in ("nfev", "message")] == [theirs[k] for k in ("nfev", "message")]


def bump(x, k):
    return np.exp(-k[0] * x * x) * np.cos(k[1] * x)


INTEGRALS = [
    Program("quad", lambda m, k: m.quad(bump, 0.0, 1.5, (k,))[0], (K,)),
    Program("quad of a closure", lambda m, k: m.quad(lambda x: bump(x, k), -1.0, 2.0)[0], (K,), 1),
    Program("quad between", lambda m, a, b: m.quad(lambda x: a * np.exp(-x), a, b)[0], (0.3, 1.7)),
    Program(
        "quad to infinity",
        lambda m, a, k: m.quad(lambda x, k: np.exp(-k * x), a, np.inf, k)[0],
        (0.2, 1.3),
    ),
    Program(
        "quad over all", lambda m, k: m.quad(bump, -np.inf, np.inf, (k,), epsrel=1e-11)[0], (K,), 1
    ),
    Program(
        "quad with points",
        lambda m, k: m.quad(lambda x: abs(x - 0.5) * k * np.exp(k * x), 0.0, 1.0, points=[0.5])[0],
        (0.7,),
        order=1,
    ),
    Program(
        "quad_vec", lambda m, k, b: m.quad_vec(lambda x: np.exp(-x * k) + b, 0.0, b)[0], (K, 1.2), 1
    ),
    Program(
        "fixed_quad", lambda m, k, b: m.fixed_quad(lambda x, k: bump(x, k), 0.0, b, (k,), 4)[0],
        (K, 1.2),
    ),
]  # fmt: skip


@pytest.mark.parametrize("program", INTEGRALS, ids=repr)
def test_integrals(program):
    check(ours, integrate, program)


def test_integrands_may_branch_on_where_they_are():
    def step(x, a):
        return a * x if x < 0.5 else a * a

    gradient = vk.grad(lambda a: ours.quad(step, 0.0, 1.0, args=(a,), points=[0.5])[0])
    assert gradient(3.0) == pytest.approx(0.125 + 3.0)


M = np.stack([S, S[::-1] ** 2, np.cos(S)])
NX = np.cumsum(1.0 + M**2, axis=1)

SAMPLES = [
    Program("trapezoid", lambda m, y: m.trapezoid(y, dx=0.5, axis=0), (M,), exact=False),
    Program("trapezoid at", lambda m, y, x: m.trapezoid(y, x), (S, X), exact=False),
    Program("cumulative_trapezoid", lambda m, y, x: m.cumulative_trapezoid(y, x), (M, X)),
    Program("cumulative_trapezoid of columns",
            lambda m, y, d: m.cumulative_trapezoid(y, dx=d, axis=0, initial=0), (M, 0.3)),
    Program("cumulative_trapezoid at", lambda m, y, x: m.cumulative_trapezoid(y, x), (M, NX)),
    *[
        Program(f"simpson of {n}", lambda m, y, x, n=n: m.simpson(y[:, :n], x[:n]), (M, X),
                exact=False)
        for n in (2, 3, 4, 5, 8)
    ],
    *[
        Program(f"simpson by steps of {n}",
                lambda m, y, d, n=n: m.simpson(y[:, :n], dx=d, axis=-1), (M, 0.3), exact=False)
        for n in (2, 7, 8)
    ],
    Program("simpson of columns", lambda m, y, x: m.simpson(y, x, axis=0), (M.T, X), exact=False),
    Program("simpson at", lambda m, y, x: m.simpson(y, x), (M, NX), exact=False),
    Program("romb", lambda m, y, d: m.romb(y, d, axis=0), (M.T[:5], 0.3), exact=False),
    *[
        Program(f"cumulative_simpson of {n}",
                lambda m, y, d, n=n: m.cumulative_simpson(
                    y[:, :n], x=np.cumsum(np.exp(d[:n]))), (M, S), exact=False)
        for n in (2, 3, 4, 7, 8)
    ],
    Program("cumulative_simpson by steps",
            lambda m, y, d, i: m.cumulative_simpson(y, dx=d, axis=0, initial=i), (M.T, 0.3, 0.7),
            exact=False),
    Program("cumulative_simpson at",
            lambda m, y, d: m.cumulative_simpson(y, x=np.cumsum(np.exp(d), axis=1)), (M, M),
            exact=False),
]  # fmt: skip


@pytest.mark.parametrize("program", SAMPLES, ids=repr)
def test_samples(program):
    check(ours, integrate, program)


REFUSED = {
    "odeint: full_output=": lambda k: ours.odeint(predators, Y0, T, (k,), full_output=1),
    "solve_ivp: events=": lambda k: ours.solve_ivp(turned, (0, 1), Y0, args=(k,), events=sum),
    "solve_ivp: dense_output=": lambda k: ours.solve_ivp(
        turned, (0, 1), Y0, args=(k,), dense_output=True
    ),
    "quad: weight=": lambda k: ours.quad(bump, 0.0, 1.0, (k,), weight="cos", wvar=1.0),
    "quad: points= is traced": lambda k: ours.quad(bump, 0.0, 1.0, (K,), points=k),
    "quad: complex_func=": lambda k: ours.quad(bump, 0.0, 1.0, (k,), complex_func=True),
    "quad_vec: full_output=": lambda k: ours.quad_vec(bump, 0.0, 1.0, args=(k,), full_output=True),
    "romb: show=": lambda k: ours.romb(np.ones(3) * k[0], show=True),
    "integrate.tanhsinh: traced values": lambda k: ours.tanhsinh(bump, 0.0, 1.0, args=(k,)),
    "integrate.nquad: traced values": lambda k: ours.nquad(lambda x: bump(x, k), [(0.0, 1.0)]),
    "odeint: a value is complex": lambda k: ours.odeint(predators, Y0 + 1j * k, T, (K,)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused(words):
    with pytest.raises(UnsupportedError) as caught:
        vk.grad(lambda k: np.sum(REFUSED[words](k)))(K)
    assert words in str(caught.value)
    assert "test_integrate.py:" in str(caught.value)


def test_a_map_needs_its_times():
    with pytest.raises(UnsupportedError, match="Say in t_eval="):
        vk.jit(lambda k: ours.solve_ivp(turned, (0.0, 1.0), Y0, args=(k,)).y)(K)
    with pytest.raises(UnsupportedError, match="Say in t_eval="):
        vk.vmap(lambda k: ours.solve_ivp(turned, (0.0, 1.0), Y0, args=(k,)).y)(np.stack([K, K]))


def test_errors_are_scipys():
    grad = lambda f: vk.grad(lambda k: np.sum(f(k)))(K)
    with pytest.raises(RuntimeError, match="array returned by func"):
        grad(lambda k: ours.odeint(lambda y, t: k[:1], Y0, T))
    with pytest.raises(ValueError, match="Values in `t_eval` are not within"):
        grad(lambda k: ours.solve_ivp(turned, (0, 1), Y0, t_eval=[2.0], args=(k,)).y)
    with pytest.raises(RuntimeError, match="step size is less than spacing"):
        grad(lambda k: ours.solve_ivp(lambda t, y: k[0] * y * y, (0, 9), [1.0]).y)
    with pytest.raises(ValueError, match="length of x along axis"):
        grad(lambda k: ours.simpson(k, np.ones(3)))
    with pytest.raises(ValueError, match="one plus a non-negative power of 2"):
        grad(lambda k: ours.romb(np.concatenate([k, k])))
    with pytest.raises(ValueError, match="strictly increasing"):
        grad(lambda k: ours.cumulative_simpson(S, x=S * k[0]))
    with pytest.raises(ValueError, match="finite limits"):
        grad(lambda k: ours.fixed_quad(bump, 0.0, np.inf, (k,))[0])


def test_what_is_plain_and_complex_is_refused():
    with pytest.raises(UnsupportedError, match="is complex"):
        vk.grad(
            lambda k: abs(ours.solve_ivp(lambda t, y: k * y, (0, 1), [1j], t_eval=[1.0]).y[0, 0])
        )(0.5)
    with pytest.raises(UnsupportedError, match="is complex"):
        vk.grad(lambda k: abs(ours.quad_vec(lambda x: np.exp(1j * k * x), 0.0, 1.0)[0]))(0.5)


def test_what_branches_on_states_is_refused_in_closures_alone():
    def f(y, t, k):
        return k * y if t < 0.5 else -k * y

    end = lambda k: ours.odeint(f, [1.0], [0.0, 0.5, 1.0], (k,))[-1, 0]
    assert vk.grad(end)(0.7) == pytest.approx(0.0, abs=1e-5)
    with pytest.raises(TracerConversionError):
        vk.grad(lambda k: ours.odeint(lambda y, t: f(y, t, k), [1.0], T)[-1, 0])(0.7)


PLAIN = {
    "BDF", "DOP853", "DenseOutput", "IntegrationWarning", "LSODA", "ODEintWarning", "OdeSolution",
    "OdeSolver", "RK23", "RK45", "Radau", "test",
}  # fmt: skip


def test_every_name_is_ours_or_refuses_or_takes_no_traced_values():
    public = {n for n in dir(integrate) if not n.startswith("_")}
    modules = {n for n in public if type(getattr(integrate, n)).__name__ == "module"}
    refusing = {n for n in public if hasattr(getattr(ours, n), "__wrapped__")} - set(ours.__all__)
    assert public - modules - PLAIN - refusing == set(ours.__all__)
    assert all(getattr(ours, n) is getattr(integrate, n) for n in PLAIN & public)
    for name in ours.__all__:
        assert inspect.signature(getattr(ours, name)) == inspect.signature(getattr(integrate, name))
