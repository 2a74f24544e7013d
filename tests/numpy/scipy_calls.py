"""SciPy's functions that take arrays of any library, on traced values: run by `test_scipy`.

SciPy looks at ``SCIPY_ARRAY_API`` when it is imported, so this is a program of its own. It prints
one line of JSON for each call: its name, and what is wrong with it.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

R = np.random.default_rng(0)
X = R.normal(size=12)
Y = 0.5 * X + R.normal(size=12)
LONG = R.normal(size=30)
P = R.uniform(0.5, 3, size=12)
Q = R.uniform(0.2, 2, size=12)
M = R.normal(size=(4, 5))
EVERY_OTHER = np.arange(12) % 2 == 0


def kin(x: Any, y: Any) -> Any:
    """``y`` as an array of the kind of ``x``, as SciPy wants all of a call."""
    return x.__array_namespace__().asarray(y)


CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    # special functions: code over s = scipy.special, and arguments
    "logsumexp": ("s.logsumexp(x)", (X,)),
    "logsumexp-axis": ("s.logsumexp(x, axis=0, keepdims=True)", (M,)),
    "logsumexp-weights": ("s.logsumexp(x, b=y)", (X, Q)),
    "softmax": ("s.softmax(x)", (X,)),
    "softmax-axis": ("s.softmax(x, axis=1)", (M,)),
    "log_softmax": ("s.log_softmax(x, axis=1)", (M,)),
    **{
        name: (f"s.{name}(x)", (x,))
        for names, x in (
            ("erf erfc erfcx i0 i0e i1 i1e ndtr log_ndtr exp2 expm1 cbrt sinc j0 j1 exprel expit "
             "sindg cosdg tandg cosm1", X),
            ("gammaln digamma gamma rgamma loggamma entr exp1 expi log1p k0 k0e k1 k1e psi spence "
             "y0 y1", P),
            ("logit ndtri erfinv ellipk ellipkm1", Q / 3),
        )
        for name in names.split()
    },
    **{
        name: (f"s.{name}(x, y)", (P, Q))
        for name in (
            "xlogy", "xlog1py", "rel_entr", "kl_div", "betaln", "binom", "poch", "huber",
            "pseudo_huber", "boxcox", "boxcox1p",
        )
    },
    "polygamma": ("s.polygamma(1, x)", (P,)),
    "multigammaln": ("s.multigammaln(x + 3, 2)", (P,)),
    **{
        name: (f"s.{name}({', '.join(['2.', '3.', '4.'][: count - 1])}, x)", (x,))
        for names, count, x in (
            ("gammainc gammaincc chdtr chdtrc stdtr pdtr pdtrc", 2, P),
            ("gammaincinv gammainccinv chdtri stdtrit", 2, Q / 3),
            ("fdtr fdtrc gdtr gdtrc", 3, P),
            ("betainc betaincc betaincinv fdtri", 3, Q / 3),
        )
        for name in names.split()
    },
    # statistics
    **{
        name: (f"st.{name}(x)", (x,))
        for names, x in (
            ("zscore skew kurtosis sem tmean tvar tstd iqr circmean circvar circstd "
             "differential_entropy kstat kstatvar median_abs_deviation lmoment", X),
            ("gmean hmean variation entropy gzscore gstd", P),
        )
        for name in names.split()
    },
    "moment": ("st.moment(x, order=3)", (X,)),
    "pmean": ("st.pmean(x, 3)", (P,)),
    "trim_mean": ("st.trim_mean(x, 0.1)", (X,)),
    "zmap": ("st.zmap(x, y)", (X, Y)),
    "quantile": ("st.quantile(x, 0.3)", (X,)),
    "entropy-relative": ("st.entropy(x, y)", (P, Q)),
    "gmean-weights": ("st.gmean(x, weights=kin(x, Q))", (P,)),
    "describe": ("st.describe(x).variance", (X,)),
    "boxcox_llf": ("st.boxcox_llf(0.7, x)", (P,)),
    "yeojohnson_llf": ("st.yeojohnson_llf(0.7, x)", (P,)),
    "combine_pvalues": ("st.combine_pvalues(x)[:2]", (Q / 3,)),
    "pointbiserialr": ("st.pointbiserialr(kin(x, EVERY_OTHER), x)[:2]", (Y,)),
    **{
        name: (f"st.{name}(x)[:2]", (x,))
        for name, x in (
            ("skewtest", X), ("kurtosistest", LONG), ("normaltest", LONG), ("jarque_bera", X),
            ("power_divergence", P), ("chisquare", P),
        )
    },
    "ttest_1samp": ("st.ttest_1samp(x, 0.3)[:2]", (X,)),
    "pearsonr": ("(lambda r: (r.statistic, r.pvalue))(st.pearsonr(x, y))", (X, Y)),
    **{
        name: (f"st.{name}(x, y)[:2]", (X, Y))
        for name in ("ttest_ind", "ttest_rel", "bartlett", "f_oneway", "levene", "spearmanr")
    },
    # signals, transforms, integrals
    "fftconvolve": ("sg.fftconvolve(x, y)", (X, Y)),
    "fftconvolve-same": ("sg.fftconvolve(x, kin(x, Y[:4]), mode='same')", (X,)),
    "oaconvolve": ("sg.oaconvolve(x, y)", (X, Y[:3])),
    "convolve": ("sg.convolve(x, y)", (X, Y)),
    "convolve-direct": ("sg.convolve(x, y, method='direct')", (X, Y)),
    "correlate": ("sg.correlate(x, y)", (X, Y)),
    "detrend-constant": ("sg.detrend(x, type='constant')", (X,)),
    "hilbert": ("abs(sg.hilbert(x))", (X,)),
    "resample": ("sg.resample(x, 8)", (X,)),
    **{
        f"fft.{name}": (f"abs(f.{name}(x))", (x,))
        for names, x in (
            ("fft ifft rfft irfft hfft ihfft fftshift", X), ("fft2 fftn rfftn irfftn", M),
        )
        for name in names.split()
    },
    "fft.fht": ("f.fht(x, 0.1, 0.5)", (X,)),
    "trapezoid": ("i.trapezoid(x, dx=0.1)", (X,)),
    "trapezoid-points": ("i.trapezoid(x, y)", (X, np.cumsum(P))),
    "cumulative_trapezoid": ("i.cumulative_trapezoid(x)", (X,)),
    "cumulative_trapezoid-initial": ("i.cumulative_trapezoid(x, initial=0)", (X,)),
    "simpson": ("i.simpson(x, dx=0.1)", (X,)),
    "cumulative_simpson": ("i.cumulative_simpson(x)", (X,)),
    "romb": ("i.romb(x)", (X[:9],)),
    # and others
    "whiten": ("vq.whiten(x)", (M,)),
    "rosen": ("o.rosen(x)", (X,)),
    "rosen_der": ("o.rosen_der(x)", (X,)),
    "rotation": ("Rotation.from_rotvec(x[:3]).apply(x[3:6])", (X,)),
    "rotation-matrix": ("Rotation.from_rotvec(x[:3]).as_matrix()", (X,)),
}  # fmt: skip
"""Code that calls SciPy with x and y, and the arguments it is differentiated in."""


def functions() -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    import scipy.cluster.vq as vq
    import scipy.fft as f
    import scipy.integrate as i
    import scipy.optimize as o
    import scipy.signal as sg
    import scipy.special as s
    import scipy.stats as st
    from scipy.spatial.transform import Rotation

    names = {**globals(), "vq": vq, "f": f, "i": i, "o": o, "sg": sg, "s": s, "st": st,
             "Rotation": Rotation}  # fmt: skip
    for name, (code, args) in CALLS.items():
        yield name, eval(f"lambda {', '.join('xy'[: len(args)])}: {code}", names), args


def check(f: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Values are those of plain arrays; derivatives agree with differences, and in both modes."""
    import vjpkit as vk

    wanted = vk.tree_util.tree_leaves(f(*args))
    got = vk.tree_util.tree_leaves(vk.vjp(lambda *xs: vk.tree_util.tree_leaves(f(*xs)), *args)[0])
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        assert np.asarray(a).dtype == np.asarray(b).dtype
    vk.test_util.check_grads(lambda *xs: vk.tree_util.tree_leaves(f(*xs)), args, order=1)


def main() -> None:
    assert os.environ["SCIPY_ARRAY_API"] == "1"
    warnings.simplefilter("ignore")
    for name, f, args in functions():
        try:
            check(f, args)
            wrong = ""
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        print(json.dumps([name, wrong]), flush=True)


if __name__ == "__main__":
    main()
