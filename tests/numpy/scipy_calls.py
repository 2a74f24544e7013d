"""SciPy's functions that take arrays of any library, on traced values: run by `test_scipy`.

SciPy looks at ``SCIPY_ARRAY_API`` when it is imported, so this is a program of its own. It prints
one line of JSON for each call: its name, and what is wrong with it. SciPy's own table of what takes
such arrays says which functions there must be here.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

import vjpkit as vk
from vjpkit.core.errors import TracerConversionError, UnsupportedError

VERSION = tuple(map(int, version("scipy").split(".")[:2]))

R = np.random.default_rng(0)
X = R.normal(size=12)
Y = 0.5 * X + R.normal(size=12)
LONG = R.normal(size=30)
P = R.uniform(0.5, 3, size=12)
Q = R.uniform(0.2, 2, size=12)
M = R.normal(size=(4, 5))
SQUARE = R.normal(size=(5, 5))
IMAGE = R.normal(size=(6, 7))
COORDINATES = R.uniform(0, 4, size=(2, 5))
DISTANCES = R.uniform(size=6)
EVERY_OTHER = np.arange(12) % 2 == 0
LINKAGE = np.array([[0.0, 1.0, 0.5, 2.0], [2.0, 3.0, 0.8, 2.0], [4.0, 5.0, 1.4, 4.0]])
SECTIONS = np.array([[1.0, 0.5, 0.2, 1.0, -0.4, 0.3], [1.0, 0.1, 0.3, 1.0, 0.2, 0.1]])
B, A = np.array([1.0, 0.4, 0.3]), np.array([1.0, -0.5, 0.2])
ZEROS, POLES = np.array([0.3, -0.2]), np.array([-0.5, -0.7])
ONE = np.array([0.45])
EDGE = np.array([0.25])
POINTS = np.arange(12.0)


def kin(x: Any, y: Any) -> Any:
    """``y`` as an array of the kind of ``x``, as SciPy wants all of a call."""
    return x.__array_namespace__().asarray(y)


Row = tuple[str, str, str, Sequence[Any]]
"""A module of SciPy's, names of functions in it, code that calls one of them, ``{}``, with x and y,
and the arguments that it is differentiated in. After a colon stands what tells one call of a
function from another."""

DIFFERENTIABLE: list[Row] = [
    ("special", "logsumexp softmax erf erfc erfcx i0 i0e i1 i1e ndtr log_ndtr exp2 cbrt sinc j0 j1 "
     "exprel expit sindg cosdg tandg cosm1", "{}(x)", [X]),
    ("special", "gammaln digamma gamma rgamma loggamma entr exp1 exp10 expi k0 k0e k1 k1e psi "
     "spence y0 y1 cotdg gammasgn", "{}(x)", [P]),
    ("special", "logit ndtri erfinv ellipk ellipkm1", "{}(x)", [Q / 3]),
    ("special", "logsumexp:axis", "{}(x, axis=0, keepdims=True)", [M]),
    ("special", "logsumexp:weights", "{}(x, b=y)", [X, Q]),
    ("special", "log_softmax softmax:axis", "{}(x, axis=1)", [M]),
    ("special", "xlogy xlog1py rel_entr kl_div betaln binom poch huber pseudo_huber boxcox "
     "boxcox1p", "{}(x, y)", [P, Q]),
    ("special", "inv_boxcox inv_boxcox1p", "{}(x, y)", [P, Q / 3]),
    ("special", "radian", "{}(x, y, 2.0)", [P, Q]),
    ("special", "polygamma", "{}(1, x)", [P]),
    ("special", "multigammaln", "{}(x + 3, 2)", [P]),
    ("special", "gammainc gammaincc chdtr chdtrc stdtr pdtr pdtrc expn yn", "{}(2, x)", [P]),
    ("special", "gammaincinv gammainccinv chdtri stdtrit pdtri", "{}(2, x)", [Q / 3]),
    ("special", "fdtr fdtrc gdtr gdtrc", "{}(2.0, 3.0, x)", [P]),
    ("special", "betainc betaincc betaincinv fdtri hyp1f1", "{}(2.0, 3.0, x)", [Q / 3]),
    ("special", "bdtr bdtrc bdtri nbdtr nbdtrc nbdtri", "{}(2, 5, x)", [Q / 3]),
    ("special", "lpmv", "{}(1, 2.5, x)", [Q / 3]),
    ("special", "zeta", "{}(2.5, x)", [P]),
    ("stats", "zscore skew kurtosis sem tmean tvar tstd tsem tmin tmax iqr circmean circvar "
     "circstd differential_entropy kstat kstatvar median_abs_deviation lmoment mstats.zscore",
     "{}(x)", [X]),
    ("stats", "gmean hmean variation entropy gzscore gstd mstats.gmean mstats.hmean", "{}(x)", [P]),
    ("stats", "moment", "{}(x, order=3)", [X]),
    ("stats", "pmean", "{}(x, 3)", [P]),
    ("stats", "trim_mean", "{}(x, 0.1)", [X]),
    ("stats", "zmap mstats.zmap", "{}(x, y)", [X, Y]),
    ("stats", "quantile", "{}(x, 0.3)", [X]),
    ("stats", "entropy:relative", "{}(x, y)", [P, Q]),
    ("stats", "gmean:weights", "{}(x, weights=kin(x, Q))", [P]),
    ("stats", "describe", "{}(x).variance", [X]),
    ("stats", "sigmaclip", "{}(x).clipped", [X]),
    ("stats", "directional_stats", "{}(x).mean_direction", [M]),
    ("stats", "boxcox_llf yeojohnson_llf", "{}(0.7, x)", [P]),
    ("stats", "combine_pvalues", "{}(x)[:2]", [Q / 3]),
    ("stats", "false_discovery_control", "{}(x)", [Q / 3]),
    ("stats", "skewtest jarque_bera", "{}(x)[:2]", [X]),
    ("stats", "kurtosistest normaltest", "{}(x)[:2]", [LONG]),
    ("stats", "power_divergence chisquare mstats.chisquare", "{}(x)[:2]", [P]),
    ("stats", "ttest_1samp", "{}(x, 0.3)[:2]", [X]),
    ("stats", "ttest_ind ttest_rel bartlett f_oneway levene", "{}(x, y)[:2]", [X, Y]),
    ("stats", "pearsonr alexandergovern ansari brunnermunzel chatterjeexi cramervonmises_2samp "
     "kruskal mannwhitneyu mood epps_singleton_2samp spearmanrho",
     "tested({}(x, y))", [X, Y]),
    ("stats", "friedmanchisquare", "tested({}(x, y, x * y))", [X, Y]),
    ("stats", "ttest_ind_from_stats", "{}(x[0], y[0], 12, x[1], y[1], 10)[:2]", [X, P]),
    ("stats", "mode", "{}(x).mode", [X]),
    ("stats", "bootstrap", "{}((x,), lambda t, axis: (t * t).mean(axis=axis), n_resamples=20, "
     "rng=0, method='percentile').standard_error", [X]),
    ("stats", "monte_carlo_test",
     "{}(x, drawn(x), lambda t, axis: t.mean(axis=axis), n_resamples=20).statistic", [X]),
    ("stats", "permutation_test", "{}((x, y), lambda a, b, axis: a.mean(axis=axis) - "
     "b.mean(axis=axis), n_resamples=20, rng=0).statistic", [X, Y]),
    ("stats", "power", "{}(import_module('scipy.stats').ttest_1samp, drawn(x), 8, n_resamples=4, "
     "kwargs={{'popmean': x[0]}}).power", [X]),
    ("signal", "fftconvolve convolve correlate", "{}(x, y)", [X, Y]),
    ("signal", "oaconvolve", "{}(x, y)", [X, Y[:3]]),
    ("signal", "fftconvolve:same", "{}(x, kin(x, Y[:4]), mode='same')", [X]),
    ("signal", "convolve:direct", "{}(x, y, method='direct')", [X, Y]),
    ("signal", "detrend:constant", "{}(x, type='constant')", [X]),
    ("signal", "hilbert", "abs({}(x))", [X]),
    ("signal", "hilbert2", "abs({}(x))", [IMAGE]),
    ("signal", "envelope", "{}(x)", [X]),
    ("signal", "minimum_phase", "{}(x, n_fft=64)", [P[:7]]),
    ("signal", "resample", "{}(x, 8)", [X]),
    ("signal", "vectorstrength", "{}(x, 1.3)", [X]),
    ("signal", "gauss_spline", "{}(x, 3)", [X]),
    ("signal", "wiener", "{}(x, noise=0.05)", [X]),
    ("signal", "freqz", "abs({}(x, y, worN=8)[1])", [B, A]),
    ("signal", "freqs", "abs({}(x, y, worN=kin(x, P[:3]))[1])", [B, A]),
    ("signal", "freqz_zpk", "abs({}(x, y, 1.5, worN=8)[1])", [ZEROS, POLES]),
    ("signal", "freqs_zpk", "abs({}(x, y, 1.5, worN=kin(x, P[:3]))[1])", [ZEROS, POLES]),
    ("signal", "freqz_sos sosfreqz", "abs({}(sections(x), worN=8)[1])", [ONE]),
    ("signal", "group_delay", "{}((x, y), w=8)[1]", [B, A]),
    ("signal", "bode", "{}((x, y))[1]", [B, A]),
    ("signal", "abcd_normalize", "{}(x, y[:, :1], y[:1, :], y[:1, :1])[0]", [SQUARE, SQUARE]),
    ("signal", "bilinear_zpk", "absolutes({}(x, y, 1.0, 1.0))", [ZEROS, POLES]),
    ("signal", "lp2bp lp2bs", "{}(x, y)", [B, A]),
    ("signal", "lp2hp lp2lp", "{}(x, y, 1.3)", [B, A]),
    ("signal", "lp2bp_zpk", "absolutes({}(x, y, 1.0))", [ZEROS, POLES]),
    ("signal", "lp2bs_zpk", "abs({}(x, y, 1.0)[2])", [ZEROS, POLES]),
    ("signal", "lp2hp_zpk lp2lp_zpk", "absolutes({}(x, y, 1.0, 1.3))", [ZEROS, POLES]),
    ("signal", "normalize", "{}(x, y)", [B, 2 * A]),
    ("signal", "sos2tf", "{}(x)", [SECTIONS]),
    ("signal", "sos2zpk", "absolutes({}(x))", [SECTIONS]),
    ("signal", "tf2zpk", "absolutes({}(x, y))", [B, A]),
    ("signal", "zpk2tf", "{}(x, y, 1.5)", [ZEROS, POLES]),
    ("signal", "lfiltic", "{}(x, y, kin(x, X[:2]))", [B, 1.3 * A]),
    ("signal", "firwin", "{}(15, x[0])", [ONE]),
    ("signal", "savgol_coeffs", "{}(5, 2, xp=x.__array_namespace__()) * x[0]", [X]),
    ("signal", "cheb1ord cheb2ord ellipord", "{}(x[0], 0.6, 1.0, 20.0)", [EDGE]),
    ("signal", "get_window windows.get_window",
     "{}(('kaiser', x[0]), 8, xp=x.__array_namespace__())", [ONE]),
    ("signal", "windows.gaussian windows.general_hamming windows.kaiser "
     "windows.kaiser_bessel_derived windows.tukey", "{}(8, x[0], xp=x.__array_namespace__())",
     [ONE]),
    ("signal", "windows.general_gaussian", "{}(8, 1.5, x[0], xp=x.__array_namespace__())", [ONE]),
    ("signal", "windows.exponential", "{}(8, None, x[0], xp=x.__array_namespace__())", [ONE]),
    ("signal", "windows.chebwin", "{}(8, 40 + x[0], xp=x.__array_namespace__())", [ONE]),
    ("signal", "windows.taylor", "{}(8, 4, 30 + x[0], xp=x.__array_namespace__())", [ONE]),
    ("signal", "windows.general_cosine", "{}(8, x)", [P[:3]]),
    ("fft", "fft ifft rfft irfft hfft ihfft", "abs({}(x))", [X]),
    ("fft", "fftshift ifftshift", "{}(x)", [X]),
    ("fft", "fft2 fftn ifft2 ifftn rfft2 rfftn irfft2 irfftn hfft2 hfftn ihfft2 ihfftn",
     "abs({}(x))", [M]),
    ("fft", "fht ifht", "{}(x, 0.1, 0.5)", [X]),
    ("integrate", "trapezoid", "{}(x, dx=0.1)", [X]),
    ("integrate", "trapezoid:points", "{}(x, y)", [X, np.cumsum(P)]),
    ("integrate", "cumulative_trapezoid cumulative_simpson", "{}(x)", [X]),
    ("integrate", "cumulative_trapezoid:initial", "{}(x, initial=0)", [X]),
    ("integrate", "romb", "{}(x)", [X[:9]]),
    ("integrate", "cubature", "{}(lambda t: (t * x[0])[:, 0], x[:1], x[1:2]).estimate", [P[:2]]),
    ("integrate", "tanhsinh", "{}(lambda t: t * t, x, x + 1).integral", [P]),
    ("integrate", "tanhsinh:arguments", "{}(lambda t, a: t * t * a, kin(x, np.zeros(12)), "
     "kin(x, np.ones(12)), args=(x,)).integral", [P]),
    ("integrate", "nsum", "{}(lambda k, a: a / k**3, kin(x, np.ones(12)), kin(x, np.array(50.0)), "
     "args=(x,)).sum", [P]),
    ("integrate", "nsum:infinite", "{}(lambda k, a: a / k**3, kin(x, np.ones(12)), np.inf, "
     "args=(x,)).sum", [P]),
    ("integrate", "qmc_quad", "{}(lambda t: t[0] ** 2, 0 * x[:1], x[:1], n_points=8, "
     "n_estimates=2, qrng=import_module('scipy.stats').qmc.Halton(1, rng=0)).integral", [P]),
    ("differentiate", "derivative", "{}(lambda t: t * t * t, x).df", [X[:3]]),
    ("differentiate", "jacobian", "{}(lambda t: t * t, x).df", [X[:2]]),
    ("differentiate", "hessian", "{}(lambda t: (t * t).sum(axis=0), x).ddf", [X[:1]]),
    ("optimize", "rosen rosen_der rosen_hess", "{}(x)", [X]),
    ("optimize", "rosen_hess_prod", "{}(x, y)", [X, Y]),
    ("optimize.elementwise", "find_root",
     "{}(lambda t, a: t * t * t - a, (0 * x, 0 * x + 5), args=(x,)).x", [P]),
    ("optimize.elementwise", "find_minimum",
     "{}(lambda t, a: (t - a) ** 2, (x - 1, x + 0.1, x + 1), args=(x,)).x", [P]),
    ("optimize.elementwise", "bracket_root",
     "{}(lambda t, a: t * t * t - a, 0 * x, args=(x,)).bracket", [P]),
    ("optimize.elementwise", "bracket_minimum",
     "{}(lambda t, a: (t - a) ** 2, 0 * x, args=(x,)).bracket", [P]),
    ("linalg", "block_diag", "{}(x, y)", [M, SQUARE]),
    ("linalg", "fiedler", "{}(x)", [X]),
    ("linalg", "orthogonal_procrustes", "{}(x, y)", [SQUARE, SQUARE * np.arange(1.0, 6.0)]),
    ("constants", "lambda2nu nu2lambda", "{}(x)", [P]),
    ("constants", "convert_temperature", "{}(x, 'C', 'K')", [P]),
    ("interpolate", "RBFInterpolator", "{}(kin(x, POINTS[:, None]), x)(kin(x, P[:2, None]))", [X]),
    ("ndimage", "mean sum sum_labels maximum minimum extrema", "{}(x)", [IMAGE]),
    ("ndimage", "vectorized_filter", "{}(x, np.mean, size=3)", [IMAGE]),
    ("cluster", "vq.whiten", "{}(x)", [M]),
    ("cluster", "hierarchy.to_mlab_linkage", "{}(linkage(x))", [LINKAGE[:, 2]]),
    ("spatial", "transform.Rotation.from_rotvec", "{}(x[:3]).apply(x[3:6])", [X]),
    ("spatial", "transform.Rotation.from_rotvec:matrix", "{}(x[:3]).as_matrix()", [X]),
]  # fmt: skip

CONSTANT: list[Row] = [
    ("stats", "rankdata", "{}(x)", [X]),
    ("stats", "fligner wilcoxon", "tested({}(x, y))", [X, Y]),
    ("ndimage", "distance_transform_bf distance_transform_cdt distance_transform_edt "
     "maximum_position minimum_position", "{}(x)", [np.maximum(IMAGE, 0)]),
    ("ndimage", "iterate_structure", "{}(x, 2)", [IMAGE]),
    ("ndimage", "histogram", "{}(x, -1, 1, 3)", [IMAGE]),
    ("interpolate", "generate_knots", "list({}(kin(x, POINTS), x))[-1]", [X]),
    ("cluster", "hierarchy.is_valid_linkage hierarchy.is_monotonic hierarchy.num_obs_linkage "
     "hierarchy.is_valid_im", "{}(x)", [LINKAGE]),
    ("cluster", "hierarchy.correspond", "{}(x, y)", [LINKAGE, DISTANCES]),
    ("cluster", "hierarchy.is_isomorphic", "{}(x, x)", [X]),
    ("signal", "choose_conv_method", "{}(x, y)", [X, Y]),
]  # fmt: skip
"""What they give is constant between jumps: ranks, places, counts, yes or no."""

COMPILED: list[Row] = [
    ("stats", "cramervonmises ks_1samp",
     "tested({}(x, import_module('scipy.special').ndtr))", [X]),
    ("signal", "lfilter_zi tf2sos", "{}(x, y)", [B, A]),
    ("signal", "impulse", "{}((x, y))[1]", [B[:2], A]),
    ("signal", "place_poles", "{}(x, y, kin(x, -POINTS[1:6])).gain_matrix", [SQUARE, SQUARE]),
    ("signal", "bilinear", "{}(x, y, 1.0)", [B, A]),
    ("signal", "zpk2sos", "{}(x, y, 1.5)", [ZEROS, POLES]),
    ("signal", "convolve2d correlate2d", "{}(x, y)", [IMAGE, M[:2, :2]]),
    ("signal", "cspline1d qspline1d medfilt detrend", "{}(x)", [X]),
    ("signal", "cspline1d_eval qspline1d_eval", "{}(x, y)", [X, P]),
    ("signal", "cspline2d spline_filter", "{}(x)", [R.normal(size=(30, 30))]),
    ("signal", "medfilt2d", "{}(x)", [IMAGE]),
    ("signal", "deconvolve", "{}(x, y)", [X, B]),
    ("signal", "filtfilt lfilter", "{}(x, y, kin(x, LONG))", [B, A]),
    ("signal", "sosfilt sosfiltfilt", "{}(x, y)", [SECTIONS, LONG]),
    ("signal", "sosfilt_zi", "{}(x)", [SECTIONS]),
    ("signal", "firwin2", "{}(15, kin(x, np.array([0.0, 0.5, 1.0])), x)", [B]),
    ("signal", "firls", "{}(15, kin(x, np.array([0.0, 0.3, 0.5, 1.0])), x)", [P[:4]]),
    ("signal", "remez", "{}(15, kin(x, np.array([0.0, 0.1, 0.2, 0.5])), x)", [P[:2]]),
    ("signal", "order_filter", "{}(x, kin(x, np.ones(3)), 1)", [X]),
    ("signal", "resample_poly", "{}(x, 2, 3)", [X]),
    ("signal", "savgol_filter", "{}(x, 5, 2)", [X]),
    ("signal", "upfirdn", "{}(x, y, 2)", [B, X]),
    ("signal", "bessel butter iirfilter", "{}(3, x[0], btype='low')", [EDGE]),
    ("signal", "cheby1 cheby2", "{}(3, 20.0, x[0])", [EDGE]),
    ("signal", "ellip", "{}(3, 1.0, 20.0, x[0])", [EDGE]),
    ("signal", "iirnotch iirpeak iircomb", "{}(x[0], 5.0)", [EDGE]),
    ("signal", "gammatone", "{}(x[0], 'iir')", [EDGE]),
    ("signal", "iirdesign buttord", "{}(x[0], 0.6, 1.0, 20.0)", [EDGE]),
    ("signal", "cheb1ap cheb2ap", "{}(3, 1 + x[0])", [EDGE]),
    ("signal", "ellipap", "{}(3, 1.0, 20 + x[0])", [EDGE]),
    ("fft", "dct dst idct idst", "{}(x)", [X]),
    ("fft", "dctn dstn idctn idstn", "{}(x)", [M]),
    ("interpolate", "Akima1DInterpolator CubicSpline PchipInterpolator make_interp_spline "
     "make_smoothing_spline make_splrep", "{}(kin(x, POINTS), x)(kin(x, P))", [X]),
    ("interpolate", "CubicHermiteSpline", "{}(kin(x, POINTS), x, y)(kin(x, P))", [X, Y]),
    ("interpolate", "BPoly PPoly", "{}(x[:6].reshape((3, 2)), kin(x, POINTS[:3]))(kin(x, ONE))",
     [X]),
    ("interpolate", "BSpline", "{}(kin(x, POINTS[:10]), x[:6], 3)(kin(x, 4 + ONE))", [X]),
    ("interpolate", "NdBSpline", "{}((kin(x, POINTS[:10]),), x[:6], 3)(kin(x, 4 + ONE[None]))",
     [X]),
    ("interpolate", "RegularGridInterpolator", "{}((kin(x, POINTS),), x)(kin(x, ONE[None]))", [X]),
    ("interpolate", "RegularGridInterpolator:points",
     "{}((kin(x, POINTS),), kin(x, Y))(x[:, None])", [P]),
    ("interpolate", "make_lsq_spline", "{}(kin(x, POINTS), x, kin(x, np.repeat([0.0, 5.0, 11.0], "
     "[4, 1, 4])))(kin(x, P))", [X]),
    ("interpolate", "make_splprep", "{}([x, y])[0](kin(x, ONE))", [X, Y]),
    ("ndimage", "laplace prewitt sobel spline_filter spline_filter1d center_of_mass label median "
     "standard_deviation variance binary_closing binary_dilation binary_erosion "
     "binary_fill_holes binary_hit_or_miss binary_opening binary_propagation", "{}(x)", [IMAGE]),
    ("ndimage", "black_tophat white_tophat grey_closing grey_dilation grey_erosion grey_opening "
     "morphological_gradient morphological_laplace maximum_filter maximum_filter1d "
     "minimum_filter minimum_filter1d median_filter uniform_filter uniform_filter1d",
     "{}(x, 3)", [IMAGE]),
    ("ndimage", "gaussian_filter gaussian_filter1d gaussian_gradient_magnitude gaussian_laplace "
     "fourier_ellipsoid fourier_gaussian fourier_shift fourier_uniform", "{}(x, 1.0)", [IMAGE]),
    ("ndimage", "convolve correlate", "{}(x, y)", [IMAGE, M[:3, :3]]),
    ("ndimage", "convolve1d correlate1d", "{}(x, y)", [IMAGE, X[:3]]),
    ("ndimage", "affine_transform", "{}(x, y)", [IMAGE, 0.9 * np.eye(2)]),
    ("ndimage", "rotate shift zoom", "{}(x, 1.5)", [IMAGE]),
    ("ndimage", "geometric_transform", "{}(x, lambda c: (c[0] - 0.2, c[1]))", [IMAGE]),
    ("ndimage", "map_coordinates", "{}(x, y, order=1)", [IMAGE, COORDINATES]),
    ("ndimage", "percentile_filter rank_filter", "{}(x, 2, 3)", [IMAGE]),
    ("ndimage", "generic_filter", "{}(x, np.sum, 3)", [IMAGE]),
    ("ndimage", "generic_filter1d", "{}(x, lambda a, b: None, 3)", [IMAGE]),
    ("ndimage", "generic_gradient_magnitude generic_laplace",
     "{}(x, import_module('scipy.ndimage').sobel)", [IMAGE]),
    ("ndimage", "labeled_comprehension", "{}(x, None, None, np.mean, float, 0)", [IMAGE]),
    ("cluster", "vq.kmeans vq.kmeans2 vq.vq", "{}(x, x[:2])", [IMAGE]),
    ("cluster", "hierarchy.average hierarchy.centroid hierarchy.complete hierarchy.median "
     "hierarchy.single hierarchy.ward hierarchy.weighted hierarchy.linkage", "{}(x)", [DISTANCES]),
    ("cluster", "hierarchy.cophenet hierarchy.inconsistent hierarchy.leaves_list "
     "hierarchy.maxdists", "{}(x)", [LINKAGE]),
    ("cluster", "hierarchy.from_mlab_linkage", "{}(x[:, :3] + 1)", [LINKAGE]),
    ("cluster", "hierarchy.leaders", "{}(x, kin(x, np.array([1, 1, 2, 2], np.int32)))", [LINKAGE]),
    ("cluster", "hierarchy.fcluster", "{}(x, 1.0)", [LINKAGE]),
    ("cluster", "hierarchy.fclusterdata", "{}(x, 1.0)", [IMAGE]),
    ("cluster", "hierarchy.maxRstat",
     "{}(x, import_module('scipy.cluster.hierarchy').inconsistent(x), 0)", [LINKAGE]),
    ("cluster", "hierarchy.maxinconsts",
     "{}(x, import_module('scipy.cluster.hierarchy').inconsistent(x))", [LINKAGE]),
    ("cluster", "hierarchy.optimal_leaf_ordering", "{}(x, y)", [LINKAGE, DISTANCES]),
]  # fmt: skip
"""What SciPy computes with plain numbers, in compiled code or Python's: an error that says so."""

_WINDOWS = (
    "barthann bartlett blackman blackmanharris bohman boxcar cosine flattop hamming hann lanczos "
    "nuttall parzen triang"
)
WITHOUT_NUMBERS = {
    **{f"signal.windows.{name}": "a window of a given length" for name in _WINDOWS.split()},
    "fft.fftfreq": "frequencies for a given length",
    "fft.rfftfreq": "frequencies for a given length",
    "signal.besselap": "a prototype of a given order",
    "signal.buttap": "a prototype of a given order",
    "ndimage.find_objects": "arrays of whole numbers",
    "ndimage.value_indices": "arrays of whole numbers",
    "ndimage.watershed_ift": "arrays of whole numbers",
    "cluster.hierarchy.dendrogram": "a drawing",
    "cluster.hierarchy.to_tree": "a tree of objects",
    "special.zetac": "no formula for the derivative, as its error says",
}
"""What takes no floating-point numbers, or gives none, or has no derivative here."""

BARE = {"signal.bilinear", "signal.cspline1d", "signal.medfilt", "signal.qspline1d",
        "ndimage.center_of_mass"}  # fmt: skip
"""Of what is compiled, what fails with an error that is about something else."""

_DECIDED = {
    "stats": (
        "tmean tvar tstd tsem iqr median_abs_deviation hmean mstats.hmean pmean quantile "
        "sigmaclip yeojohnson_llf false_discovery_control levene ansari brunnermunzel "
        "chatterjeexi cramervonmises_2samp kruskal mannwhitneyu mood epps_singleton_2samp "
        "spearmanrho friedmanchisquare mode bootstrap power"
    ),
    "signal": (
        "convolve correlate wiener freqz_sos sosfreqz minimum_phase group_delay bode lp2bp lp2bs "
        "lp2hp lp2lp normalize sos2tf sos2zpk tf2zpk lfiltic firwin cheb1ord cheb2ord ellipord "
        "windows.tukey windows.chebwin"
    ),
    "integrate": ("cubature tanhsinh tanhsinh:arguments nsum:infinite qmc_quad"),
    "differentiate": ("derivative jacobian hessian"),
    "optimize": (
        "elementwise.find_root elementwise.find_minimum elementwise.bracket_root "
        "elementwise.bracket_minimum"
    ),
    "linalg": ("orthogonal_procrustes"),
    "ndimage": ("maximum minimum extrema"),
    "cluster": ("hierarchy.to_mlab_linkage"),
}
DECIDED = {f"{module}.{name}" for module, given in _DECIDED.items() for name in given.split()}
"""Where SciPy decides by values, or by how many a mask selects: an error says so under `jit` and
`vmap`."""


def tested(result: Any) -> Any:
    """Statistic and probability of a test."""
    return result.statistic, result.pvalue


def absolutes(zeros_poles_gain: Any) -> Any:
    return tuple(map(abs, zeros_poles_gain))


def drawn(x: Any) -> Callable[..., Any]:
    """Random numbers of the kind of ``x``."""
    return lambda size: kin(x, np.random.default_rng(0).normal(size=size))


def sections(x: Any) -> Any:
    """Filters of second order, whose numerators are multiples of ``x``."""
    above, below = kin(x, SECTIONS[:, :3]), kin(x, SECTIONS[:, 3:])
    return x.__array_namespace__().concat([above * x, below], axis=1)


def linkage(x: Any) -> Any:
    """A hierarchy of clusters at the distances ``x``."""
    first, second, _, counts = [kin(x, column) for column in LINKAGE.T]
    return x.__array_namespace__().stack([first, second, x, counts], axis=1)


Call = tuple[str, Callable[..., list[Any]], tuple[Any, ...]]
"""A name, what returns a list of arrays, and the arguments it is differentiated in."""


def calls(rows: Sequence[Row]) -> Iterator[Call]:
    """Every call; strings and objects among the results are left out."""
    for module, names, code, args in rows:
        for name in names.split():
            *inner, function = name.partition(":")[0].split(".")
            owner = import_module(f"scipy.{module}")
            for part in inner:
                owner = getattr(owner, part)
            scope = {**globals(), "called": getattr(owner, function)}
            f = eval(f"lambda {', '.join('xy'[: len(args)])}: {code.format('called')}", scope)
            yield f"{module}.{name}", leaves_of(f), tuple(args)


def leaves_of(f: Callable[..., Any]) -> Callable[..., list[Any]]:
    return lambda *xs: [y for y in vk.tree_util.tree_leaves(f(*xs)) if not isinstance(y, str)]


def names(rows: Sequence[Row]) -> list[str]:
    return [f"{module}.{name}" for module, given, _, _ in rows for name in given.split()]


def same(got: Sequence[Any], wanted: Sequence[Any]) -> None:
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-9, atol=1e-12)
        assert np.asarray(a).dtype == np.asarray(b).dtype


def total(f: Callable[..., list[Any]]) -> Callable[..., Any]:
    """A number that depends on all results."""
    return lambda *xs: 0.0 * np.sum(xs[0]) + sum(np.sum(np.abs(y) ** 2) for y in f(*xs))


def check_differentiable(name: str, f: Callable[..., list[Any]], args: tuple[Any, ...]) -> None:
    """Values are those of plain arrays; derivatives of two orders agree with differences, and in
    both modes; all of it staged and mapped too, or an error."""
    wanted = f(*args)
    same(vk.vjp(lambda *xs: (0.0, f(*xs)), *args, has_aux=True)[2], wanted)
    vk.test_util.check_grads(f, args, order=2)
    every = tuple(range(len(args)))
    gradient = vk.grad(total(f), argnums=every)
    slopes = gradient(*args)

    def staged() -> None:
        same(vk.jit(f)(*args), wanted)
        same(vk.jit(gradient)(*args), slopes)
        same(vk.grad(vk.jit(total(f)), argnums=every)(*args), slopes)

    def mapped() -> None:
        others = [1.001 * x for x in args]
        both = [np.stack(pair) for pair in zip(args, others, strict=True)]
        same(vk.vmap(f)(*both), list(map(np.stack, zip(wanted, f(*others), strict=True))))
        expected = zip(slopes, gradient(*others), strict=True)
        same(vk.vmap(gradient)(*both), list(map(np.stack, expected)))

    refused = [not runs(run) for run in (staged, mapped)]
    if VERSION == (1, 17):  # other versions decide elsewhere
        assert any(refused) == (name in DECIDED), refused


def runs(run: Callable[[], None]) -> bool:
    """Whether it does, and is not refused."""
    try:
        run()
    except (TracerConversionError, UnsupportedError, NotImplementedError):
        return False
    return True


def check_constant(name: str, f: Callable[..., list[Any]], args: tuple[Any, ...]) -> None:
    """Values are those of plain arrays, and the gradient is zero; staged, the same or an error."""
    wanted = f(*args)
    same(vk.vjp(lambda *xs: (0.0, f(*xs)), *args, has_aux=True)[2], wanted)
    for g in vk.grad(total(f), argnums=tuple(range(len(args))))(*args):
        np.testing.assert_array_equal(g, 0)
    for run in (lambda: vk.jit(f)(*args), lambda: vk.vmap(f)(*[x[None] for x in args])):
        try:
            got = run()
        except (TracerConversionError, UnsupportedError, ValueError):
            continue
        same([np.reshape(y, np.shape(w)) for y, w in zip(got, wanted, strict=True)], wanted)


def check_compiled(name: str, f: Callable[..., list[Any]], args: tuple[Any, ...]) -> None:
    """Traced values are refused in every transform, with a way on."""
    f(*args)
    every = tuple(range(len(args)))
    runs = (
        lambda: vk.grad(total(f), argnums=every)(*args),
        lambda: vk.jvp(total(f), args, args),
        lambda: vk.jit(f)(*args),
        lambda: vk.vmap(f)(*[np.stack([x, x]) for x in args]),
    )
    for run in runs:
        error = raised(run)
        if error is None:
            assert VERSION > (1, 17), "it took a traced value"
            continue
        told = "".join([str(error), *getattr(error, "__notes__", ())])
        assert "vk.numeric_vjp" in told or name in BARE, f"{type(error).__name__}: {told}"


def raised(run: Callable[[], Any]) -> Exception | None:
    try:
        run()
    except Exception as error:
        return error
    return None


MODULES = [
    "cluster.hierarchy", "cluster.vq", "constants", "differentiate", "fft", "integrate",
    "interpolate", "linalg", "ndimage", "optimize", "optimize.elementwise", "signal",
    "signal.windows", "spatial", "spatial.distance", "spatial.transform", "special", "stats",
    "stats.mstats",
]  # fmt: skip


def unlisted() -> list[str]:
    """What SciPy's table says takes arrays of any library, and is not here."""
    from scipy._lib._array_api import xp_capabilities_table as table

    everything = (*names(DIFFERENTIABLE), *names(CONSTANT), *names(COMPILED), *WITHOUT_NUMBERS)
    listed = {name.partition(":")[0] for name in everything}
    found = []
    for module in MODULES:
        owner = import_module(f"scipy.{module}")
        for name in owner.__all__:
            about = table.get(getattr(owner, name)) if callable(getattr(owner, name)) else None
            if about is not None and not about["np_only"] and not about["out_of_scope"]:
                found.append(f"{module}.{name}")
    return sorted(set(found) - listed)


def main() -> None:
    assert os.environ["SCIPY_ARRAY_API"] == "1"
    warnings.simplefilter("ignore")
    checks = (
        (check_differentiable, DIFFERENTIABLE),
        (check_constant, CONSTANT),
        (check_compiled, COMPILED),
    )
    for check, rows in checks:
        for name, f, args in calls(rows):
            try:
                check(name, f, args)
                wrong = ""
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            print(json.dumps([name, wrong]), flush=True)
    print(json.dumps(["unlisted", " ".join(unlisted())]))


if __name__ == "__main__":
    main()
