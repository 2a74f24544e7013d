"""`vmap`: a function of one example, on a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NoReturn

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.core.tracer import RUNNING, require_open
from vjpkit.pytree import PyTree, PyTreeDef, broadcast_prefix, flatten, flatten_with_path, keystr
from vjpkit.transforms.arguments import Transformed, called, plain_array, require_arrays
from vjpkit.transforms.batch import AxisSize, Batched, Batches, over_axis
from vjpkit.transforms.traces import current

__all__ = ["vmap"]

Axes = Any  # int, None, or a tree prefix of them


class VMap(Transformed):
    """What `vmap` returns."""

    transform = "vmap"

    def __init__(
        self,
        fun: Callable[..., PyTree],
        in_axes: Axes,
        out_axes: Axes,
        axis_name: Hashable,
        axis_size: int | None,
    ) -> None:
        super().__init__(
            fun, in_axes=in_axes, out_axes=out_axes, axis_name=axis_name, axis_size=axis_size
        )
        if isinstance(in_axes, list):
            in_axes = tuple(in_axes)
        if not (in_axes is None or isinstance(in_axes, int | tuple | dict)):
            raise TypeError(
                f"vmap: in_axes must be an int, None, or a tuple of them, got {in_axes!r}"
                f"{at(calling_position())}"
            )
        self.in_axes = in_axes
        self.out_axes = out_axes
        require_name(self.label, axis_name)
        self.axis_name = axis_name
        self.axis_size = axis_size

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        leaves, tree = flatten((args, kwargs))
        axes = self._axes_of(args, kwargs)
        n = self._size(leaves, axes, tree)
        trace = Batches(n if self.axis_name is None else AxisSize(n, key_of(self.axis_name)))
        inputs = [
            x if axis is None else Batched(front(self._array(x, i, tree), axis), trace)
            for i, (x, axis) in enumerate(zip(leaves, axes, strict=True))
        ]
        inner_args, inner_kwargs = tree.unflatten(inputs)
        try:
            with over_axis(trace):
                y = called(trace, self.fun, inner_args, inner_kwargs, "abstract")
        finally:
            trace.close(self.label)
        outs, out_tree = flatten(y)
        require_arrays(self.label, y, outs)
        out_axes = broadcast_prefix(self.out_axes, y, is_none, f"{self.label}: out_axes")
        pairs = zip(outs, out_axes, strict=True)
        return out_tree.unflatten([self._out(trace, x, axis) for x, axis in pairs])

    def _axes_of(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> list[int | None]:
        """An axis per leaf; keyword arguments are mapped along axis 0, as in JAX."""
        if isinstance(self.in_axes, tuple) and len(self.in_axes) != len(args):
            raise ValueError(
                f"{self.label}: in_axes has {counted(len(self.in_axes), 'entry', 'entries')} for "
                f"{counted(len(args), 'positional argument')}{at(calling_position())}.\n"
                "Give one per argument; keyword arguments are "
                "mapped along axis 0."
            )
        name = f"{self.label}: in_axes"
        return [
            *broadcast_prefix(self.in_axes, args, is_none, name),
            *broadcast_prefix(0, kwargs, is_none, name),
        ]

    def _size(self, leaves: Sequence[Value], axes: Sequence[int | None], tree: PyTreeDef) -> int:
        """The common length of the mapped axes."""
        sizes: dict[int, int] = {}
        for i, (x, axis) in enumerate(zip(leaves, axes, strict=True)):
            if axis is None:
                continue
            if not isinstance(axis, int):
                raise TypeError(
                    f"{self.label}: in_axes must hold ints and None, got {axis!r}"
                    f"{at(calling_position())}"
                )
            shape = np.shape(x)
            if not -len(shape) <= axis < len(shape):
                raise ValueError(
                    f"{self.label}: {_place(tree, i)} has shape {shape}, which has no axis {axis} "
                    f"to map over{at(calling_position())}.\nUse in_axes=None for arguments that "
                    "are the same for every example."
                )
            sizes[i] = shape[axis]
        if self.axis_size is not None:
            if not isinstance(self.axis_size, int) or self.axis_size < 0:
                raise TypeError(
                    f"{self.label}: axis_size must be an int, got {self.axis_size!r}"
                    f"{at(calling_position())}"
                )
            sizes[-1] = self.axis_size
        if not sizes:
            raise ValueError(
                f"{self.label}: nothing is mapped: no argument is an array with an axis in in_axes="
                f"{self.in_axes!r}{at(calling_position())}.\n"
                "Pass an array to map over, or give axis_size= for that many equal results."
            )
        if len(set(sizes.values())) > 1:
            self._disagree(sizes, leaves, tree)
        return next(iter(sizes.values()))

    def _disagree(
        self, sizes: dict[int, int], leaves: Sequence[Value], tree: PyTreeDef
    ) -> NoReturn:
        words = [
            f"axis_size is {n}"
            if i < 0
            else f"{_place(tree, i)} has {n} (shape {np.shape(leaves[i])})"
            for i, n in sizes.items()
        ]
        raise ValueError(
            f"{self.label}: the mapped axes must have the same length{at(calling_position())}:\n  "
            + "\n  ".join(words)
        )

    def _out(self, trace: Batches, y: Value, axis: int | None) -> Value:
        require_open(y if not isinstance(y, Batched) or y.owner is not trace else y.value)
        if axis is None:
            if isinstance(y, Batched) and y.owner is trace:
                raise ValueError(
                    f"{self.label}: out_axes is None for an output that differs between examples"
                    f"{at(calling_position())}.\nGive its axis, or combine the examples first: "
                    "vk.lax.psum, pmean, pmax."
                )
            return current(y)
        dense = trace.dense(y)
        if not isinstance(axis, int):
            raise TypeError(
                f"{self.label}: out_axes must hold ints and None, got {axis!r}"
                f"{at(calling_position())}"
            )
        ndim = np.ndim(dense)
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"{self.label}: out_axes puts the batch at axis {axis} of an output that has "
                f"{counted(ndim, 'axis', 'axes')} with it (shape {np.shape(dense)})"
                f"{at(calling_position())}"
            )
        if axis == 0:
            return dense if isinstance(y, Batched) else fresh_copy(dense)
        return np.moveaxis(dense, 0, axis)

    def _array(self, x: Value, i: int, tree: PyTreeDef) -> Value:
        """A mapped leaf, which must be an array that can be traced."""
        return plain_array(self.label, _place(tree, i), x) if isinstance(x, np.ndarray) else x


def require_name(label: str, name: Hashable) -> None:
    """Raise unless ``name`` can be the name of an axis, or None."""
    try:
        hash(name)
    except TypeError:
        kind = type(name).__name__
    else:
        if not isinstance(name, tuple):
            return
        kind = "tuple, which names several axes"
    raise TypeError(
        f"{label}: axis_name must be a string or another hashable name, got a {kind}"
        f"{at(calling_position())}.\nNest vmaps, each with a name of its own, for several axes."
    )


def key_of(name: Hashable) -> Hashable:
    """What programs call an axis of that name here: inside of others of the same name, not so."""
    outer = sum([axis.name == name for axis in RUNNING.get().axes])
    return (name, outer) if outer else name


def is_none(x: object) -> bool:
    return x is None


def front(x: Value, axis: int) -> Value:
    """``x`` with the mapped axis first."""
    x = x if hasattr(x, "dtype") else np.asarray(x)
    return x if axis == 0 else np.moveaxis(x, axis, 0)


def fresh_copy(x: Value) -> Value:
    """An output that was repeated for all examples as an array of its own."""
    return x.copy() if isinstance(x, np.ndarray) else x


def _place(tree: PyTreeDef, i: int) -> str:
    path = flatten_with_path(tree.unflatten(range(tree.num_leaves)))[0][i][0]
    kind = "argument" if path[0] == flatten_with_path((0,))[0][0][0][0] else "keyword"
    return f"{kind} {keystr(path[1:])}"


def vmap(
    fun: Callable[..., PyTree] | None = None,
    in_axes: Axes = 0,
    out_axes: Axes = 0,
    axis_name: Hashable = None,
    axis_size: int | None = None,
) -> Callable[..., PyTree]:
    """Map ``fun`` over leading (or other) axes of its arguments, without a loop.

    ``in_axes`` gives the mapped axis of each argument (a tree prefix of ints; None: the same for
    all examples), ``out_axes`` where the batch goes in the outputs. Equal to stacking ``fun`` over
    the examples, of which those of one number are scalars, as a loop over an array gives them; but
    ``fun`` runs once, and so does what it does to plain arrays from outside. Raises `ValueError`
    where mapped axes differ in length, naming each. With ``axis_name``, collectives inside combine
    the examples: `vk.lax.psum`, ``pmean``, ``pmax``, ``pmin``, ``all_gather``, ``axis_index``.
    ``axis_size`` is needed where nothing is mapped.

    >>> import numpy as np, vjpkit as vk
    >>> vk.vmap(vk.grad(lambda x: x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> vk.vmap(np.dot, in_axes=(0, None))(np.eye(2), np.array([3.0, 4.0]))
    array([3., 4.])
    >>> vk.vmap(lambda x: x / vk.lax.psum(x, "i"), axis_name="i")(np.array([1.0, 3.0]))
    array([0.25, 0.75])
    """
    if fun is None:
        return lambda f: VMap(f, in_axes, out_axes, axis_name, axis_size)
    return VMap(fun, in_axes, out_axes, axis_name, axis_size)
