"""The distributions of `vjpkit.scipy.stats`: SciPy's values, derivatives against differences."""

import pickle
import warnings
from functools import cache
from importlib import import_module

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import (
    NotDifferentiableError,
    TracerConversionError,
    UnsupportedError,
)

scipys = pytest.importorskip("scipy.stats")
from scipy.stats._distr_params import distcont, distdiscrete  # noqa: E402  # needs SciPy

ours = vk.scipy.stats
distributions = import_module("vjpkit.scipy._distributions")
DENSITIES = {"c": ("logpdf", "pdf"), "d": ("logpmf", "pmf")}
CUMULATIVES = ("cdf", "sf", "logcdf", "logsf")
QUANTILES = ("ppf", "isf")


@cache
def parameters() -> dict[str, tuple[float, ...]]:
    """SciPy's own choice of shape parameters, for each distribution."""
    found: dict[str, tuple[float, ...]] = {}
    for name, args in (*distcont, *distdiscrete):
        key = name if isinstance(name, str) else name.name
        if hasattr(scipys, key) and all(np.ndim(a) == 0 for a in args):
            found.setdefault(key, tuple(map(float, args)))
    found["kappa4"] = (0.3, 0.2)  # SciPy's values lose digits where either is nearly 0
    return found


# What has no derivative: in the density (then in location and scale, too, unless only shapes are
# named), and in the distribution function.
NO_DENSITY = {
    "dpareto_lognorm": "x u s a b", "gausshyper": "a b c", "genhyperbolic": "p",
    "geninvgauss": "p", "irwinhall": "x", "ksone": "x", "kstwo": "x", "kstwobign": "x",
    "landau": "x", "levy_stable": "x alpha beta", "ncf": "x dfn dfd nc", "nct": "x df nc",
    "nchypergeom_fisher": "odds", "nchypergeom_wallenius": "odds", "ncx2": "df",
    "skellam": "mu1 mu2", "studentized_range": "x k df", "tukeylambda": "x lam",
    "zipf": "a", "zipfian": "a",
}  # fmt: skip
NO_CUMULATIVE = {
    "betabinom": "a b", "betanbinom": "a b", "dpareto_lognorm": "u s a b",
    "gausshyper": "a b c z", "genhyperbolic": "p a b", "geninvgauss": "p b",
    "levy_stable": "alpha beta", "ncf": "dfn dfd nc", "nct": "df nc", "ncx2": "df",
    "nchypergeom_fisher": "odds", "nchypergeom_wallenius": "odds", "norminvgauss": "a b",
    "skellam": "mu1 mu2", "studentized_range": "k df",
    "tukeylambda": "lam", "vonmises": "kappa", "vonmises_line": "kappa", "zipf": "a",
    "zipfian": "a",
}  # fmt: skip


class Call:
    """A function of a distribution at its quantiles, with location and scale."""

    def __init__(self, name: str, function: str) -> None:
        self.name, self.function = name, function
        self.theirs, self.ours = getattr(scipys, name), getattr(ours, name)
        self.kind = "d" if isinstance(self.theirs, scipys.rv_discrete) else "c"
        infos = self.theirs._shape_info()
        shapes = [np.full(2, a) for a in parameters()[name]]
        probabilities = np.array([0.2, 0.83])
        first = probabilities
        loc, scale = (0.3, 1.7) if self.kind == "c" else (0.0, 1.0)
        if function not in QUANTILES:
            first = np.asarray(self.theirs.ppf(probabilities, *shapes), float) * scale + loc
        self.names = ["x", *[info.name for info in infos]]
        self.values = [first, *shapes]
        if self.kind == "c":
            self.names += ["loc", "scale"]
            self.values += [np.full(2, loc), np.full(2, scale)]
        whole = {info.name for info in infos if info.integrality}
        if self.kind == "d":
            whole |= {"x"}
        self.whole = whole & set(self.names)

    @property
    def refused(self) -> set[str]:
        """The operands in which there is no derivative."""
        if self.function in DENSITIES[self.kind]:
            refused = set(NO_DENSITY.get(self.name, "").split())
            refused |= {"loc", "scale"} if "x" in refused else set()
        else:
            refused = set(NO_CUMULATIVE.get(self.name, "").split())
        return refused | self.whole

    def at(self, function, i: int, x):
        return function(*self.values[:i], x, *self.values[i + 1 :])

    def total(self, function, i: int):
        """The sum over the elements, as a function of one operand."""
        return lambda x: np.sum(self.at(function, i, x))

    def plain(self, *xs):
        with np.errstate(all="ignore"):
            return np.asarray(getattr(self.theirs, self.function)(*xs), float)


NAMES = sorted(parameters())


@pytest.mark.parametrize("name", [n for n in NAMES if n != "studentized_range"])  # seconds per call
def test_derivatives_against_differences(name):
    kind = "d" if isinstance(getattr(scipys, name), scipys.rv_discrete) else "c"
    functions = (*DENSITIES[kind], *CUMULATIVES, *(QUANTILES if kind == "c" else ()))
    for function in functions:
        call = Call(name, function)
        method = getattr(call.ours, function)
        for i, (operand, x) in enumerate(zip(call.names, call.values, strict=True)):
            where = f"{name}.{function} in {operand}"
            differentiated = call.total(method, i)
            if operand in call.refused:
                with pytest.raises(NotDifferentiableError, match=f"scipy.stats.{name}"):
                    vk.grad(differentiated)(x)
                continue
            value, got = vk.value_and_grad(differentiated)(x)
            assert value == pytest.approx(np.sum(call.plain(*call.values)), rel=1e-12), where
            h = 1e-5 * min(1, max(1e-3, abs(x[0])))
            ahead, back = [call.at(call.plain, i, x + s * h) for s in (1, -1)]
            with np.errstate(invalid="ignore"):  # log 0 less log 0, at the end of the support
                want = (ahead - back) / (2 * h)
            finite = np.isfinite(want)
            assert got[finite] == pytest.approx(want[finite], rel=3e-4, abs=1e-5), where


def test_every_refusal_is_of_a_distribution_that_scipy_has():
    assert {*NO_DENSITY, *NO_CUMULATIVE} - {"dpareto_lognorm", "landau"} <= set(NAMES)


MOMENTS = ["beta", "chi2", "fisk", "gamma", "genextreme", "gumbel_r", "invgamma", "invgauss"]
MOMENTS += ["laplace_asymmetric", "lognorm", "lomax", "ncx2", "pareto", "pearson3", "skewnorm"]
MOMENTS += ["t", "triang", "weibull_min", "expon", "norm"]
REFUSED = {("invgauss", "entropy", 0), ("skewnorm", "entropy", 0), ("ncx2", "entropy", 0)}
REFUSED |= {("ncx2", "median", 0)}
"""Distribution, moment, and the number of the shape parameter."""


CALLS = [
    (name, moment) for name in MOMENTS for moment in ("mean", "var", "std", "entropy", "median")
]
CALLS += [
    (name, moment) for name in ("poisson", "binom", "geom") for moment in ("mean", "var", "std")
]


@pytest.mark.parametrize(("name", "moment"), CALLS)
def test_moments(name, moment):
    discrete = isinstance(getattr(scipys, name), scipys.rv_discrete)
    other = {"t": (4.5,), "genextreme": (-0.1,), "invgamma": (4.07,), "lomax": (2.6,)}
    shapes = other.get(name, parameters()[name])
    values = [*shapes, 0.4] if discrete else [*shapes, 0.4, 1.3]
    whole = [info.integrality for info in getattr(scipys, name)._shape_info()]
    f, plain = getattr(getattr(ours, name), moment), getattr(getattr(scipys, name), moment)
    for i in range(len(values)):
        if i < len(shapes) and (whole[i] or (name, moment, i) in REFUSED):
            with pytest.raises(NotDifferentiableError, match=f"scipy.stats.{name}"):
                vk.grad(lambda x, i=i: f(*values[:i], x, *values[i + 1 :]))(values[i])
            continue
        at = lambda x, i=i, g=f: g(*values[:i], x, *values[i + 1 :])
        value, got = vk.value_and_grad(at)(values[i])
        assert value == pytest.approx(plain(*values), rel=1e-12)
        ahead, back = [at(values[i] + s * 1e-5, g=plain) for s in (1, -1)]
        assert got == pytest.approx((ahead - back) / 2e-5, rel=1e-4, abs=1e-7)


SLOW = {"argus", "exponnorm", "recipinvgauss", "rel_breitwigner", "foldcauchy"}
"""SciPy looks for their quantiles one by one, for seconds."""


def shaped() -> list[str]:
    """The continuous distributions whose quantiles have derivatives in all their shapes."""
    continuous = [n for n in NAMES if isinstance(getattr(scipys, n), scipys.rv_continuous)]
    kept = [n for n in continuous if n not in NO_CUMULATIVE and n not in NO_DENSITY]
    return [n for n in kept if n not in {"erlang", *SLOW} and getattr(scipys, n).numargs]


@pytest.mark.parametrize("name", shaped())
def test_moments_do_not_depend_on_where_the_integrand_is_evaluated(name, monkeypatch):
    """Other places give the same derivatives, or there are none."""
    shapes = parameters()[name]
    for moment in ("mean", "var", "entropy"):
        at = lambda s, moment=moment: getattr(getattr(ours, name), moment)(*s)
        if name in distributions.INEXACT[moment]:
            with pytest.raises(NotDifferentiableError, match="no formula"):
                vk.grad(at)(shapes)
            continue
        first = vk.grad(at)(shapes)
        if not np.isfinite(at(shapes)):
            assert np.isnan(first).all()
            continue
        with monkeypatch.context() as patch:
            u = distributions._U + 0.4 * distributions._STEP
            s = np.exp(u - np.exp(-u))
            q = 0.5 * np.exp(-s)
            patch.setattr(distributions, "_Q", q)
            weights = np.tile(q * s * (1 + np.exp(-u)) * distributions._STEP, 2)
            patch.setattr(distributions, "_WEIGHTS", weights)
            assert vk.grad(at)(shapes) == pytest.approx(first, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("function", ["logpdf", "cdf", "logsf", "ppf"])
@pytest.mark.parametrize("name", ["gamma", "t", "beta", "norm", "genpareto"])
def test_second_order_batched_and_staged(name, function):
    call = Call(name, function)
    f = getattr(call.ours, function)
    xs = tuple(call.values)
    vk.test_util.check_grads(f, xs, order=2, atol=1e-4, rtol=1e-4)
    each = np.stack([f(*[x[k] for x in xs]) for k in range(2)])
    assert vk.vmap(f)(*xs) == pytest.approx(each, rel=1e-14)
    loss = lambda *xs: np.sum(f(*xs) ** 2)
    numbers = tuple(range(len(xs)))
    for got, want in zip(
        vk.jit(vk.grad(loss, numbers))(*xs), vk.grad(loss, numbers)(*xs), strict=True
    ):
        assert got == pytest.approx(want, rel=1e-12)


def test_plain_arguments_are_scipys_business():
    x = np.array([0.3, -1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(ours.gamma.logpdf(x, 2.0), scipys.gamma.logpdf(x, 2.0))
    assert (ours.gamma.numargs, ours.norm.name) == (1, "norm")
    assert ours.norm.moment(4) == pytest.approx(3)
    assert ours.zscore is scipys.zscore
    assert set(dir(scipys)) - set(dir(ours)) <= {n for n in dir(scipys) if n.startswith("_")}


def test_support_and_invalid_parameters():
    x = np.array([-1.0, 0.5])
    density, slope = vk.jvp(lambda x: ours.expon.logpdf(x), (x,), (np.ones(2),))
    assert np.array_equal([density, slope], [[-np.inf, -0.5], [0.0, -1.0]])
    value, gradient = vk.value_and_grad(lambda a: ours.gamma.pdf(1.0, a))(-1.0)
    assert [value, gradient] == pytest.approx([np.nan, 0.0], nan_ok=True)
    assert np.isnan(vk.jvp(lambda s: ours.norm.pdf(0.0, scale=s), (-1.0,), (1.0,))[0])


def test_arrays_of_objects_are_stacked():
    x = np.array([1.0, 2.0])
    value, slope = vk.value_and_grad(lambda a: np.sum(ours.gamma.logpdf(x, np.array([a, 2 * a]))))(
        1.5
    )
    each = vk.grad(lambda a: np.sum(ours.gamma.logpdf(x, a)))(np.array([1.5, 3.0]))
    assert value == pytest.approx(np.sum(scipys.gamma.logpdf(x, [1.5, 3.0])))
    assert slope == pytest.approx(each @ [1.0, 2.0])


def test_frozen():
    grad = vk.grad(lambda p: np.sum(ours.gamma(p["a"], scale=p["s"]).logpdf([1.0, 2.0])))
    got = grad({"a": 2.0, "s": 1.5})
    want = vk.grad(lambda a, s: np.sum(ours.gamma.logpdf(np.array([1.0, 2.0]), a, 0, s)), (0, 1))
    assert [got["a"], got["s"]] == pytest.approx(want(2.0, 1.5))
    assert ours.norm(0.0, 2.0).interval(0.5) == pytest.approx(scipys.norm(0.0, 2.0).interval(0.5))
    assert repr(ours.norm(1.0, scale=2.0)) == "<vjpkit.scipy.stats.norm>(1.0, scale=2.0)"
    assert pickle.loads(pickle.dumps(ours.norm)) is ours.norm


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("binom", (5.0, 0.4)), ("nbinom", (5.0, 0.4)), ("bernoulli", (0.3,)), ("dlaplace", (0.8,))],
)
def test_counts_between_whole_numbers_are_rounded_down(name, shapes):
    cdf = getattr(ours, name).cdf
    at = lambda k: vk.grad(lambda p: cdf(k, *shapes[:-1], p))(shapes[-1])
    assert at(0.7) == at(0.0) != 0


def test_complex_numbers_are_refused():
    for wrong in (lambda x: ours.norm.logpdf(x), lambda x: ours.gamma.logpdf(1.0, 2.0, 0.0, x)):
        with pytest.raises(TypeError, match=r"distributions are of real numbers, got c128\[2\]"):
            vk.jvp(wrong, (np.array([1j, 2.0]),), (np.ones(2, complex),))


def test_frozen_distributions_have_scipys_own_methods():
    assert ours.gamma(2.0).stats("mv") == scipys.gamma(2.0).stats("mv")
    assert ours.gamma(2.0).expect(lambda x: x) == pytest.approx(2.0)
    assert np.array_equal(ours.multivariate_normal(MEAN, SPD).mean, MEAN)
    assert vk.grad(ours.gamma(2.0).logpdf)(1.0) == pytest.approx(0.0)
    for make in (ours.gamma, scipys.gamma):
        with pytest.raises(TypeError, match="missing 1 required"):
            make()


def test_arguments_that_scipy_refuses():
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        vk.grad(lambda s: ours.norm.interval(1.5, 0.0, s)[0])(1.0)
    with pytest.raises(ValueError, match="normal simplex"):
        vk.grad(lambda a: ours.dirichlet.logpdf([0.5, 0.9], a))(np.ones(2))
    with pytest.raises(ValueError, match="freedom"):
        vk.grad(lambda d: ours.wishart.logpdf(SPD, d, SPD))(1.0)
    assert vk.value_and_grad(lambda s: ours.norm.nnlf((0.0, s), np.ones(3)))(-1.0) == (np.inf, 0)
    wrong = np.array([1.5, -0.5])
    assert np.isnan(vk.jvp(lambda p: ours.multinomial.logpmf([2, 0], 2, p), (wrong,), (wrong,))[0])


def test_integrals_that_are_not_exact_are_told_in_compiled_programs():
    variance = lambda df: ours.t.var(df)
    with pytest.raises(NotDifferentiableError, match=r"t\.var: the integral.*not exact enough"):
        vk.grad(variance)(2.05)
    with pytest.warns(RuntimeWarning, match=r"t\.var: the integral"):
        vk.jit(vk.grad(variance))(2.05)


def test_samples_move_as_their_quantiles_do():
    at = lambda a, scale: ours.gamma.rvs(a, scale=scale, size=5, random_state=3)
    value, slope = vk.jvp(at, (2.0, 1.5), (1.0, 0.0))
    assert np.array_equal(value, scipys.gamma.rvs(2.0, scale=1.5, size=5, random_state=3))
    q = scipys.gamma.cdf(value, 2.0, scale=1.5)
    moved = [scipys.gamma.ppf(q, 2.0 + s * 1e-5, scale=1.5) for s in (1, -1)]
    assert slope == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-6)
    for transform in (vk.jit, vk.vmap):
        with pytest.raises(UnsupportedError, match=r"gamma\.rvs: drawing with parameters"):
            transform(lambda a: ours.gamma.rvs(a, size=3))(np.ones(2))
    with pytest.raises(UnsupportedError, match=r"poisson\.rvs.*whole numbers"):
        vk.grad(lambda mu: ours.poisson.rvs(mu))(2.0)


def test_what_takes_no_traced_values_says_so():
    with pytest.raises(UnsupportedError, match=r"(?s)norm\.expect: this method is not.*entropy"):
        vk.grad(lambda s: ours.norm.expect(lambda x: x, scale=s))(1.0)
    with pytest.raises(AttributeError, match="gama"):
        _ = ours.gama
    with pytest.raises(TypeError, match="argument"):
        vk.grad(lambda x: ours.gamma.pdf(x))(1.0)


# ------------------------------------------------------------------------------ several variables

SPD = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 1.5]])
POINTS = np.array([[0.3, -0.2, 0.9], [1.0, 0.4, -0.5]])
MEAN = np.array([0.1, 0.2, -0.3])
SHARES = np.array([0.2, 0.5, 0.3])
WISHARTS = np.stack([SPD, SPD @ SPD / 3], axis=-1)

SEVERAL = [
    ("multivariate_normal", "logpdf", (POINTS, MEAN, SPD), {}),
    ("multivariate_normal", "pdf", (POINTS[0], MEAN, SPD), {}),
    ("multivariate_normal", "logpdf", (POINTS, MEAN, np.array([1.0, 2.0, 0.5])), {}),
    ("multivariate_normal", "logpdf", (POINTS[:, 0], 0.3, 2.0), {}),
    ("multivariate_normal", "logpdf", (0.7, 0.3, 2.0), {}),
    ("multivariate_normal", "logpdf", (POINTS, MEAN, SPD), {"allow_singular": True}),
    ("multivariate_normal", "entropy", (MEAN, SPD), {}),
    ("multivariate_t", "logpdf", (POINTS, MEAN, SPD, 3.5), {}),
    ("multivariate_t", "pdf", (POINTS, MEAN, SPD, 3.5), {}),
    ("dirichlet", "logpdf", (SHARES[:2], np.array([1.5, 2.0, 0.7])), {}),
    ("dirichlet", "pdf", (SHARES[:2], np.array([1.5, 2.0, 0.7])), {}),
    ("dirichlet", "mean", (np.array([1.5, 2.0, 0.7]),), {}),
    ("dirichlet", "var", (np.array([1.5, 2.0, 0.7]),), {}),
    ("dirichlet", "cov", (np.array([1.5, 2.0, 0.7]),), {}),
    ("dirichlet", "entropy", (np.array([1.5, 2.0, 0.7]),), {}),
    ("wishart", "logpdf", (WISHARTS, 5.5, SPD), {}),
    ("wishart", "pdf", (SPD, 5.5, SPD), {}),
    ("invwishart", "logpdf", (WISHARTS, 5.5, SPD), {}),
    ("matrix_normal", "logpdf", (POINTS, POINTS / 3, SPD[:2, :2], SPD), {}),
    ("matrix_normal", "pdf", (np.stack([POINTS, 2 * POINTS]), POINTS / 3, 1.5, SPD), {}),
]


@pytest.mark.parametrize(("name", "function", "args", "kwds"), SEVERAL)
def test_several_variables(name, function, args, kwds):
    turned = [np.swapaxes(x, 0, 1) if np.ndim(x) > 1 else x for x in args]
    symmetric = [np.ndim(x) > 1 and np.array_equal(x, y) for x, y in zip(args, turned, strict=True)]
    even = lambda x: (x + np.swapaxes(x, 0, 1)) / 2
    f = lambda *xs: getattr(getattr(ours, name), function)(
        *[even(x) if s else x for x, s in zip(xs, symmetric, strict=True)], **kwds
    )
    value, _ = vk.jvp(f, args, tuple(np.zeros_like(x) for x in args))
    want = getattr(getattr(scipys, name), function)(*args, **kwds)
    assert np.shape(value) == np.shape(want)
    assert value == pytest.approx(want, rel=1e-12)
    vk.test_util.check_grads(f, args, order=2, atol=1e-4, rtol=1e-4)
    if kwds:  # the rank is a number
        with pytest.raises(TracerConversionError):
            vk.jit(f)(*args)
    else:
        assert vk.jit(f)(*args) == pytest.approx(want, rel=1e-12)


def test_covariance_objects_and_infinitely_many_degrees_of_freedom():
    cov = scipys.Covariance.from_diagonal([1.0, 2.0, 0.5])
    at = lambda x: ours.multivariate_normal.logpdf(x, MEAN, cov)
    value, gradient = vk.value_and_grad(at)(POINTS[0])
    assert value == pytest.approx(scipys.multivariate_normal.logpdf(POINTS[0], MEAN, cov))
    assert gradient == pytest.approx((MEAN - POINTS[0]) / [1.0, 2.0, 0.5])
    value = vk.value_and_grad(lambda x: ours.multivariate_t.logpdf(x, MEAN, SPD, np.inf))(
        POINTS[0]
    )[0]
    assert value == pytest.approx(scipys.multivariate_t.logpdf(POINTS[0], MEAN, SPD, np.inf))


def test_multinomial():
    x, n = np.array([[2, 3, 1], [0, 0, 6], [1, 1, 1]]), 6
    f = lambda p: ours.multinomial.logpmf(x, n, p)
    value, slope = vk.jvp(f, (SHARES,), (np.array([1.0, 0.0, 0.0]),))
    assert value == pytest.approx(scipys.multinomial.logpmf(x, n, SHARES), rel=1e-14)
    moved = [
        scipys.multinomial.logpmf(x[:2], n, SHARES + np.array([h, 0, -h])) for h in (1e-6, -1e-6)
    ]
    assert slope == pytest.approx([*(moved[0] - moved[1]) / 2e-6, 0.0], rel=1e-6)
    assert vk.grad(lambda p: ours.multinomial.pmf(x[0], n, p))(SHARES).shape == (3,)


def test_singular_covariances():
    cov = np.array([[1.0, 1.0], [1.0, 1.0]])
    at = lambda x, cov: ours.multivariate_normal.logpdf(x, cov=cov, allow_singular=True)
    on, off = np.array([0.5, 0.5]), np.array([0.5, 0.6])
    assert vk.jvp(at, (on, cov), (on * 0, cov * 0))[0] == scipys.multivariate_normal.logpdf(
        on, cov=cov, allow_singular=True
    )
    assert vk.jvp(at, (off, cov), (on * 0, cov * 0))[0] == -np.inf
    assert vk.grad(lambda s: at(on, s * cov))(1.0) == pytest.approx(-0.5 + 0.5 * 0.25)
    with pytest.raises(np.linalg.LinAlgError):
        vk.grad(lambda s: ours.multivariate_normal.logpdf(on, cov=s * cov))(1.0)


def test_bad_arguments_of_several_variables():
    with pytest.raises(ValueError, match=r"multivariate_normal: a location of shape \(3,\) and a"):
        vk.grad(lambda m: ours.multivariate_normal.logpdf(POINTS[0], m, SPD[:2, :2]))(MEAN)
    with pytest.raises(ValueError, match=r"dirichlet: 3 components do not fit 2 parameters"):
        vk.jit(lambda a: ours.dirichlet.logpdf(SHARES, a))(np.ones(2))
    with pytest.raises(ValueError, match="same number of entries"):  # SciPy's words
        vk.grad(lambda a: ours.dirichlet.logpdf(SHARES, a))(np.ones(2))
    with pytest.raises(UnsupportedError, match=r"wishart\.entropy: this method is not"):
        vk.grad(lambda d: ours.wishart.entropy(d, SPD))(5.0)
