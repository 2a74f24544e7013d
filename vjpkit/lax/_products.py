"""Products of arrays and convolutions under JAX's names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vjpkit.core.aval import Shape, Value
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.lax._arguments import array, axes, per_axis
from vjpkit.lax._reductions import padtype_to_pads
from vjpkit.lax._shape import pad
from vjpkit.ops import structural

__all__ = [
    "ConvDimensionNumbers", "batch_matmul", "conv", "conv_dimension_numbers",
    "conv_general_dilated", "conv_transpose", "conv_with_general_padding", "dot", "dot_general",
]  # fmt: skip

Axes = Sequence[int]
DotDimensionNumbers = tuple[tuple[Axes, Axes], tuple[Axes, Axes]]


def _same_dtype(function: str, lhs: Value, rhs: Value) -> tuple[Value, Value]:
    x, y = array(function, lhs, "lhs"), array(function, rhs, "rhs")
    if x.dtype != y.dtype:
        raise TypeError(
            f"{function}: lhs has dtype {x.dtype}, rhs {y.dtype}; they must be equal"
            f"{at(calling_position())}\nCast one with convert_element_type."
        )
    return x, y


def _given(out: Value, dtype: Any) -> Value:
    return out if dtype is None else structural.to_dtype(out, np.dtype(dtype))


def dot(lhs: Value, rhs: Value, precision: Any = None, preferred_element_type: Any = None) -> Value:
    """The product of vectors and matrices, as `numpy.dot`; ``precision`` is NumPy's always.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.dot(np.ones((2, 3)), np.ones(3))
    array([3., 3.])
    """
    x, y = _same_dtype("dot", lhs, rhs)
    if not (1 <= x.ndim <= 2 and 1 <= y.ndim <= 2) or x.shape[-1] != y.shape[0]:
        raise TypeError(
            f"dot: the shapes {x.shape} and {y.shape} are not those of two vectors or matrices "
            f"that fit{at(calling_position())}\nUse dot_general, batch_matmul or np.einsum."
        )
    return _given(np.dot(x, y), preferred_element_type)


def batch_matmul(lhs: Value, rhs: Value, precision: Any = None) -> Value:
    """Products of stacks of matrices, whose leading axes are equal.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.batch_matmul(np.ones((5, 2, 3)), np.ones((5, 3, 4))).shape
    (5, 2, 4)
    """
    x, y = _same_dtype("batch_matmul", lhs, rhs)
    if x.ndim < 2 or x.ndim != y.ndim or x.shape[:-2] != y.shape[:-2]:
        raise TypeError(
            f"batch_matmul: the shapes {x.shape} and {y.shape} are not those of two stacks of "
            f"matrices with equal leading axes{at(calling_position())}"
        )
    return np.matmul(x, y)


def dot_general(
    lhs: Value,
    rhs: Value,
    dimension_numbers: DotDimensionNumbers,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """Sums of products over contracted axes, for each index of batch axes.

    ``dimension_numbers`` is ``((lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch))``. The
    result has the batch axes, then the other axes of lhs, then those of rhs. One matrix product.

    >>> import numpy as np, vjpkit as vk
    >>> x, y = np.ones((5, 2, 3)), np.ones((3, 5, 4))
    >>> vk.lax.dot_general(x, y, (((2,), (0,)), ((0,), (1,)))).shape
    (5, 2, 4)
    """
    x, y = _same_dtype("dot_general", lhs, rhs)
    try:
        (lc, rc), (lb, rb) = dimension_numbers
    except (TypeError, ValueError):
        raise TypeError(
            "dot_general: dimension_numbers must be ((lhs_contracting, rhs_contracting), "
            f"(lhs_batch, rhs_batch)), got {dimension_numbers!r}{at(calling_position())}"
        ) from None
    left = axes("dot_general", "lhs axes", (*lb, *lc), x.ndim)
    right = axes("dot_general", "rhs axes", (*rb, *rc), y.ndim)
    for kind, mine, theirs in (
        ("batch", left[: len(lb)], right[: len(rb)]),
        ("contracting", left[len(lb) :], right[len(rb) :]),
    ):
        sizes = [x.shape[a] for a in mine], [y.shape[a] for a in theirs]
        if sizes[0] != sizes[1]:
            raise TypeError(
                f"dot_general: the {kind} axes have the sizes {tuple(sizes[0])} in lhs and "
                f"{tuple(sizes[1])} in rhs; they must be equal{at(calling_position())}"
            )
    free_x = [a for a in range(x.ndim) if a not in left]
    free_y = [a for a in range(y.ndim) if a not in right]
    batch = tuple([x.shape[a] for a in left[: len(lb)]])
    inner = math.prod([x.shape[a] for a in left[len(lb) :]])
    rows, columns = tuple([x.shape[a] for a in free_x]), tuple([y.shape[a] for a in free_y])
    a = np.transpose(x, (*left[: len(lb)], *free_x, *left[len(lb) :]))
    b = np.transpose(y, (*right[: len(rb)], *right[len(rb) :], *free_y))
    a = np.reshape(a, (*batch, math.prod(rows), inner))
    b = np.reshape(b, (*batch, inner, math.prod(columns)))
    out = np.reshape(np.matmul(a, b), (*batch, *rows, *columns))
    return _given(out[()] if not out.ndim else out, preferred_element_type)


# ---------------------------------------------------------------------------------- convolutions


class ConvDimensionNumbers(NamedTuple):
    """Where the axes are: batch, feature and space in lhs and out; out, in and space in rhs."""

    lhs_spec: tuple[int, ...]
    rhs_spec: tuple[int, ...]
    out_spec: tuple[int, ...]


def conv_dimension_numbers(
    lhs_shape: Sequence[int], rhs_shape: Sequence[int], dimension_numbers: Any
) -> ConvDimensionNumbers:
    """Letters such as ``("NHWC", "HWIO", "NHWC")`` as axes; None stands for N, C, and space.

    >>> import vjpkit as vk
    >>> vk.lax.conv_dimension_numbers((1, 8, 8, 3), (2, 2, 3, 5), ("NHWC", "HWIO", "NHWC"))
    ConvDimensionNumbers(lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), out_spec=(0, 3, 1, 2))
    """
    if isinstance(dimension_numbers, ConvDimensionNumbers):
        return dimension_numbers
    ndim = len(lhs_shape)
    if len(rhs_shape) != ndim or ndim < 2:
        raise TypeError(
            f"convolution: lhs has "
            f"{counted(ndim, 'axis', 'axes')}, rhs {len(rhs_shape)}; they must be as many, two at "
            f"least{at(calling_position())}"
        )
    if dimension_numbers is None:
        plain = tuple(range(ndim))
        return ConvDimensionNumbers(plain, plain, plain)
    specs = tuple(dimension_numbers)
    letters = ("NC", "OI", "NC")
    fits = len(specs) == 3 and all(
        isinstance(s, str) and len(set(s)) == len(s) == ndim and set(first) <= set(s)
        for s, first in zip(specs, letters, strict=True)
    )
    space = [c for c in specs[1] if c not in "OI"] if fits else []
    if not fits or any(set(s) - set("NCOI") - set(space) for s in specs):
        raise ValueError(
            f"convolution: dimension_numbers={dimension_numbers!r} must be three strings of {ndim} "
            "different letters, with N and C in the first and last and O and I in the second"
            f"{at(calling_position())}\nFor instance ('NHWC', 'HWIO', 'NHWC')."
        )
    lhs, rhs, out = (
        tuple([s.index(c) for c in (*first, *space)])
        for s, first in zip(specs, letters, strict=True)
    )
    return ConvDimensionNumbers(lhs, rhs, out)


def conv_general_dilated(
    lhs: Value,
    rhs: Value,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """Convolution (without flipping the kernel) in any number of dimensions.

    lhs is (N, C, space...), rhs (O, I, space...) and the result (N, O, space...), or as
    `conv_dimension_numbers` says. ``lhs_dilation`` puts zeros between elements of lhs,
    ``rhs_dilation`` between those of the kernel; features or examples may come in groups.
    Windows are a view, so it is one matrix product.

    >>> import numpy as np, vjpkit as vk
    >>> x, kernel = np.arange(5.0).reshape(1, 1, 5), np.array([[[1.0, 0.0, -1.0]]])
    >>> vk.lax.conv_general_dilated(x, kernel, (1,), "VALID")
    array([[[-2., -2., -2.]]])
    """
    function = "conv_general_dilated"
    x, w = _same_dtype(function, lhs, rhs)
    numbers = conv_dimension_numbers(x.shape, w.shape, dimension_numbers)
    x, w = np.transpose(x, numbers.lhs_spec), np.transpose(w, numbers.rhs_spec)
    d = x.ndim - 2
    strides = per_axis(function, "window_strides", window_strides, d)
    spread, dilation = (
        (1,) * d if given is None else per_axis(function, name, given, d)
        for name, given in (("lhs_dilation", lhs_dilation), ("rhs_dilation", rhs_dilation))
    )
    groups = _groups(x.shape, w.shape, feature_group_count, batch_group_count)
    lengths = [(n - 1) * s + 1 if n else 0 for n, s in zip(x.shape[2:], spread, strict=True)]
    spans = [(n - 1) * r + 1 for n, r in zip(w.shape[2:], dilation, strict=True)]
    pads = padtype_to_pads(lengths, spans, strides, padding)
    config = [(low, high, s - 1) for (low, high), s in zip(pads, spread, strict=True)]
    if any(low or high or between for low, high, between in config):
        x = pad(x, 0, [(0, 0, 0), (0, 0, 0), *config])
    out = _correlated(x, w, spans, strides, dilation, groups, batch_group_count > 1)
    inverse = np.argsort(numbers.out_spec).tolist()
    return _given(np.transpose(out, inverse), preferred_element_type)


def _groups(x: Shape, w: Shape, features: int, batches: int) -> int:
    """How many groups there are; an error where sizes do not fit."""
    if features > 1 and batches > 1:
        raise ValueError(
            "conv_general_dilated: feature_group_count and batch_group_count cannot both be "
            f"greater than 1, got {features} and {batches}{at(calling_position())}"
        )
    groups = max(features, batches)
    if x[1] != w[1] * features or w[0] % groups or x[0] % batches or groups < 1:
        raise ValueError(
            f"conv_general_dilated: lhs has {counted(x[0], 'example')} of "
            f"{counted(x[1], 'feature')}, rhs {w[0]} outputs "
            f"of {w[1]} inputs, in {features} groups of features and {batches} of examples: these "
            f"do not fit{at(calling_position())}\n"
            "Features of lhs are groups times inputs of rhs; groups divide its outputs."
        )
    return groups


def _correlated(
    x: Value,
    w: Value,
    spans: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    of_examples: bool,
) -> Value:
    """(N, O, space...) of (N, C, space...) and (O, I, kernel...), padded already."""
    d = len(spans)
    too_small = any(n < s for n, s in zip(x.shape[2:], spans, strict=True))
    if too_small:
        space = tuple(
            [max(0, (n - s) // t + 1) for n, s, t in zip(x.shape[2:], spans, strides, strict=True)]
        )
        return np.zeros((x.shape[0], w.shape[0], *space), x.dtype)
    space_axes = tuple(range(2, 2 + d))
    view = np.lib.stride_tricks.sliding_window_view(x, tuple(spans), axis=space_axes)
    chosen = [slice(None), slice(None), *[slice(None, None, s) for s in (*strides, *dilation)]]
    view = view[tuple(chosen)]
    n, space = view.shape[0], view.shape[2 : 2 + d]
    o, i = w.shape[:2]
    if groups == 1:
        contracted = (1, *range(2 + d, 2 + 2 * d))
        out = np.tensordot(view, w, axes=(contracted, (1, *space_axes)))
        return np.moveaxis(out, -1, 1)
    if of_examples:
        view = np.reshape(view, (groups, n // groups, *view.shape[1:]))
    else:
        view = np.reshape(view, (n, groups, i, *view.shape[2:]))
        view = np.moveaxis(view, 1, 0)
    each = view.shape[1]
    # (group, example, space..., input, kernel...) times (group, input, kernel..., output).
    order = (0, 1, *range(3, 3 + d), 2, *range(3 + d, 3 + 2 * d))
    inner = i * math.prod(w.shape[2:])
    rows = np.reshape(np.transpose(view, order), (groups, each * math.prod(space), inner))
    columns = np.swapaxes(np.reshape(w, (groups, o // groups, inner)), 1, 2)
    out = np.reshape(np.matmul(rows, columns), (groups, each, *space, o // groups))
    out = np.moveaxis(out, (0, -1), (1, 2))
    return np.reshape(out, (each, o, *space))


def conv(
    lhs: Value,
    rhs: Value,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """`conv_general_dilated` of (N, C, space...) and (O, I, space...), without dilation.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.conv(np.ones((1, 2, 4, 4)), np.ones((3, 2, 2, 2)), (1, 1), "SAME").shape
    (1, 3, 4, 4)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, preferred_element_type=preferred_element_type
    )


def conv_with_general_padding(
    lhs: Value,
    rhs: Value,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """`conv` with dilation.

    >>> import numpy as np, vjpkit as vk
    >>> x, w = np.ones((1, 1, 5)), np.ones((1, 1, 2))
    >>> vk.lax.conv_with_general_padding(x, w, (1,), [(0, 0)], None, (2,)).shape
    (1, 1, 3)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def conv_transpose(
    lhs: Value,
    rhs: Value,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """The convolution that enlarges by ``strides``: with zeros between the elements of lhs.

    Axes are ("NHWC", "HWIO", "NHWC") unless ``dimension_numbers`` says otherwise. With
    ``transpose_kernel`` it is the gradient of a convolution: the kernel is flipped, and its input
    and output features change places.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.conv_transpose(np.ones((1, 4, 3)), np.ones((2, 3, 5)), (2,), "SAME").shape
    (1, 8, 5)
    """
    x, w = _same_dtype("conv_transpose", lhs, rhs)
    d = x.ndim - 2
    if dimension_numbers is None:
        if not 1 <= d <= 3:
            raise ValueError(
                f"conv_transpose: lhs has "
                f"{counted(x.ndim, 'axis', 'axes')}; beyond three of space give "
                f"dimension_numbers{at(calling_position())}"
            )
        space = "DHW"[3 - d :] if d > 1 else "H"
        dimension_numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    numbers = conv_dimension_numbers(x.shape, w.shape, dimension_numbers)
    steps = per_axis("conv_transpose", "strides", strides, d)
    dilation = (
        (1,) * d
        if rhs_dilation is None
        else per_axis("conv_transpose", "rhs_dilation", rhs_dilation, d)
    )
    sizes = [(w.shape[a] - 1) * r + 1 for a, r in zip(numbers.rhs_spec[2:], dilation, strict=True)]
    pads: Any = padding
    if isinstance(padding, str):
        pads = [_transposed_pads(k, s, padding) for k, s in zip(sizes, steps, strict=True)]
    if transpose_kernel:
        w = np.swapaxes(np.flip(w, numbers.rhs_spec[2:]), *numbers.rhs_spec[:2])
    return conv_general_dilated(
        x, w, (1,) * d, pads, steps, dilation, numbers,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def _transposed_pads(size: int, step: int, padding: str) -> tuple[int, int]:
    """Padding with which a result has n * step elements, or those of the full convolution."""
    kind = padding.upper()
    if kind not in ("SAME", "VALID"):
        raise ValueError(
            f"conv_transpose: padding must be 'SAME', 'VALID' or pairs (low, high), got {padding!r}"
            f"{at(calling_position())}"
        )
    if kind == "SAME":
        total = size + step - 2
        low = size - 1 if step > size - 1 else -(-total // 2)
    else:
        total = size + step - 2 + max(size - step, 0)
        low = size - 1
    return low, total - low
