"""Mutants that compute the same as the rule they are made of, each with the proof."""

_ONE_CALL = "NumPy's function of a traced value calls the primitive, the primitive of arrays impl"
_UNUSED = "the first factor of a recurrence is not used"
_BOOLS = "0 and 1 are in every dtype; the recurrence takes the common one of its operands"
_SAME_PRODUCT = "the product of a stack and a matrix is that of all rows of the stack: only slower"
_ONLY_BOOL = "NumPy takes `bool` and `np.dtype(bool)` for the same dtype"

EQUIVALENT: dict[str, str] = {
    "ops.structural.Copy.batch: copy(values[0], order=order)  ->  values[0]": (
        "a copy has the values of what it copies; whose memory they lie in is no matter of values"
    ),
    "ops.structural.Sum.transpose: math.prod(shape) > 8192  ->  math.prod(shape) > 8193": (
        "both ways give the same values; from here on the one that takes no memory is quicker"
    ),
    "ops.products.Matmul.batch: np.squeeze(out, axis=gone) if gone else out"
    "  ->  np.squeeze(out, axis=gone)": "squeezing no axis gives the same array",
    "ops.products._merged: x.ndim <= 2  ->  x.ndim <= 3": _SAME_PRODUCT,
    "ops.products._merged: np.reshape(x, (aval_of(x).size // max(x.shape[-1], 1), x.shape[-1]))"
    "  ->  x": _SAME_PRODUCT,
    "ops.products._merged: np.reshape(matmul(rows, y), (*x.shape[:-1], *y.shape[1:]))"
    " if x.shape[-1] else matmul(x, y)  ->  matmul(x, y)": _SAME_PRODUCT,
    "ops.products._fitted: cast(ct, dtype) if ct.shape == shape else unbroadcast(ct, shape, dtype)"
    "  ->  unbroadcast(ct, shape, dtype)": "unbroadcasting to the same shape is the cast",
    "ops.cumulative.Recurrence._transpose_b: previous(a, axis, not reverse, 0)"
    "  ->  previous(a, axis, not reverse, 1)": _UNUSED,
    "ops.cumulative.RunningExtremum.jvp: previous(out, params['axis'], params['reverse'], 0)"
    "  ->  previous(out, params['axis'], params['reverse'], 1)": _UNUSED,
    "ops.cumulative.RunningExtremum.jvp: structural.to_dtype(goes_on, out.dtype)  ->  goes_on": (
        _BOOLS
    ),
    "ops.cumulative.RunningExtremum.jvp: structural.to_dtype(attained, out.dtype)  ->  attained": (
        _BOOLS
    ),
    "ops.reductions.Prod.weights: x  ->  -x": "an array without elements is its own negative",
    "ops.reductions.Std.weights: np.where(equal, 1, out)  ->  np.where(equal, 2, out)": (
        "where the values are equal the quotient is not taken: any divisor but 0 will do"
    ),
    "ops.updates.Update.batch: x if batched[-2] else np.broadcast_to(x, (n, *shape))"
    "  ->  np.broadcast_to(x, (n, *shape))": (
        "broadcasting to its own shape leaves an array as it is"
    ),
    "ops.updates.batched_positions: np.dtype(bool)  ->  bool": _ONLY_BOOL,
    "ops.updates.seen_shape: np.dtype(bool)  ->  bool": _ONLY_BOOL,
    "ops.updates.batched_positions: (np.broadcast_to(positions, (n, *np.shape(positions))), size)"
    "  ->  (np.broadcast_to(positions, (n, *np.shape(positions))), -size)": (
        "a negative length tells NumPy's reshape to find it: it is the size of an example"
    ),
    "ops.updates.through: step(x, **dict(params)) if isinstance(x, Tracer)"
    " else step.impl(x, **dict(params))  ->  step(x, **dict(params))": _ONE_CALL,
    "ops.updates.through: step(x, **dict(params)) if isinstance(x, Tracer)"
    " else step.impl(x, **dict(params))  ->  step.impl(x, **dict(params))": _ONE_CALL,
}
