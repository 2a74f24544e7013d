"""`scipy.signal` on traced values: convolutions, digital filters, spectra, resampling.

Values are computed by NumPy's operations and one recursion, so that all of it is differentiable in
signals, kernels, coefficients and windows, to any order, and is staged and mapped as NumPy's
functions are. They agree with SciPy's to rounding; dtypes and errors are SciPy's. Designs of
filters and windows are SciPy's own, and refuse traced values.

>>> import numpy as np, vjpkit as vk
>>> from vjpkit.scipy import signal
>>> vk.grad(lambda x: signal.lfilter([1.0], [1.0, -0.5], x)[-1])(np.zeros(3))
array([0.25, 0.5 , 1.  ])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.scipy import (
    _signal_convolutions,
    _signal_filters,
    _signal_preparation,
    _signal_resampling,
    _signal_spectra,
)
from vjpkit.scipy._calls import Call, known_only_in
from vjpkit.scipy._namespace import passing
from vjpkit.scipy._signal_calls import ours, refuse
from vjpkit.scipy._signal_convolutions import *  # noqa: F403  # the modules' public names are ours
from vjpkit.scipy._signal_filters import *  # noqa: F403  # the modules' public names are ours
from vjpkit.scipy._signal_preparation import *  # noqa: F403  # the modules' public names are ours
from vjpkit.scipy._signal_resampling import *  # noqa: F403  # the modules' public names are ours
from vjpkit.scipy._signal_spectra import *  # noqa: F403  # the modules' public names are ours
from vjpkit.transforms.staged import is_abstract

__all__ = sorted(
    [
        "find_peaks",
        *_signal_convolutions.__all__,
        *_signal_filters.__all__,
        *_signal_preparation.__all__,
        *_signal_resampling.__all__,
        *_signal_spectra.__all__,
    ]
)


@ours()
def find_peaks(
    call: Call, x: Value, height: Any, threshold: Any, distance: Any, prominence: Any, width: Any,
    wlen: Any, rel_height: Any, plateau_size: Any,
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """Where peaks are, and of their properties the integers: constants.

    Their values are ``x[peaks]``. Values that are not known have no peaks yet: it raises.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: x[find_peaks(x)[0]].sum())(np.array([0.0, 2.0, 1.0, 3.0, 0.0]))
    array([0., 1., 0., 1., 0.])
    """
    if is_abstract(x):
        refuse(call, "peaks of values that are not known are", "Call it outside jit and vmap.")
    peaks, properties = call.found
    return peaks, {k: v for k, v in properties.items() if np.asarray(v).dtype.kind in "iub"}


_DESIGN = "Design the filter outside, or give it vk.lax.stop_gradient of what is traced."
_BY_FILTERS = "Use lfilter, sosfilt, filtfilt or sosfiltfilt, which are differentiable."
_INSTEAD = {
    **dict.fromkeys(
        ("CZT", "ShortTimeFFT", "ZoomFFT", "czt", "zoom_fft", "closest_STFT_dual_window"),
        "Use np.fft, stft or spectrogram, which are differentiable.",
    ),
    **dict.fromkeys(
        ("StateSpace", "TransferFunction", "ZerosPolesGain", "abcd_normalize", "band_stop_obj",
         "bessel", "bilinear", "bilinear_zpk", "bode", "butter", "cheby1", "cheby2",
         "cont2discrete", "dbode", "dfreqresp", "dimpulse", "dlsim", "dlti", "dstep", "ellip",
         "findfreqs", "firls", "firwin", "firwin2", "firwin_2d", "freqresp", "freqs", "freqs_zpk",
         "freqz_sos", "freqz_zpk", "gammatone", "group_delay", "iircomb", "iirdesign", "iirfilter",
         "iirnotch", "iirpeak", "impulse", "invres", "invresz", "kaiser_atten", "kaiser_beta",
         "kaiserord", "lp2bp", "lp2bp_zpk", "lp2bs", "lp2bs_zpk", "lp2hp", "lp2hp_zpk", "lp2lp",
         "lp2lp_zpk", "lsim", "lti", "minimum_phase", "normalize", "place_poles", "remez",
         "residue", "residuez", "savgol_coeffs", "sos2tf", "sos2zpk", "sosfreqz", "ss2tf",
         "ss2zpk", "step", "tf2sos", "tf2ss", "tf2zpk", "unique_roots", "zpk2sos", "zpk2ss",
         "zpk2tf", "get_window", "buttord", "cheb1ord", "cheb2ord", "ellipord"),
        _DESIGN,
    ),
    **dict.fromkeys(
        ("cspline1d", "cspline1d_eval", "cspline2d", "qspline1d", "qspline1d_eval", "qspline2d",
         "gauss_spline", "sepfir2d", "spline_filter", "symiirorder1", "symiirorder2"),
        _BY_FILTERS,
    ),
    **dict.fromkeys(
        ("chirp", "gausspulse", "sawtooth", "square", "sweep_poly", "envelope", "lombscargle",
         "vectorstrength"),
        "Write it with NumPy's functions, which are differentiable.",
    ),
    **dict.fromkeys(
        ("argrelextrema", "argrelmax", "argrelmin", "find_peaks_cwt",
         "peak_prominences", "peak_widths", "check_COLA", "check_NOLA", "choose_conv_method",
         "czt_points"),
        "What it returns is constant: give it vk.lax.stop_gradient of what is traced.",
    ),
}  # fmt: skip
"""What refuses traced values, and what to do there."""

_get, __dir__ = passing("signal", __all__)
__getattr__ = known_only_in("signal", _INSTEAD, _get)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
