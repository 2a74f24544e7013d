"""NumPy's families of functions at arrays of every shape, layout, dtype and mixture of keywords."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.numpy.coverage.calls.ufuncs import ufuncs
from tests.numpy.families import arrays, broadcastable, dtypes, floats, holds, lapack, shapes, sizes

untyped: Any = np  # of drawn arguments its types know nothing
some = settings(max_examples=120, derandomize=True)

UNARY = [f for f in ufuncs() if f.nin == 1 and f.nout == 1 and f.__name__ != "isnat"]
BINARY = [f for f in ufuncs() if f.nin == 2 and f.nout == 1 and f.signature is None]


@settings(some, max_examples=250)
@given(st.sampled_from(UNARY), arrays())
def test_unary(f, x):
    holds(f, x)


@settings(some, max_examples=400)
@given(st.sampled_from(BINARY), broadcastable(2))
def test_binary(f, xs):
    holds(f, *xs)


@some
@given(
    st.sampled_from(BINARY), arrays(), st.sampled_from([2, 2.5, True, 1 + 2j, -1]), st.booleans()
)
def test_with_python_numbers(f, x, number, first):
    holds(lambda x: f(number, x) if first else f(x, number), x)


@some
@given(st.sampled_from([np.add, np.multiply, np.maximum, np.divide]), broadcastable(2), dtypes,
       st.booleans())  # fmt: skip
def test_keywords_of_ufuncs(f, xs, dtype, masked):
    shape = np.broadcast_shapes(*map(np.shape, xs))
    mask = np.arange(int(np.prod(shape))).reshape(shape) % 3 > 0

    def run(*xs):
        if not masked:
            return f(*xs, dtype=dtype)
        kind = np.result_type(dtype, *xs)
        out = np.zeros_like(np.stack(np.broadcast_arrays(*xs)), shape=shape, dtype=kind)
        return f(*xs, out=out, where=mask)

    holds(run, *xs)


REDUCTIONS = [np.sum, np.prod, np.mean, np.var, np.std, np.max, np.min, np.ptp, np.median, np.any,
              np.all, np.nansum, np.nanprod, np.nanmean, np.nanvar, np.nanstd, np.nanmax, np.nanmin,
              np.nanmedian, np.argmax, np.argmin, np.count_nonzero]  # fmt: skip
AXES = st.one_of(st.none(), st.integers(-3, 2), st.tuples(st.integers(-2, 1), st.integers(-3, 2)))


@settings(some, max_examples=400)
@given(st.sampled_from(REDUCTIONS), arrays(), AXES, st.booleans())
def test_reductions(f, x, axis, keepdims):
    holds(lambda x: f(x, axis=axis, keepdims=keepdims), x)


@some
@given(
    st.sampled_from([np.sum, np.prod, np.mean, np.max, np.min, np.var]), arrays(), AXES, floats,
    st.booleans(),
)  # fmt: skip
def test_keywords_of_reductions(f, x, axis, dtype, masked):
    keywords: Any = {"axis": axis}
    if masked:
        shape = np.shape(x)
        keywords["where"] = np.arange(int(np.prod(shape))).reshape(shape) % 3 > 0
    if f in (np.sum, np.prod, np.max, np.min):
        keywords["initial"] = 1.5
    if f not in (np.max, np.min):
        keywords["dtype"] = dtype
    holds(lambda x: f(x, **keywords), x)


RUNNING = [np.cumsum, np.cumprod, np.nancumsum, np.diff, np.sort, np.argsort, np.flip, np.gradient]


@settings(some, max_examples=200)
@given(st.sampled_from(RUNNING), arrays(), st.integers(-3, 2))
def test_along_an_axis(f, x, axis):
    holds(lambda x: f(x, axis=axis), x)


STRUCTURAL = [
    np.transpose, np.ravel, np.squeeze, np.atleast_2d, np.atleast_3d, np.tril, np.diagflat,
    np.fliplr, np.rot90, np.copy, np.real, np.imag, np.conj, np.matrix_transpose, np.diagonal,
    np.trace, lambda x: np.reshape(x, -1), lambda x: x.reshape(-1, 1, order="F"),
    lambda x: np.roll(x, (1, -2), (0, -1)), lambda x: np.swapaxes(x, 0, -1),
    lambda x: np.tile(x, (2, 1)), lambda x: np.repeat(x, 2, axis=-1), lambda x: np.pad(x, 1),
    lambda x: np.pad(x, (2, 1), "reflect"), lambda x: np.stack([x, x]), lambda x: x[..., ::-1],
    lambda x: np.concatenate([x, x], axis=-1), lambda x: np.take(x, [0, -1], axis=0),
    lambda x: np.delete(x, 0, axis=-1), lambda x: np.insert(x, 0, 1, axis=0),
    lambda x: np.expand_dims(x, (0, -1)), lambda x: np.broadcast_to(x, (2, *x.shape)),
    lambda x: np.array_split(x, 2, axis=-1), lambda x: np.where(x > 0, x, 0),
    lambda x: np.kron(x, [1, 2]), lambda x: np.nan_to_num(x), lambda x: np.clip(x, 0, 1),
]  # fmt: skip


@settings(some, max_examples=400)
@given(st.sampled_from(STRUCTURAL), arrays())
def test_structural(f, x):
    holds(f, x)


@st.composite
def products(draw: Any) -> tuple[Any, Any]:
    """Stacks of matrices, or vectors, that matmul multiplies, mostly."""
    n, m, k = (draw(sizes) for _ in range(3))
    lead = draw(shapes)[:1]
    left = draw(st.sampled_from([(n,), (m, n), (*lead, m, n), (1, m, n)]))
    right = draw(st.sampled_from([(n,), (n, k), (*lead, n, k)]))
    return draw(arrays(st.just(left))), draw(arrays(st.just(right)))


@settings(some, max_examples=300)
@given(st.sampled_from([np.matmul, np.dot, np.inner, np.outer, np.vdot, np.kron]), products())
def test_products(f, operands):
    holds(f, *operands, tolerance=1e-13)


SUBSCRIPTS = ["ij,jk->ik", "ij,jk", "ij,ij", "ij,ji->", "ii,ij->j", "ij,k->kji", "...j,jk",
              "ij,jk->", "ij,jj->ij", "i...,j...->ij..."]  # fmt: skip


@settings(some, max_examples=200)
@given(st.sampled_from(SUBSCRIPTS), sizes, sizes, dtypes, dtypes, st.booleans(), st.data())
def test_einsum(subscripts, n, m, first, second, optimize, data):
    x = data.draw(arrays(st.just((n, m)), st.just(first)))
    y = data.draw(arrays(st.sampled_from([(m, n), (n, m), (m, m)]), st.just(second)))

    def run(x, y):
        out = untyped.einsum(subscripts, x, y, optimize=optimize)
        return np.atleast_1d(out) if optimize else out  # a 0-d array or a scalar, as it contracts

    # NumPy's optimized paths add up in the precision of one operand.
    coarse = optimize and "float16" in (first, second)
    holds(run, x, y, tolerance=2e-2 if coarse else 1e-13)


LINALG = [
    np.linalg.inv, np.linalg.det, np.linalg.slogdet, np.linalg.cholesky, np.linalg.qr,
    np.linalg.eigh, np.linalg.eigvalsh, np.linalg.svdvals, np.linalg.pinv, np.linalg.norm,
    np.linalg.matrix_norm, np.linalg.cond,
    lambda a: np.linalg.matrix_power(a, 3), lambda a: np.linalg.matrix_power(a, -2),
    lambda a: np.linalg.solve(a, a), lambda a: np.linalg.svd(a, full_matrices=False),
    lambda a: np.linalg.norm(a, axis=-1),
]  # fmt: skip
with suppress(ValueError):  # older NumPys refuse these for matrices without elements
    np.linalg.matrix_rank(np.ones((0, 0)))
    LINALG += [np.linalg.matrix_rank, lambda a: np.linalg.norm(a, 1, axis=(-2, -1))]


@st.composite
def matrices(draw: Any) -> Any:
    """Stacks of positive definite matrices with a simple spectrum, in LAPACK's precisions."""
    n = draw(st.integers(0, 3))
    lead = draw(shapes)[:2]
    a = draw(arrays(st.just((*lead, n, n)), lapack))
    definite = (a @ np.conj(np.swapaxes(a, -1, -2)) * 0.1 + np.diag(np.arange(1, n + 1))).astype(
        a.dtype
    )
    return draw(st.sampled_from([definite, np.swapaxes(definite, -1, -2)]))


@settings(some, max_examples=250)
@given(st.sampled_from(LINALG), matrices())
def test_linalg(f, a):
    holds(f, a, tolerance=1e-4 if a.dtype.char in "fF" else 1e-11)


FFT = [np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.irfft, np.fft.hfft, np.fft.ihfft]


@settings(some, max_examples=250)
@given(
    st.sampled_from(FFT), arrays(), st.sampled_from([None, 0, 1, 2, 5, 6]), st.integers(-3, 2),
    st.sampled_from([None, "backward", "ortho", "forward", "sideways"]),
)  # fmt: skip
def test_fft(f, x, n, axis, norm):
    if f in (np.fft.irfft, np.fft.hfft) and 0 in np.shape(x):
        return  # NumPy reads what is not there
    holds(lambda x: f(x, n=n, axis=axis, norm=norm), x)


SEVERAL = [np.fft.fft2, np.fft.ifftn, np.fft.rfftn, np.fft.irfft2, np.fft.rfft2, np.fft.irfftn,
           np.fft.fftn]  # fmt: skip


@settings(some, max_examples=150)
@given(
    st.sampled_from(SEVERAL), arrays(), st.sampled_from([None, (2,), (3, 4), (-1, 2)]),
    st.sampled_from([(0,), (-1, 0), (1, 1), (-2, -1)]),
)  # fmt: skip
def test_fft_along_several_axes(f, x, s, axes):
    holds(lambda x: f(x, s=s, axes=axes), x)


METHODS = ["linear", "lower", "nearest", "hazen", "inverted_cdf", "median_unbiased"]


@settings(some, max_examples=200)
@given(
    st.sampled_from([np.quantile, np.nanquantile, np.percentile]), arrays(),
    st.sampled_from([0.3, [0.2, 0.9], np.float32(0.5), [0, 1]]), AXES, st.sampled_from(METHODS),
    st.booleans(),
)  # fmt: skip
def test_quantiles(f, x, q, axis, method, keepdims):
    holds(lambda x: untyped.quantile(x, q, axis=axis, method=method, keepdims=keepdims), x,
          tolerance=1e-13)  # fmt: skip


POLYNOMIALS = [np.polyadd, np.polysub, np.polyval, np.convolve, np.correlate, np.outer]


@settings(some, max_examples=150)
@given(st.sampled_from(POLYNOMIALS), arrays(st.tuples(sizes)), arrays(st.tuples(sizes)))
def test_polynomials(f, p, q):
    holds(f, p, q, tolerance=1e-13)


@settings(some, max_examples=100)
@given(
    st.sampled_from([np.polyder, np.polyint, np.vander, np.poly]), arrays(st.tuples(sizes)),
    st.integers(0, 2),
)  # fmt: skip
def test_polynomials_of_one(f, p, m):
    holds(lambda p: f(p) if f is np.poly else f(p, m), p, tolerance=1e-13)
