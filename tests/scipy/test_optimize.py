"""`vjpkit.scipy.optimize`: SciPy's solutions, differentiated by what they solve."""

import numpy as np
import pytest

import vjpkit as vk
from tests.scipy.programs import Program, check
from vjpkit.core.errors import TracerConversionError, UnsupportedError

optimize = pytest.importorskip("scipy.optimize")
ours = vk.scipy.optimize

A = np.array([1.3, 0.7])
B = np.array([[2.0, 0.3], [-0.4, 1.5], [0.2, 0.9]])
C = np.array([1.0, -0.5, 2.0])
T = np.linspace(0.0, 1.0, 7)
Y = np.exp(-1.5 * T) + 0.1 * np.cos(9 * T)


def cubic(x, a):
    return x**3 + a[0] * x - a[1]


def system(x, a):
    return [x[0] ** 2 + a[0] * x[1] - 1.0, np.sin(x[1]) + x[0] * a[1]]


def bowl(x, a):
    return np.sum((x - a) ** 2) + np.sum(x**4) + a[0] * x[0] * x[1]


def bowl_and_slope(x, a):
    return bowl(x, a), 2 * (x - a) + 4 * x**3 + a[0] * x[::-1]


TIGHT = {"tol": 1e-13}
TRF = {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14}
FIT = {"xtol": 1e-14, "ftol": 1e-14}
BRACKETS = ["brentq", "brenth", "bisect", "ridder", "toms748"]

PROGRAMS = [
    *[
        Program(name, lambda o, a, name=name: getattr(o, name)(cubic, -1.0, 2.0, (a,), 1e-13), (A,))
        for name in BRACKETS
        if name != "toms748"
    ],
    Program("toms748", lambda o, a: o.toms748(cubic, -1.0, 2.0, (a,), xtol=1e-13), (A,)),
    Program("its ends", lambda o, a, b: o.brentq(lambda x: x * x - a, 0.0, b), (2.0, 9.0)),
    Program("secant", lambda o, a: o.newton(cubic, 1.0, args=(a,), tol=1e-13), (A,)),
    Program(
        "newton",
        lambda o, a: o.newton(
            lambda x, a: x**3 - a, np.ones(2), lambda x, a: 3 * x**2, args=(a,), tol=1e-13
        ),
        (A,),
    ),
    Program(
        "halley",
        lambda o, a: o.newton(
            lambda x: x**2 - a, 1.0, lambda x: 2 * x + 0 * a, fprime2=lambda x: 2.0, tol=1e-13
        ),
        (1.3,),
    ),
    Program(
        "root_scalar",
        lambda o, a: o.root_scalar(cubic, (a,), bracket=[-1.0, 2.0], xtol=1e-13).root,
        (A,),
    ),
    Program(
        "root_scalar newton",
        lambda o, a: o.root_scalar(
            lambda x: (x * x - a, 2 * x), x0=1.0, fprime=True, xtol=1e-14
        ).root,
        (1.7,),
    ),
    Program("fsolve", lambda o, a: o.fsolve(system, [0.5, 0.5], (a,), xtol=1e-13), (A,)),
    Program("fsolve one", lambda o, a: o.fsolve(lambda x: x * x - a, 1.0, xtol=1e-11), (1.3,)),
    Program("root", lambda o, a: o.root(system, [0.5, 0.5], (a,), tol=1e-13).x, (A,)),
    Program(
        "root lm",
        lambda o, a: o.root(lambda x, a: x**3 + x - a, [0.5, 0.5], a, "lm", tol=1e-14).x,
        (A,),
    ),
    Program(
        "root of a matrix",
        lambda o, a: o.root(
            lambda x: x**3 + x - a, np.ones((2, 1)), method="krylov", options={"fatol": 1e-13}
        ).x,
        (A[:, None],),
        exact=False,
    ),
    Program("fixed_point", lambda o, a: o.fixed_point(np.cos, a[0]) + a[1], (A,), exact=False),
    Program(
        "fixed_point of arguments",
        lambda o, a: o.fixed_point(lambda x, a: np.cos(a * x), [0.5, 0.5], (a,), 1e-14),
        (A,),
    ),
    Program("minimize", lambda o, a: o.minimize(bowl, [0.1, 0.2], (a,), tol=1e-9).x, (A,), 1),
    *[
        Program(
            f"minimize {method}",
            lambda o, a, m=method, tol=1e-19 if method == "SLSQP" else 1e-12: o.minimize(
                bowl_and_slope, [0.1, 0.2], a if m == "BFGS" else (a,), m, jac=True, tol=tol
            ).x,
            (A,),
        )
        for method in ("BFGS", "CG", "L-BFGS-B", "TNC", "SLSQP", "Newton-CG")
    ],
    Program(
        "minimize newton",
        lambda o, a: o.minimize(
            lambda x: bowl(x, a), [0.1, 0.2], method="trust-exact",
            jac=vk.grad(lambda x: bowl(x, a)), hess=vk.hessian(lambda x: bowl(x, a)), tol=1e-12,
        ).fun,
        (A,),
        order=1,
    ),
    Program(
        "minimize hessp",
        lambda o, a: o.minimize(
            bowl, [0.1, 0.2], (a,), "trust-krylov", tol=1e-12,
            jac=lambda x, a: 2 * (x - a) + 4 * x**3 + a[0] * x[::-1],
            hessp=lambda x, p, a: (2 + 12 * x**2) * p + a[0] * p[::-1],
        ).x,
        (A,),
    ),
    Program(
        "minimize in bounds",
        lambda o, a, b: o.minimize(
            bowl_and_slope, [0.1, 0.2], (a,), jac=True, bounds=[(b, None), (None, 2.0)], tol=1e-14
        ).x,
        (A, 0.9),
    ),
    Program(
        "minimize_scalar",
        lambda o, a: o.minimize_scalar(
            lambda x: np.exp(x) - a[0] * x + a[1] * x**2, bracket=(-1.0, 0.0)
        ).x,
        (A,),
        order=1,
        exact=False,
        tolerance=1e-7,
    ),
    Program(
        "least_squares",
        lambda o, a: o.least_squares(
            lambda k, y: k[0] * np.exp(-k[1] * T) - y, [0.8, 1.0], args=(a,), **TRF
        ).x,
        (Y,),
    ),
    *[
        Program(
            f"least_squares {loss}",
            lambda o, a, loss=loss: o.least_squares(
                lambda k, t, y: k[0] * t + k[1] - y, [0.8, 1.0], loss=loss, f_scale=0.3,
                jac=lambda k, t, y: np.stack([t, np.ones(7)], 1), args=(T,), kwargs={"y": a}, **TRF
            ).x,
            (Y,),
        )
        for loss in ("soft_l1", "huber", "cauchy", "arctan")
    ],
    Program(
        "least_squares in bounds",
        lambda o, a, b: o.least_squares(
            lambda k: k[0] * T + k[1] - a, [0.0, 0.2], bounds=([-2.0, -np.inf], [2.0, b]),
            method="dogbox", **TRF
        ).x,
        (Y, 0.85),
    ),
    Program(
        "curve_fit",
        lambda o, t, y: o.curve_fit(lambda t, c, k: c * np.exp(-k * t), t, y, [0.8, 1.0], **FIT)[0],
        (T, Y),
    ),
    Program(
        "curve_fit covariance",
        lambda o, y, s: o.curve_fit(lambda t, c, k: c * t + k, T, y, sigma=s)[1],
        (Y, np.linspace(0.5, 1.0, 7)),
        exact=False,
        tolerance=1e-6,
    ),
    Program(
        "curve_fit correlated",
        lambda o, y, s: o.curve_fit(
            lambda t, c, k: c * t + k, T, y, sigma=s + s.T, absolute_sigma=True, **FIT
        ),
        (Y, np.eye(7) + 0.05),
        exact=False,
        tolerance=1e-6,
    ),
    Program("nnls", lambda o, a, b: o.nnls(a, b), (B, C)),
    Program("nnls active", lambda o, b: o.nnls(B, b)[0], (np.array([1.0, -3.0, 2.0]),)),
    Program("lsq_linear", lambda o, a, b: o.lsq_linear(a, b).x, (B, C)),
    Program(
        "lsq_linear in bounds",
        lambda o, b, u: o.lsq_linear(B, b, (-np.inf, u), method="bvls").cost,
        (C, 0.3),
        exact=False,
    ),
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=repr)
def test_solutions(program):
    check(ours, optimize, program)


def test_closures_and_arguments_agree():
    """What a function closes over is as good as what it is given; both at once add up."""
    by_argument = vk.hessian(lambda a: optimize_sum(lambda x, a: cubic(x, a), a, (a,)))(A)
    by_closure = vk.hessian(lambda a: optimize_sum(lambda x: cubic(x, a), a, ()))(A)
    np.testing.assert_allclose(by_argument, by_closure, rtol=1e-9)
    both = vk.grad(lambda a: ours.brentq(lambda x, b: cubic(x, a) + b, -1.0, 2.0, (a[1],)))(A)
    slope = 3 * optimize.brentq(lambda x: cubic(x, [A[0], 0.0]), -1.0, 2.0) ** 2 + A[0]
    np.testing.assert_allclose(both, [0.0, 0.0], atol=1e-9 * slope)


def optimize_sum(f, a, args):
    return ours.brentq(f, -1.0, 2.0, args, xtol=1e-13) + a[0] ** 2


def test_functions_of_arguments_may_branch_on_values():
    def branching(x, a):
        return x - a if x > 0 else x - 2 * a

    gradient = vk.grad(lambda a: ours.brentq(branching, -3.0, 5.0, args=(a,)))
    assert gradient(1.5) == pytest.approx(1.0)
    with pytest.raises(TracerConversionError) as caught:
        vk.grad(lambda a: ours.brentq(lambda x: branching(x, a), -3.0, 5.0))(1.5)
    assert "Pass the traced values in args= instead" in "".join(caught.value.__notes__)


def test_what_cannot_be_seen_is_refused():
    """A closure that no walk finds: its gradient is not lost in silence."""

    def loss(a, find):
        box = np.empty((), object)
        box[()] = a
        return find(lambda x: (x - box[()]) ** 2)

    for find in (
        lambda f: ours.minimize_scalar(f).x,
        lambda f: ours.golden(f),
        lambda f: ours.minimize(f, [0.0], method="Nelder-Mead").x[0],
    ):
        with pytest.raises(TracerConversionError, match="returned a traced value"):
            vk.grad(lambda a, find=find: loss(a, find))(1.0)


def test_first_guesses_have_derivative_zero():
    gradient = vk.grad(lambda x0: np.sum(ours.minimize(bowl, x0, (A,)).x))
    np.testing.assert_array_equal(gradient(np.array([0.1, 0.2])), 0.0)


def test_results_are_scipys_but_for_numbers_that_are_not_differentiated():
    seen = {}

    def loss(a):
        seen.update(ours.minimize(bowl, [0.1, 0.2], (a,)))
        return seen["fun"]

    vk.grad(loss)(A)
    theirs = optimize.minimize(bowl, [0.1, 0.2], (A,))
    assert seen.keys() < theirs.keys()
    assert "hess_inv" not in seen
    for key in ("success", "status", "message", "nfev", "nit"):
        assert seen[key] == theirs[key]


def test_a_minimum_held_by_a_bound_moves_with_it():
    def least(a, b):
        return ours.minimize_scalar(lambda x: (x - a) ** 2, bounds=(b, 3.0), method="bounded").x

    assert vk.grad(least, (0, 1))(0.2, 1.0) == pytest.approx((0.0, 1.0))
    assert vk.grad(least, (0, 1))(1.7, 1.0) == pytest.approx((1.0, 0.0))


def test_assignments_are_constant():
    costs = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
    total = lambda c: c[ours.linear_sum_assignment(c)].sum()
    chosen = np.zeros((3, 3))
    chosen[optimize.linear_sum_assignment(costs)] = 1.0
    for f in (vk.grad(total), vk.jit(vk.grad(total))):
        np.testing.assert_array_equal(f(costs), chosen)
    best = optimize.linear_sum_assignment(-costs, maximize=True)
    np.testing.assert_array_equal(
        vk.jit(lambda c: ours.linear_sum_assignment(-c, True))(costs), best
    )


REFUSED = {
    "brentq: full_output=": lambda a: ours.brentq(cubic, -1.0, 2.0, (a,), full_output=True),
    "fsolve: full_output=": lambda a: ours.fsolve(system, [0.5, 0.5], (a,), full_output=1),
    "minimize: constraints=": lambda a: ours.minimize(
        bowl, [0.1, 0.2], (a,), constraints={"type": "eq", "fun": sum}
    ),
    "minimize: bounds= with method='COBYLA'": lambda a: ours.minimize(
        bowl, [0.1, 0.2], (a,), "COBYLA", bounds=[(0.0, 1.0)] * 2
    ),
    "least_squares: a function as loss=": lambda a: ours.least_squares(
        lambda x: x - a, [0.0, 0.0], loss=lambda z: z
    ),
    "root: 3 equations for 2 unknowns": lambda a: ours.root(
        lambda x: [x[0] - a[0], x[1] - a[1], 0.0 * x[0]], [0.5, 0.5], method="lm"
    ).x,
    "newton: a value is complex": lambda a: ours.newton(
        lambda x: x**2 + a[0] * 1j, 1.0 + 1j
    ),
    "minimize_scalar": lambda a: ours.golden(lambda x: (x - a[0]) ** 2),
    "optimize.differential_evolution: traced": lambda a: ours.differential_evolution(
        bowl, [(0.0, 1.0)] * 2, (a,)
    ),
    "curve_fit: bounds=": lambda a: ours.curve_fit(
        lambda t, k: k * t, a, a, bounds=(0.0, 1.0)
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_refused(words):
    with pytest.raises(UnsupportedError) as caught:
        vk.jacobian(lambda a: np.sum(REFUSED[words](a)))(A)
    assert words in str(caught.value)
    assert "test_optimize.py:" in str(caught.value)


def test_what_is_no_solution_is_told():
    """Where SciPy stopped early, derivatives of solutions are those of something else."""
    early = lambda a: ours.minimize(bowl, [3.0, 3.0], (a,), options={"maxiter": 1}).x[0]
    with pytest.warns(RuntimeWarning, match="SciPy stopped .* before a solution"):
        vk.grad(early)(A)


def test_what_is_plain_and_complex_is_refused():
    with pytest.raises(UnsupportedError, match="is complex"):
        vk.grad(lambda a: abs(ours.newton(lambda x: x**2 + a, 1.0 + 1j)))(2.0)


def test_errors_are_scipys():
    with pytest.raises(ValueError, match="must have different signs"):
        vk.grad(lambda a: ours.brentq(lambda x: x - a, 2.0, 3.0))(1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        vk.grad(lambda a: ours.brentq(lambda x: x - a, 0.0, 3.0, bogus=1))(1.0)


PLAIN = {
    "BFGS", "Bounds", "BroydenFirst", "HessianUpdateStrategy", "InverseJacobian", "KrylovJacobian",
    "LbfgsInvHessProduct", "LinearConstraint", "NoConvergence", "NonlinearConstraint",
    "OptimizeResult", "OptimizeWarning", "RootResults", "SR1", "linprog_verbose_callback",
    "show_options", "test",
}  # fmt: skip


def test_every_name_is_ours_or_refuses_or_takes_no_traced_values():
    public = {n for n in dir(optimize) if not n.startswith("_")}
    modules = {n for n in public if type(getattr(optimize, n)).__name__ == "module"}
    refusing = {n for n in public if hasattr(getattr(ours, n), "__wrapped__")} - set(ours.__all__)
    assert public - modules - PLAIN - refusing == set(ours.__all__)
    assert public <= set(dir(ours))
    assert all(getattr(ours, n) is getattr(optimize, n) for n in PLAIN & public)


def test_signatures_are_scipys():
    import inspect

    for name in set(ours.__all__) - {"linear_sum_assignment"}:
        assert inspect.signature(getattr(ours, name)) == inspect.signature(getattr(optimize, name))
