"""Arrays without symmetry, in the domain of most functions."""

import numpy as np

V = np.array([0.31, 0.77, 0.52, 0.93, 0.18])
W = np.array([0.64, 0.29, 0.88, 0.41, 0.56])
M = np.array([[0.31, 0.77, 0.52, 0.93], [0.18, 0.64, 0.29, 0.88], [0.41, 0.56, 0.83, 0.22]])
N = np.array([[0.71, 0.13, 0.47, 0.36], [0.58, 0.92, 0.67, 0.26], [0.84, 0.39, 0.15, 0.53]])
CUBE = 0.2 + 1.7 * np.modf(0.618 * np.arange(1, 25))[0].reshape(2, 3, 4)
SIGNED = M * np.array([1.0, -1.0, -1.0, 1.0])
A = np.array([[2.3, 0.4, -0.7], [0.2, 1.9, 0.5], [-0.3, 0.6, 1.4]])
SPD = A @ A.T
PAIR = np.stack([A, A.T + 0.3 * np.eye(3)])
B = np.array([[0.31, 0.77], [0.52, -0.93], [0.18, 0.64]])
Z = M * (1 + 0.5j) - 0.3j * N
ZV = V * (1 - 0.4j) + 0.2j
ZA = A + 1j * np.array([[0.1, 0.5, -0.2], [0.3, -0.4, 0.6], [0.2, 0.1, 0.7]])
X = np.float64(0.37)
Y = np.float64(1.28)
HOLES = np.where(M > 0.85, np.nan, M)
MASK = M > 0.4
EVEN = np.array([True, False, True, True, False])
INTS = np.array([3, 1, 2, 5, 4])
KNOTS = np.array([0.1, 0.35, 0.6, 0.9])
KNOWN = {"known": "the shape of the result depends on the values"}
COARSE = dict.fromkeys(
    ("first", "second", "dtypes"), "differences of values in single precision say nothing"
)
MOVED = dict.fromkeys(
    ("first", "second"), "differences move the values whose equality decides the shape"
)
LAYOUT = {"staged": "the memory layout is not known while a function is staged"}
ANY_ORDER = {"mapped": "which order, apart from the places asked for, is not defined"}
TRIANGLE = {"first": "differences of the imaginary diagonal, which is not read"}
NO_PRECISION = {"precision": "NumPy computes it in another precision"}
ROOTS = {"known": "zeros at the ends are stripped, so the number of roots depends on the values"}
PLAIN = {"staged": "takes no array"}
REAL = dict.fromkeys(
    ("staged", "mapped"),
    "NumPy gives real numbers where all eigenvalues are real; unknown ones are complex",
)
SCALAR = dict.fromkeys(
    ("value", "staged"), "a 0-d array or a scalar, as NumPy happened to contract"
)
LEADING = {"dtypes": "rounding decides which leading zeros the remainder has"}
UNSET = dict.fromkeys(
    ("value", "first", "second", "staged", "mapped", "dtypes"), "its elements are not set"
)
