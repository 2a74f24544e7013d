"""`jit`: a function staged once per signature, and run as one program from then on."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, overload

import numpy as np

from vjpkit.backends import AS_IT_STANDS, BACKENDS, executable
from vjpkit.backends.numpy_source import Part
from vjpkit.control.doors import MISS, Door, door
from vjpkit.control.lowered import Fixed, Lowered, Signature, Staged, signature_of
from vjpkit.control.programs import has_derivatives
from vjpkit.control.static import static_arguments
from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position
from vjpkit.core.ir import Literal, Program
from vjpkit.core.rows import roles
from vjpkit.core.staging import Builder, Captured, ClosedProgram
from vjpkit.core.tracer import Tracer
from vjpkit.pytree import PyTree, flatten
from vjpkit.transforms.arguments import Transformed, called, require_arrays
from vjpkit.transforms.closures import Closure
from vjpkit.transforms.linear import LinearMap

__all__ = ["CacheInfo", "Jit", "Miss", "jit"]


MANY = 10
"""After so many stagings because of a changed closure there is a warning."""


class CacheInfo(NamedTuple):
    """Calls answered by a program that was there, calls that staged one, programs kept."""

    hits: int
    misses: int
    size: int


class Miss(NamedTuple):
    """Why a call was staged anew."""

    reason: str
    where: str

    def __str__(self) -> str:
        return f"{self.reason}{self.where}"


class Jit(Transformed):
    """What `jit` returns."""

    transform = "jit"

    def __init__(
        self,
        fun: Callable[..., PyTree],
        static_argnums: int | Sequence[int],
        static_argnames: str | Sequence[str],
        backend: str,
        passes: bool,
        maxsize: int,
    ) -> None:
        super().__init__(fun, static_argnums=static_argnums, static_argnames=static_argnames)
        if backend not in BACKENDS:
            known = ", ".join(map(repr, BACKENDS))
            raise ValueError(
                f"{self.label}: no backend is called {backend!r}; there are {known}"
                f"{at(calling_position())}"
            )
        self.backend = backend
        self.passes = passes
        self.static = static_arguments(self.label, fun, static_argnums, static_argnames)
        self.maxsize = maxsize
        self.programs: OrderedDict[Signature, Staged] = OrderedDict()
        self.hits = 0
        self.changes = 0
        self.door: Door | None = None
        self.misses: list[Miss] = []

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        door = self.door
        if door is not None:
            out = door(args, kwargs)
            if out is not MISS:
                self.hits += 1
                return out
        static, dynamic = self.split(args, kwargs)
        leaves, tree = flatten(dynamic)
        signature = signature_of(self.label, leaves, tree, static)
        found = self.find(signature)
        change = None if found is None else found.change()
        if found is None or change is not None:
            found = self.staged(signature, leaves, args, kwargs, change)
        else:
            self.hits += 1
            self.door = self.door_of(found, signature, leaves, args, kwargs)
        return found.run(leaves)

    def door_of(
        self,
        found: Staged,
        signature: Signature,
        leaves: Sequence[Value],
        args: tuple[PyTree, ...],
        kwargs: dict[str, PyTree],
    ) -> Door | None:
        """The short way in for calls like this one, if its arguments are plain."""
        execute = found.execute
        if found.door is not None and found.settled == execute.settled:
            return found.door
        values = [*found.sources, *leaves]
        if signature.axes or any([isinstance(x, Tracer) for x in values]):
            return None
        unchanged = None if found.closure is None else found.closure.look()
        static = {n for n, _ in signature.static}
        found.settled = execute.settled
        found.door = door(
            args,
            kwargs,
            static,
            found.sources,
            execute,
            found.out_tree,
            found.arrays,
            found.silenced,
            unchanged,
        )
        return found.door

    def split(
        self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]
    ) -> tuple[tuple[tuple[Any, Fixed], ...], PyTree]:
        """Static arguments, named; and ``(args, kwargs)`` without them."""
        if not self.static:
            return (), (args, kwargs)
        numbers, names = self.static.places(len(args)), self.static.names
        named: list[tuple[Any, Fixed]] = [(n, Fixed(args[n])) for n in sorted(numbers)]
        named += [(k, Fixed(kwargs[k])) for k in sorted(kwargs) if k in names]
        rest = {i: a for i, a in enumerate(args) if i not in numbers}
        words = {k: v for k, v in kwargs.items() if k not in names}
        return tuple(named), (rest, words)

    def find(self, signature: Signature) -> Staged | None:
        """The program for a signature, if there is one."""
        try:
            return self.programs.get(signature)
        except TypeError:
            self._unhashable(signature.static)
            raise

    def _unhashable(self, static: Iterable[tuple[Any, Fixed]]) -> None:
        for name, fixed in static:
            try:
                hash(fixed)
            except TypeError:
                kind = type(fixed.value).__name__
                raise ValueError(
                    f"{self.label}: static argument {name!r} is a {kind}, which "
                    f"cannot be hashed{at(calling_position())}.\n"
                    "Static arguments are looked up by value: pass a tuple, a string, a number or "
                    "a frozen dataclass, or do not make it static."
                ) from None

    def staged(
        self,
        signature: Signature,
        leaves: Sequence[Value],
        args: tuple[PyTree, ...],
        kwargs: dict[str, PyTree],
        change: str | None = None,
    ) -> Staged:
        """Stage the function for a signature, and keep the program."""
        builder = Builder()
        argument = roles["staged_argument"]
        avals, arrays = signature.avals, signature.arrays
        inputs = [argument(builder, aval, i in arrays) for i, aval in enumerate(avals)]
        positional, words = signature.tree.unflatten(inputs)
        if isinstance(positional, dict):
            static = {k: fixed.value for k, fixed in signature.static}
            positional = [static.get(i, positional.get(i)) for i in range(len(args))]
            words = {**words, **{k: v for k, v in static.items() if isinstance(k, str)}}
        try:
            with roles["locked"](self.label, self.fun):
                y = called(
                    builder, self.fun, positional, words, "abstract" if self.passes else "exact"
                )
        except BaseException:
            builder.close()
            raise
        outs, out_tree = flatten(y)
        require_arrays(self.label, y, outs)
        is_array = roles["is_array_of_no_axis"]
        arrays = tuple([i for i, y in enumerate(outs) if is_array(y)])
        closed = builder.finish(outs)
        sources = originals(builder, closed)
        execute = executable(closed.program, self.backend if self.passes else AS_IT_STANDS)
        held = tuple([fixed.value for _, fixed in signature.static])
        closure = closure_of(Closure(self.fun, held), closed, sources)
        quiet = has_derivatives(closed.program) or returns_map(y)
        made = Staged(signature, closed, sources, out_tree, execute, closure, arrays, quiet)
        self._note(signature, change)
        if not any(isinstance(x, Tracer) for x in sources):
            self.programs[signature] = made
            while len(self.programs) > self.maxsize:
                self.programs.popitem(last=False)
        return made

    def _note(self, signature: Signature, change: str | None) -> None:
        near = min(reversed(self.programs), key=signature.distance, default=None)
        if change is not None:
            reason = change
        elif near is None:
            reason = "the first call"
        else:
            reason = signature.difference(near)
        self.misses.append(Miss(reason, at(calling_position())))
        if change is not None:
            self.changes += 1
            if self.changes == MANY:
                warnings.warn(
                    f"{self.label} was staged {MANY} times because of what it closes over: {change}"
                    f"{self.misses[-1].where}.\nPass it as an argument: programs are kept for "
                    "arguments of any value.",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def ir(self, *args: PyTree, **kwargs: PyTree) -> ClosedProgram:
        """The program for arguments like these (`ShapeDtypeStruct`s will do); prints as IR."""
        return self.staged_for(args, kwargs).closed

    def lower(self, *args: PyTree, **kwargs: PyTree) -> Lowered:
        """The function staged for arguments like these, to be looked at or compiled."""
        return Lowered(self.label, self.staged_for(args, kwargs))

    def explain(self, *args: PyTree, **kwargs: PyTree) -> tuple[Part, ...]:
        """Which equations run where, for arguments like these, and why."""
        return self.staged_for(args, kwargs).execute.explain()

    def native_ir(self, *args: PyTree, **kwargs: PyTree) -> str:
        """The LLVM text of what runs as machine code for arguments like these."""
        return self.staged_for(args, kwargs).execute.native_ir()

    def compile(self, *args: PyTree, **kwargs: PyTree) -> Jit:
        """Make ready for arguments like these, machine code included; the function itself."""
        self.staged_for(args, kwargs).execute.compile()
        return self

    def staged_for(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> Staged:
        """The program for arguments like these, staged if there is none."""
        static, dynamic = self.split(args, kwargs)
        leaves, tree = flatten(dynamic)
        signature = signature_of(self.label, leaves, tree, static)
        found = self.find(signature)
        change = None if found is None else found.change()
        if found is None or change is not None:
            found = self.staged(signature, leaves, args, kwargs, change)
        return found

    def cache_info(self) -> CacheInfo:
        """Hits, misses and size of the cache of programs; ``misses`` lists the reasons."""
        return CacheInfo(self.hits, len(self.misses), len(self.programs))

    def cache_clear(self) -> None:
        """Forget every program."""
        self.programs.clear()
        self.door = None
        self.hits = 0
        self.misses.clear()


def returns_map(y: PyTree) -> bool:
    """Whether a linear map is among results: its residuals may be slopes that are not finite."""
    leaves, _ = flatten(y, is_leaf=lambda x: isinstance(x, LinearMap))
    return any(isinstance(x, LinearMap) for x in leaves)


def originals(builder: Builder, closed: ClosedProgram) -> tuple[Value, ...]:
    """The captured values themselves rather than copies of them: read anew at every call.

    The copies where the function wrote to them since: a buffer that it uses again, or views of it.
    Where there is no copy, for it would be large, that is an error.
    """
    own = {id(x): x for x in builder.kept}
    keys = {id(c): key for key, (_, c) in builder.captured.items()}

    def original(c: Captured, value: Value) -> Value:
        x = own.get(keys[id(c)], value)
        return value if c.is_outdated(x) else x

    return tuple(map(original, closed.captured, closed.consts))


def closure_of(
    closure: Closure, closed: ClosedProgram, sources: tuple[Value, ...]
) -> Closure | None:
    """What a function reads beyond its arguments and beyond ``sources``, which are inputs.

    An array that is a source is an input of the program, unless NumPy alone computed with what
    the function reads: then its elements too are compared from call to call.
    """
    closure.guard(() if has_derived(closed.program, sources, closure) else sources)
    return closure if closure else None


def has_derived(program: Program, sources: tuple[Value, ...], closure: Closure) -> bool:
    """Whether a program holds what NumPy alone computed while it was staged."""
    if any(isinstance(x, Literal) and not x.aval.weak for e in program.equations for x in e.inputs):
        return True
    own = [x for _, x in closure.arrays.values()]
    arrays = [x for x in sources if isinstance(x, np.ndarray)]
    return not all(any(np.may_share_memory(x, y) for y in own) for x in arrays)


@overload
def jit(
    fun: Callable[..., PyTree],
    *,
    static_argnums: int | Sequence[int] = ...,
    static_argnames: str | Sequence[str] = ...,
    backend: str = ...,
    passes: bool = ...,
    maxsize: int = ...,
) -> Jit: ...
@overload
def jit(
    fun: None = ...,
    *,
    static_argnums: int | Sequence[int] = ...,
    static_argnames: str | Sequence[str] = ...,
    backend: str = ...,
    passes: bool = ...,
    maxsize: int = ...,
) -> Callable[[Callable[..., PyTree]], Jit]: ...
def jit(
    fun: Callable[..., PyTree] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    backend: str = "auto",
    passes: bool = True,
    maxsize: int = 256,
) -> Jit | Callable[[Callable[..., PyTree]], Jit]:
    """``fun``, written down as a program once per signature and run as that from then on.

    A signature is the tree, shapes and dtypes of the arguments (an array of no axis is not a
    scalar: only the former is written to) and the values of the static ones, which must be
    hashable. Python runs only while staging: control flow may depend on shapes and
    static arguments, not on values; `vk.lax.cond`, `while_loop` and `scan` decide by values. Same
    results as ``fun`` within rounding, and the same exceptions. Composes with every transform.

    Arrays that ``fun`` closes over are inputs of the program, read anew at each call. Whatever else
    its code names (closure variables, globals, attributes, elements of containers, the functions it
    calls; static arguments' too) is looked at before each call: where it has changed ``fun`` is
    staged anew.

    ``backend`` names what runs the program. ``"numpy"`` calls NumPy; ``"native"`` is machine code
    by llvmlite (`pip install vjpkit[native]`): a kernel's first compilation takes some 50 ms and is
    kept on disk, errors of its functions are at most 3 ulp (erfc: 10). Both are stable to the bit.
    ``"auto"`` begins with NumPy; a program that has run for as long as compiling it takes (20 ms
    and more) is compiled in the background, and its machine code takes over unless it is slower.
    ``passes=False`` runs the equations as they were staged, one by one, and derivatives of loops
    and branches by eager mode's own rows: to the bit what ``fun`` gives. Within rounding are
    reverse mode over a derivative of a loop or a branch, Laplacians of these, reverse mode through
    a ``while_loop`` in a `vmap`, and what NumPy itself rounds by how its operands lie in memory
    (complex products, BLAS, long sums). Up to ``maxsize`` programs are kept.

    ``f.ir(*args)`` is the program; ``f.lower(*args)`` prints it, and ``f.lower(*args).compile()``
    is a function for arguments like these alone (static ones left out), which is never staged
    again. ``f.cache_info()`` counts hits and misses, ``f.misses`` says why each call that staged a
    program did; ``f.explain(*args)`` says which equations run where, and why,
    ``f.native_ir(*args)`` is the LLVM text of what is native; ``f.compile(*args)`` makes everything
    ready and waits for it.

    >>> import numpy as np, vjpkit as vk
    >>> f = vk.jit(lambda x, n: np.sin(x) ** n, static_argnames="n")
    >>> f(np.ones(2), n=2)
    array([0.70807342, 0.70807342])
    >>> f.cache_info()
    CacheInfo(hits=0, misses=1, size=1)
    >>> squared = f.lower(np.ones(2), n=2).compile()
    >>> squared(np.zeros(2)), f.cache_info()
    (array([0., 0.]), CacheInfo(hits=0, misses=1, size=1))
    >>> vk.grad(vk.jit(lambda x: x**3))(2.0)
    np.float64(12.0)
    """
    if fun is None:
        return lambda f: Jit(f, static_argnums, static_argnames, backend, passes, maxsize)
    return Jit(fun, static_argnums, static_argnames, backend, passes, maxsize)
