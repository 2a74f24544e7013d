"""Jacobians and Hessians: all basis vectors at once through a linear map."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.rows import innermost
from vjpkit.core.tracer import Tracer
from vjpkit.ops.structural import eye
from vjpkit.pytree import PyTree
from vjpkit.transforms.arguments import (
    Transformed,
    name_of,
    read_arguments,
    require_function,
    resolve_argnums,
)
from vjpkit.transforms.backings import nbytes_text
from vjpkit.transforms.derivatives import Function, linearized
from vjpkit.transforms.linear import LinearMap
from vjpkit.transforms.sides import Side

__all__ = ["hessian", "jacfwd", "jacobian", "jacrev"]


# -------------------------------------------------------------------------- matrices of linear maps


def basis(avals: Sequence[Aval], start: int, stop: int, like: Value = None) -> list[Value]:
    """Basis vectors ``start`` to ``stop`` of the space of these leaves, as one batch per leaf.

    Staged where ``like`` is, so that a compiler knows what they are.
    """
    out = []
    offset = 0
    inner = innermost(like)
    for aval in avals:
        shape, k = (stop - start, aval.size), start - offset
        if isinstance(inner, Tracer):
            block = inner.owner.process(eye, (), {"shape": shape, "k": k, "dtype": aval.dtype})
        else:
            block = np.eye(stop - start, aval.size, k, aval.dtype)
        out.append(np.reshape(block, (stop - start, *aval.shape)))
        offset += aval.size
    return out


def columns(
    linear: LinearMap, chunk_size: int | None, label: str, like: Value = None
) -> list[list[Value]]:
    """The map at every basis vector: for each codomain leaf and domain leaf (\\*domain,
    \\*codomain)."""
    avals = linear.domain.live_avals
    outs = linear.codomain.live_avals
    n = linear.domain.size
    _require_memory(label, n, sum(a.nbytes for a in outs))
    step = n if chunk_size is None else chunk_size
    parts = [
        linear.apply_batched(basis(avals, start, min(start + step, n), like), min(step, n - start))
        for start in range(0, n, max(step, 1))
    ]
    blocks = []
    for j, out in enumerate(outs):
        pieces = [p[j] for p in parts]
        whole = _joined(pieces, [min(step, n - s) for s in range(0, n, max(step, 1))], out)
        blocks.append(_split(whole, avals, out))
    return blocks


def _joined(pieces: Sequence[Value | None], sizes: Sequence[int], out: Aval) -> Value:
    dense = [
        np.zeros((size, *out.shape), out.dtype) if p is None else p
        for p, size in zip(pieces, sizes, strict=True)
    ]
    if not dense:
        return np.zeros((0, *out.shape), out.dtype)
    return dense[0] if len(dense) == 1 else np.concatenate(dense)


def _split(whole: Value, avals: Sequence[Aval], out: Aval) -> list[Value]:
    """(n, \\*out) cut along the leading axis into one (\\*leaf, \\*out) per domain leaf."""
    if len(avals) == 1:
        return [np.reshape(whole, (*avals[0].shape, *out.shape))]
    blocks = []
    start = 0
    for aval in avals:
        part = whole[start : start + aval.size]
        blocks.append(np.reshape(part, (*aval.shape, *out.shape)))
        start += aval.size
    return blocks


def _require_memory(label: str, n: int, nbytes: int) -> None:
    """Say how large the result would be instead of running out of memory."""
    total = n * nbytes
    try:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    if total > available:
        raise MemoryError(
            f"{label}: the dense result needs {nbytes_text(total)} ({n} basis vectors x "
            f"{nbytes_text(nbytes)}), more than this machine's {nbytes_text(available)}.\n"
            "Use products with the Jacobian instead: vjp, jvp, hvp, or LinearMap.as_scipy()."
        )


def matrix(
    linear: LinearMap, forward: bool, chunk_size: int | None, label: str, like: Value = None
) -> list[list[Value]]:
    """``blocks[out leaf][in leaf]`` of shape (\\*out, \\*in), by pushing or by pulling the basis,
    which is staged where ``like`` is."""
    if forward:
        blocks = columns(linear, chunk_size, label, like)
        pairs = zip(blocks, linear.codomain.live_avals, strict=True)
        return [[_moved(b, a.ndim) for b in row] for row, a in pairs]
    pulled = columns(linear.T, chunk_size, label, like)
    return [
        [pulled[i][j] for i in range(len(pulled))] for j in range(len(linear.codomain.live_avals))
    ]


def _moved(block: Value, out_ndim: int) -> Value:
    """(\\*in, \\*out) as (\\*out, \\*in)."""
    if not out_ndim or block.ndim == out_ndim:
        return block if isinstance(block, Tracer) else np.asarray(block, order="C")
    order = (*range(block.ndim - out_ndim, block.ndim), *range(block.ndim - out_ndim))
    moved = np.transpose(block, order)
    return moved if isinstance(moved, Tracer) else np.asarray(moved, order="C")


def arranged(blocks: list[list[Value]], codomain: Side, domain: Side) -> PyTree:
    """Blocks as a tree of the codomain whose leaves are trees of the domain."""
    tree = domain.tree
    return codomain.tree.unflatten([tree.unflatten(row) for row in blocks])


def dense(linear: LinearMap, chunk_size: int | None) -> PyTree:
    """`LinearMap.dense`."""
    require_chunk_size(f"{linear.name}.dense", chunk_size)
    forward = linear.domain.size <= linear.codomain.size
    blocks = matrix(linear, forward, chunk_size, f"{linear.name}.dense")
    domain, codomain = _single(linear.domain), _single(linear.codomain)
    return arranged(blocks, codomain, domain)


def _single(side: Side) -> Side:
    """A 1-tuple of arguments as its argument."""
    from dataclasses import replace

    children = side.tree.children()
    return replace(side, tree=children[0], star=False) if side.star and len(children) == 1 else side


def as_scipy(linear: LinearMap) -> Any:
    """`LinearMap.as_scipy`."""
    from scipy.sparse.linalg import LinearOperator

    domain, codomain = linear.domain.live_avals, linear.codomain.live_avals
    dtype = np.result_type(*[a.dtype for a in (*domain, *codomain)])
    _require_complex_linear(linear, dtype)
    adjoint = linear.H

    def apply(a: LinearMap, x: Any) -> Any:
        columns = np.asarray(x).reshape(a.domain.size, -1)
        out = a.apply_batched(_cut(columns.T, a.domain.live_avals), columns.shape[1])
        return _glued(out, a.codomain.live_avals, columns.shape[1], dtype).T

    return LinearOperator(
        shape=(linear.codomain.size, linear.domain.size),
        dtype=dtype,
        matvec=lambda x: apply(linear, x)[:, 0],
        rmatvec=lambda x: apply(adjoint, x)[:, 0],
        matmat=lambda x: apply(linear, x),
        rmatmat=lambda x: apply(adjoint, x),
    )


def _cut(rows: Any, avals: Sequence[Aval]) -> list[Value]:
    out = []
    start = 0
    for aval in avals:
        part = rows[:, start : start + aval.size].reshape(len(rows), *aval.shape)
        out.append(part.astype(aval.dtype) if part.dtype != aval.dtype else part)
        start += aval.size
    return out


def _glued(values: Sequence[Value | None], avals: Sequence[Aval], n: int, dtype: Any) -> Any:
    flat = [
        np.zeros((n, a.size), dtype) if v is None else np.reshape(v, (n, a.size))
        for v, a in zip(values, avals, strict=True)
    ]
    return np.concatenate(flat, axis=1).astype(dtype)


def _require_complex_linear(linear: LinearMap, dtype: np.dtype[Any]) -> None:
    """Raise for a map that is linear over the reals only; asked of the map at a fixed vector."""
    if dtype.kind != "c":
        return
    avals = (*linear.domain.live_avals, *linear.codomain.live_avals)
    generator = np.random.default_rng(0)
    real_only = any(a.dtype.kind != "c" for a in avals)
    if not real_only:
        xs = [
            (generator.normal(size=a.shape) + 1j * generator.normal(size=a.shape)).astype(a.dtype)
            for a in linear.domain.live_avals
        ]
        once = linear.apply(xs)
        turned = linear.apply([1j * x for x in xs])
        real_only = any(
            not np.allclose(0 if b is None else b, 0 if a is None else 1j * a, rtol=1e-3)
            for a, b in zip(once, turned, strict=True)
        )
    if real_only:
        raise TypeError(
            f"{linear.name}.as_scipy: the map is linear over the real numbers only (it mixes real "
            "and "
            "complex values, or takes real parts), so it is not a matrix of complex numbers.\n"
            "Differentiate with respect to real and imaginary parts as separate real arrays."
        )


# ------------------------------------------------------------------------------ jacrev, jacfwd, ...


def require_chunk_size(label: str, chunk_size: object) -> None:
    """Raise unless ``chunk_size`` is None or a positive int."""
    if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
        raise ValueError(f"{label}: chunk_size must be a positive int, got {chunk_size!r}")


class Jacobian(Transformed):
    """What `jacrev`, `jacfwd` and `jacobian` return."""

    transform = "jacobian"

    def __init__(
        self,
        fun: Function,
        argnums: Any,
        has_aux: bool,
        holomorphic: bool,
        allow_int: bool,
        mode: str,
        chunk_size: int | None,
        strict: bool,
    ) -> None:
        self.transform = {"auto": "jacobian", "rev": "jacrev", "fwd": "jacfwd"}[mode]
        super().__init__(fun, argnums=argnums, has_aux=has_aux, holomorphic=holomorphic)
        require_chunk_size(self.transform, chunk_size)
        self.argnums = argnums
        self.has_aux = has_aux
        self.holomorphic = holomorphic
        self.allow_int = allow_int
        self.mode = mode
        self.chunk_size = chunk_size
        self.strict = strict

    def __call__(self, *args: PyTree, **kwargs: Any) -> Any:
        label = self.label
        numbers = resolve_argnums(label, self.argnums, len(args))
        read = read_arguments(label, args, numbers, self.allow_int)
        chosen = [tree.unflatten(leaves) for leaves, tree in read]

        def partial(*values: PyTree) -> Any:
            full = list(args)
            for n, value in zip(numbers, values, strict=True):
                full[n] = value
            return self.fun(*full, **kwargs)

        _, aux, linear = linearized(label, partial, tuple(chosen), self.has_aux, self.strict)
        _check_types(label, linear, self.holomorphic)
        forward = self.mode == "fwd" or (
            self.mode == "auto" and linear.domain.size <= linear.codomain.size
        )
        # In strict arithmetic the zeros of the basis are numbers like others.
        given = [] if self.strict else [x for leaves, _ in read for x in leaves]
        like = next((x for x in given if isinstance(innermost(x), Tracer)), None)
        blocks = matrix(linear, forward, self.chunk_size, label, like)
        domain = linear.domain if isinstance(self.argnums, tuple | list) else _single(linear.domain)
        result = arranged(blocks, linear.codomain, domain)
        return (result, aux) if self.has_aux else result


def _check_types(label: str, linear: LinearMap, holomorphic: bool) -> None:
    ins = {a.dtype.kind for a in linear.domain.live_avals}
    outs = {a.dtype.kind for a in linear.codomain.live_avals}
    if holomorphic and (ins | outs) != {"c"}:
        raise TypeError(f"{label}: holomorphic=True needs complex arguments and complex outputs")
    if not holomorphic and "c" in outs:
        raise TypeError(
            f"{label}: the function returned complex values; its Jacobian is a complex matrix only "
            "for a "
            "holomorphic function: pass holomorphic=True, or return real and imaginary parts."
        )
    if len(linear.codomain.live) != len(linear.codomain.avals):
        raise TypeError(
            f"{label}: the function returned integer or boolean values, which have no derivative; "
            "return them as aux (has_aux=True)"
        )


def _make(fun: Function | None, *options: Any) -> Any:
    return (lambda f: Jacobian(f, *options)) if fun is None else Jacobian(fun, *options)


def jacrev(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    chunk_size: int | None = None,
    strict: bool = False,
) -> Callable[..., PyTree]:
    """The Jacobian by reverse mode: all output basis vectors pulled back in one batched pass.

    A tree of the output whose leaves are trees of the argument, each array of shape (*output,
    *input). ``chunk_size`` bounds how many basis vectors go at once. Raises `MemoryError` with an
    estimate where the result cannot fit.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacrev(lambda x: np.array([1.0, 2.0]) * x[0] * x[1])(np.array([3.0, 5.0]))
    array([[ 5.,  3.],
           [10.,  6.]])
    """
    return _make(fun, argnums, has_aux, holomorphic, allow_int, "rev", chunk_size, strict)  # type: ignore[no-any-return]


def jacfwd(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    chunk_size: int | None = None,
    strict: bool = False,
) -> Callable[..., PyTree]:
    """The Jacobian by forward mode: all input basis vectors pushed in one batched pass. See
    `jacrev`.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacfwd(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return _make(fun, argnums, has_aux, holomorphic, False, "fwd", chunk_size, strict)  # type: ignore[no-any-return]


def jacobian(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    mode: str = "auto",
    chunk_size: int | None = None,
    strict: bool = False,
) -> Callable[..., PyTree]:
    """The Jacobian by the cheaper mode: forward where there are at most as many inputs as outputs.

    ``mode`` is "auto", "fwd" or "rev". See `jacrev`.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    if mode not in ("auto", "fwd", "rev"):
        raise ValueError(f"jacobian: mode must be 'auto', 'fwd' or 'rev', got {mode!r}")
    return _make(fun, argnums, has_aux, holomorphic, allow_int, mode, chunk_size, strict)  # type: ignore[no-any-return]


def hessian(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    chunk_size: int | None = None,
    strict: bool = False,
) -> Callable[..., PyTree]:
    """The Hessian: forward mode over reverse mode, all basis vectors at once.

    >>> import numpy as np, vjpkit as vk
    >>> vk.hessian(lambda x: x[0] * x[1] ** 2)(np.array([1.0, 3.0]))
    array([[0., 6.],
           [6., 2.]])
    """
    if fun is None:
        return lambda f: hessian(
            f, argnums, has_aux, holomorphic, chunk_size=chunk_size, strict=strict
        )
    require_function("hessian", fun)
    inner = Jacobian(fun, argnums, has_aux, holomorphic, False, "rev", None, strict)
    outer = Jacobian(inner, argnums, has_aux, holomorphic, False, "fwd", chunk_size, strict)
    inner.transform = outer.transform = "hessian"
    inner.label = outer.label = f"hessian({name_of(fun)})"
    return outer
