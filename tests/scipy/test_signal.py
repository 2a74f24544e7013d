"""`vjpkit.scipy.signal`: SciPy's values to rounding, and derivatives in all arguments."""

import inspect

import numpy as np
import pytest

import vjpkit as vk
from tests.scipy.programs import Program, check
from vjpkit.core.errors import UnsupportedError

signal = pytest.importorskip("scipy.signal")
ours = vk.scipy.signal

RNG = np.random.default_rng(1)
X = RNG.standard_normal(11)
Y = RNG.standard_normal(4)
M = RNG.standard_normal((3, 8))
N = RNG.standard_normal((2, 3))
T = RNG.standard_normal((2, 3, 4))
K = RNG.standard_normal((2, 2, 3))
Z = RNG.standard_normal(7) + 1j * RNG.standard_normal(7)
B = np.array([0.5, 0.3, -0.2])
A = np.array([1.2, -0.4, 0.1])
SOS = signal.butter(4, 0.4, output="sos")
ZI = RNG.standard_normal((3, 2))


def case(name, run, *args, order=2, tolerance=1e-9):
    return Program(name, run, args, order, exact=False, tolerance=tolerance)


MODES = ("full", "same", "valid")

CONVOLUTIONS = [
    *[
        case(f"{f} {mode} {method}", lambda s, x, y, f=f, mode=mode, method=method:
             getattr(s, f)(x, y, mode, method), X, Y, order=1)
        for f in ("convolve", "correlate") for mode in MODES for method in ("direct", "fft")
    ],
    *[
        case(f"{f} short first {mode}", lambda s, x, y, f=f, mode=mode: getattr(s, f)(y, x, mode),
             X, Y, order=1)
        for f in ("convolve", "correlate", "fftconvolve", "oaconvolve") for mode in MODES
    ],
    *[
        case(f"{f} of cubes {mode}", lambda s, x, y, f=f, mode=mode: getattr(s, f)(x, y, mode),
             T, K)
        for f in ("convolve", "correlate", "fftconvolve") for mode in MODES
    ],
    case("convolve complex", lambda s, x, y: s.convolve(x, y, "same", "direct"), Z, Y),
    case("correlate complex", lambda s, x, y: s.correlate(y, x), Z, Y, order=1),
    case("fftconvolve complex", lambda s, x, y: s.fftconvolve(x, y), Z, Z[:4], order=1),
    case("fftconvolve along axes", lambda s, x, y: s.fftconvolve(x, y, axes=1), M, M[:1, :3]),
    case("convolve of numbers", lambda s, x, y: s.convolve(x, y), 1.5, 2.5),
    *[
        case(f"{f} {mode} {boundary}", lambda s, x, y, f=f, mode=mode, boundary=boundary:
             getattr(s, f)(x, y, mode, boundary), M, N, order=1)
        for f in ("convolve2d", "correlate2d") for mode in MODES
        for boundary in ("fill", "wrap", "symm")
    ],
    case("convolve2d filled", lambda s, x, y: s.convolve2d(x, y, "same", "fill", 2.0), M, N),
    case("convolve2d small first", lambda s, x, y: s.convolve2d(x, y, "valid"), N, M),
    case("correlate2d small first", lambda s, x, y: s.correlate2d(x, y, "valid"), N, M),
    case("correlate2d same small first", lambda s, x, y: s.correlate2d(x, y, "same"), N, M),
    case("deconvolve", lambda s, x, y: s.deconvolve(x, y), X, A),
]  # fmt: skip

FILTERS = [
    case("lfilter", lambda s, b, a, x: s.lfilter(b, a, x), B, A, X),
    case("lfilter of columns", lambda s, b, a, x: s.lfilter(b, a, x, axis=0), B, A[:2], M.T),
    case("lfilter with a state", lambda s, b, a, x, z: s.lfilter(b, a, x, 1, z), B, A, M, ZI),
    case("lfilter with one state", lambda s, x, z: s.lfilter(B, A, x, zi=z), M, ZI[:1], order=1),
    case("lfilter, long", lambda s, a, x: s.lfilter([1.0], a, x, zi=np.ones(4)),
         np.array([1.0, 0.2, 0.1, -0.3, 0.1]), X[:2]),
    case("lfilter, finite", lambda s, b, a, x: s.lfilter(b, [a], x), B, 2.0, X),
    case("lfilter, complex", lambda s, b, a, x: s.lfilter(b, a, x), B + 0.1j, A, Z),
    case("lfilter_zi", lambda s, b, a: s.lfilter_zi(b, a), B, A),
    case("lfilter_zi, long", lambda s, b, a: s.lfilter_zi(b, a), X[:4], A),
    case("lfiltic", lambda s, b, a, y, x: s.lfiltic(b, a, y, x), B, A, Y, Y[:1]),
    case("lfiltic without inputs", lambda s, a, y: s.lfiltic(B[:1], a, y), A, Y[:1]),
    *[
        case(f"filtfilt {pad}", lambda s, b, a, x, pad=pad: s.filtfilt(b, a, x, padtype=pad),
             B, A, X, order=1)
        for pad in ("odd", "even", "constant", None)
    ],
    case("filtfilt of columns", lambda s, b, a, x: s.filtfilt(b, a, x, axis=0, padlen=2),
         B[:2], A[:2], M.T),
    case("sosfilt", lambda s, c, x: s.sosfilt(np.concatenate([c, SOS[:, 3:]], 1), x),
         SOS[:, :3], X),
    case("sosfilt in its recursion",
         lambda s, c, x: s.sosfilt(np.concatenate([SOS[:, :4], c], 1), x, axis=0),
         SOS[:, 4:], M.T, order=1),
    case("sosfilt with states", lambda s, x, z: s.sosfilt(SOS, x, zi=z), M,
         RNG.standard_normal((2, 3, 2))),
    case("sosfilt_zi", lambda s, c: s.sosfilt_zi(np.concatenate([SOS[:, :4], c], 1)), SOS[:, 4:]),
    *[
        case(f"sosfiltfilt {pad}", lambda s, x, pad=pad: s.sosfiltfilt(SOS, x, 0, pad, 3), M.T,
             order=1)
        for pad in ("odd", "even", "constant", None)
    ],
    case("sosfiltfilt by default", lambda s, x: s.sosfiltfilt(SOS[:1], x), X),
    case("freqz", lambda s, b, a: s.freqz(b, a, 5), B, A),
    case("freqz at", lambda s, b, a: s.freqz(b, a, [0.1, 0.4, 0.7], fs=2.0), B, A),
    case("freqz, finite", lambda s, b: s.freqz(b, worN=6, whole=True, include_nyquist=True), X),
]  # fmt: skip

PREPARATION = [
    case("detrend", lambda s, x: s.detrend(x), M),
    case("detrend in pieces", lambda s, x: s.detrend(x, axis=0, bp=[3, 5]), M.T),
    case("detrend constant", lambda s, x: s.detrend(x, 0, "constant"), M),
    case("hilbert", lambda s, x: s.hilbert(x), X),
    case("hilbert even", lambda s, x: s.hilbert(x, 8, axis=0), M.T),
    case("hilbert2", lambda s, x: s.hilbert2(x), M),
    case("hilbert2 of a size", lambda s, x: s.hilbert2(x, (3, 5), (0, 2)), T, order=1),
    case("medfilt", lambda s, x: s.medfilt(x, 3), X, order=1),
    case("medfilt of a matrix", lambda s, x: s.medfilt(x, (1, 5)), M, order=1),
    case("medfilt2d", lambda s, x: s.medfilt2d(x, 3), M, order=1),
    case("order_filter", lambda s, x: s.order_filter(x, np.array([[1, 0, 1]]), 1), M, order=1),
    case("wiener", lambda s, x: s.wiener(x, 3), X + np.arange(11.0), order=1, tolerance=1e-8),
    case("wiener with noise", lambda s, x, n: s.wiener(x, (3, 3), n), 5 * M, 0.3, order=1,
         tolerance=1e-8),
    *[
        case(f"savgol_filter {mode}", lambda s, x, mode=mode:
             s.savgol_filter(x, 5, 2, 1, 0.5, 0, mode, 0.3), M.T)
        for mode in ("interp", "mirror", "nearest", "wrap", "constant")
    ],
    case("savgol_filter of an even window", lambda s, x: s.savgol_filter(x, 4, 2), X),
]  # fmt: skip

RESAMPLING = [
    case("upfirdn", lambda s, h, x: s.upfirdn(h, x, 3, 2), B, X),
    case("upfirdn of columns", lambda s, h, x: s.upfirdn(h, x, 2, 3, axis=0), X, M.T),
    case("upfirdn of bare decimation", lambda s, h, x: s.upfirdn(h, x, 1, 4), B, X),
    *[
        case(f"resample_poly {up}/{down} {pad}", lambda s, x, up=up, down=down, pad=pad:
             s.resample_poly(x, up, down, axis=1, padtype=pad), M, order=1)
        for up, down, pad in ((3, 2, "constant"), (2, 6, "mean"), (5, 1, "median"),
                              (2, 3, "minimum"), (4, 4, "constant"))
    ],
    case("resample_poly by a window", lambda s, x, h: s.resample_poly(x, 3, 2, window=h), X,
         np.hanning(13) + 0.1),
    case("decimate", lambda s, x: s.decimate(x, 2, 2), X),
    case("decimate causal", lambda s, x: s.decimate(x, 3, axis=0, zero_phase=False), T.T),
    *[
        case(f"decimate fir {phase}", lambda s, x, phase=phase:
             s.decimate(x, 2, 6, "fir", 1, phase), M)
        for phase in (True, False)
    ],
    *[
        case(f"resample {n} to {num}", lambda s, x, num=num: s.resample(x, num), X[:n], order=1)
        for n in (7, 8) for num in (1, 2, 4, 5, 7, 8, 10, 11)
    ],
    *[
        case(f"resample complex {n} to {num}", lambda s, x, num=num: s.resample(x, num),
             np.concatenate([Z, Z[:1]])[:n], order=1)
        for n in (7, 8) for num in (1, 2, 4, 5, 7, 8, 10, 11)
    ],
    *[
        case(f"resample by {window}", lambda s, x, n=n, window=window:
             s.resample(x[..., :n], 5, axis=1, window=window), M)
        for n, window in ((7, "hann"), (8, ("kaiser", 2.0)))
    ],
    case("resample by numbers", lambda s, x, w: s.resample(x, 5, window=w), X, np.cos(X)),
    case("resample with times", lambda s, x: s.resample(x, 6, np.arange(11.0)), X),
]  # fmt: skip

SPECTRA = [
    case("periodogram", lambda s, x: s.periodogram(x, 2.0), X),
    case("periodogram of columns",
         lambda s, x: s.periodogram(x, nfft=6, axis=0, scaling="spectrum", detrend="linear"), M.T),
    case("periodogram, longer", lambda s, x: s.periodogram(x, nfft=13, window="hann"), X),
    case("welch", lambda s, x: s.welch(x, 2.0, nperseg=4), M),
    case("welch of windows", lambda s, x, w: s.welch(x, window=w, noverlap=1, nfft=6), X, Y),
    case("welch by medians", lambda s, x: s.welch(x, nperseg=4, average="median"), X, order=1),
    case("welch of both sides",
         lambda s, x: s.welch(x, nperseg=5, return_onesided=False, detrend=False), X),
    case("welch complex", lambda s, x: s.welch(x, nperseg=4, return_onesided=False), Z, order=1),
    case("csd", lambda s, x, y: s.csd(x, y, nperseg=4, axis=0), M.T, M[::-1].T, order=1),
    case("csd of two lengths", lambda s, x, y: s.csd(x, y, nperseg=4, scaling="spectrum"),
         X, X[:9], order=1),
    case("csd by medians", lambda s, x, y: s.csd(x, y, nperseg=4, average="median"),
         X, X[::-1] ** 2, order=1),
    case("coherence", lambda s, x, y: s.coherence(x, y, nperseg=4, detrend=False),
         X, np.sin(9 * X), order=1),
    *[
        case(f"spectrogram {mode}", lambda s, x, mode=mode:
             s.spectrogram(x, nperseg=4, mode=mode)[2], M + np.arange(8.0), order=1)
        for mode in ("psd", "complex", "magnitude")
    ],
    case("spectrogram of columns", lambda s, x: s.spectrogram(x, nperseg=4, noverlap=2, axis=0),
         M.T),
    *[
        case(f"spectrogram {mode}", lambda s, x, mode=mode:
             s.spectrogram(x, window=np.array([0.3, 1.0, 0.5]), mode=mode, detrend=False)[2][1],
             X, order=1)
        for mode in ("angle", "phase")
    ],
    *[
        case(f"stft {boundary} {padded}", lambda s, x, boundary=boundary, padded=padded:
             s.stft(x, 2.0, nperseg=4, boundary=boundary, padded=padded), X, order=1)
        for boundary in ("zeros", "even", "odd", "constant", None) for padded in (True, False)
    ],
    case("stft of columns", lambda s, x: s.stft(x, nperseg=5, nfft=6, axis=0, scaling="psd"), M.T),
    case("istft", lambda s, x: s.istft(x, nperseg=4), signal.stft(X, nperseg=4)[2]),
    case("istft of a matrix",
         lambda s, x: s.istft(x, 2.0, nperseg=4, time_axis=0, freq_axis=1, scaling="psd"),
         np.moveaxis(signal.stft(M, nperseg=4)[2], (2, 1), (0, 1)), order=1),
    case("istft of both sides", lambda s, x: s.istft(x, nperseg=4, input_onesided=False),
         signal.stft(X, nperseg=4, return_onesided=False)[2], order=1),
]  # fmt: skip

PLACES = [
    case("welch in its rate", lambda s, fs: s.welch(X, fs, nperseg=4), 2.5),
    case("csd in its rate", lambda s, fs: s.csd(X, X[::-1], fs, nperseg=4), 2.5),
    case("periodogram in its rate", lambda s, fs: s.periodogram(X, fs), 2.5),
    case("coherence in its rate",
         lambda s, fs: s.coherence(X, np.sin(9 * X), fs, nperseg=4, detrend=False), 2.5),
    case("spectrogram in its rate", lambda s, fs: s.spectrogram(X, fs, nperseg=4), 2.5),
    case("stft in its rate", lambda s, fs: s.stft(X, fs, nperseg=4, scaling="psd"), 2.5),
    case("istft in its rate",
         lambda s, fs: s.istft(signal.stft(X, nperseg=4)[2], fs, nperseg=4, scaling="psd"), 2.5),
    case("freqz in its rate", lambda s, fs: s.freqz(B, A, 5, fs=fs), 2.5),
    case("freqz at places", lambda s, w, fs: s.freqz(B, A, w, fs=fs), np.array([0.3, 0.7]), 2.5),
    case("resample in times", lambda s, t: s.resample(X, 6, t), 0.3 * np.arange(11.0)),
]  # fmt: skip


@pytest.mark.parametrize(
    "program", [*PLACES, *CONVOLUTIONS, *FILTERS, *PREPARATION, *RESAMPLING, *SPECTRA], ids=repr
)
def test_programs(program):
    check(ours, signal, program)


SINGLE = {
    "lfilter": lambda s, x: s.lfilter([1.0, 0.5], A.astype("f4"), x),
    "lfilter of single": lambda s, x: s.lfilter(B.astype("f4"), A.astype("f4"), x),
    "convolve": lambda s, x: s.convolve(x, x[:3]),
    "fftconvolve": lambda s, x: s.fftconvolve(x, x[:3]),
    "hilbert": lambda s, x: s.hilbert(x),
    "detrend": lambda s, x: s.detrend(x),
    "welch": lambda s, x: s.welch(x, nperseg=4),
    "resample_poly": lambda s, x: s.resample_poly(x, 3, 2),
    "resample": lambda s, x: s.resample(x, 5),
    "savgol_filter": lambda s, x: s.savgol_filter(x, 5, 2),
    "upfirdn": lambda s, x: s.upfirdn([1, 2], x, 2),
    "stft": lambda s, x: s.stft(x, nperseg=4),
    "sosfiltfilt": lambda s, x: s.sosfiltfilt(SOS.astype("f4"), x, padlen=3),
}


@pytest.mark.parametrize("name", SINGLE)
def test_single_precision_is_scipys(name):
    run = SINGLE[name]
    x = X.astype(np.float32)
    theirs, traced = run(signal, x), vk.jit(lambda x: run(ours, x))(x)
    pairs = zip(vk.tree_util.tree_leaves(traced), vk.tree_util.tree_leaves(theirs), strict=True)
    for a, b in pairs:
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_long_recursions_are_scipys():
    """Of an order and a length at which rounding would show."""
    b, a = signal.butter(6, 0.05)
    x = RNG.standard_normal(20_000)
    traced = vk.vjp(lambda x: ours.lfilter(b, a, x), x)[0]
    theirs = signal.lfilter(b, a, x)
    np.testing.assert_allclose(traced, theirs, rtol=1e-7, atol=1e-8 * abs(theirs).max())


@pytest.mark.parametrize("f", ["fftconvolve", "oaconvolve", "welch", "periodogram", "lfilter"])
def test_signals_of_no_samples(f):
    args = (B, A) if f == "lfilter" else ()
    more = (np.zeros(0),) if "convolve" in f else ()
    theirs = getattr(signal, f)(*args, np.zeros(0), *more)
    traced = vk.jit(lambda x: getattr(ours, f)(*args, x, *more))(np.zeros(0))
    pairs = zip(vk.tree_util.tree_leaves(traced), vk.tree_util.tree_leaves(theirs), strict=True)
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)


def test_transposes_are_filters():
    """<y, F x> is <F^T y, x>, and F^T is the filter from the other end."""
    f = lambda x: ours.lfilter(B, A, x)
    _, pullback = vk.vjp(f, X)
    np.testing.assert_allclose(pullback(X[::-1])[0], signal.lfilter(B, A, X)[::-1], rtol=1e-12)
    assert "recursion" in str(pullback.program)


def test_peaks_are_constant():
    x = np.array([0.0, 2.0, 1.0, 3.0, 3.0, 0.0, 1.0, 0.0])
    total = lambda x: np.sum(x[ours.find_peaks(x, height=1.5, plateau_size=1)[0]] ** 2)
    np.testing.assert_array_equal(vk.grad(total)(x), [0, 4, 0, 6, 0, 0, 0, 0])
    seen = {}
    vk.grad(lambda x: seen.update(ours.find_peaks(x, height=1.5, width=1)[1]) or x[0])(x)
    assert seen.keys() == {"left_bases", "right_bases"}


REFUSED = {
    "filtfilt: method='gust' is": lambda x: ours.filtfilt(B, A, x, method="gust"),
    "filtfilt: irlen=": lambda x: ours.filtfilt(B, A, x, irlen=5),
    "upfirdn: mode='edge'": lambda x: ours.upfirdn(B, x, mode="edge"),
    "resample_poly: padtype='line'": lambda x: ours.resample_poly(x, 2, 3, padtype="line"),
    "resample: domain='freq' is": lambda x: np.real(ours.resample(x, 5, domain="freq")),
    "decimate: a system as ftype= is": lambda x: ours.decimate(
        x, 2, ftype=signal.dlti([1.0], [1.0])
    ),
    "freqz: coefficients of more than one filter": lambda x: ours.freqz(
        x[:, None] * np.ones(5), 1.0, 5
    )[1],
    "freqz: plot=": lambda x: ours.freqz(x, plot=print)[1],
    "signal.bilinear: traced values": lambda x: ours.bilinear(x, A)[0],
    "signal.symiirorder1: traced values": lambda x: ours.symiirorder1(x, 0.1, 0.1),
    "signal.argrelmax: traced values": lambda x: ours.argrelmax(x)[0],
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused(words):
    with pytest.raises(UnsupportedError) as caught:
        vk.grad(lambda x: np.sum(REFUSED[words](x)))(X)
    assert words in str(caught.value)
    assert "test_signal.py:" in str(caught.value)


def test_what_depends_on_values_is_refused_while_they_are_not_known():
    with pytest.raises(UnsupportedError, match="peaks of values that are not known"):
        vk.jit(lambda x: x[ours.find_peaks(x)[0]])(X)
    with pytest.raises(UnsupportedError, match="padlen=None of coefficients"):
        vk.jit(lambda sos: ours.sosfiltfilt(sos, np.zeros(40)))(SOS)


ERRORS = {
    "same dimensionality": lambda x: ours.convolve(x, M),
    "mode flags": lambda x: ours.convolve(x, Y, "all"),
    "shape": lambda x: ours.lfilter(B, A, x, zi=np.ones(5)),
    "greater than padlen": lambda x: ours.filtfilt(B, A, x, padlen=20),
    "polyorder must be less": lambda x: ours.savgol_filter(x, 3, 5),
    "boundary": lambda x: ours.stft(x, nperseg=4, boundary="no"),
    "Trend type": lambda x: ours.detrend(x, type="cubic"),
    "odd": lambda x: ours.medfilt(x, 4),
    "sos array": lambda x: ours.sosfilt(np.ones((2, 5)), x),
}


@pytest.mark.parametrize("words", ERRORS)
def test_errors_are_scipys(words):
    run = ERRORS[words]
    for f in (vk.grad(lambda x: np.sum(run(x))), vk.jit(run)):
        with pytest.raises(ValueError, match=words):
            f(X)


def test_every_name_is_ours_or_refuses_or_takes_no_traced_values():
    public = {n for n in dir(signal) if not n.startswith("_")}
    modules = {n for n in public if type(getattr(signal, n)).__name__ == "module"}
    refusing = {n for n in public if hasattr(getattr(ours, n), "__wrapped__")} - set(ours.__all__)
    plain = {
        "BadCoefficients", "besselap", "buttap", "cheb1ap", "cheb2ap", "correlation_lags",
        "ellipap", "max_len_seq", "test", "unit_impulse",
    }  # fmt: skip
    assert public - modules - plain - refusing == set(ours.__all__)
    assert all(getattr(ours, n) is getattr(signal, n) for n in plain | modules)
    for name in set(ours.__all__):
        assert inspect.signature(getattr(ours, name)) == inspect.signature(getattr(signal, name))
