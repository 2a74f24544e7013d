"""`custom_root` and `custom_linear_solve`: what a solver finds, differentiated by what it solves.

A root x of f(m, x) = 0 moves with m by dx = -(df/dx)^-1 df/dm dm, whatever found it (Griewank and
Walther, "Evaluating Derivatives", 2nd ed. 2008, 15); the solution of A x = b by
dx = A^-1 (db - dA x), and its cotangent is pulled back by a solve with the transpose. So solvers
may be any code: they are run, never differentiated. What they solve is staged, so that derivatives
reach everything it closes over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vjpkit.control.bodies import array_leaves
from vjpkit.control.call import linear_last
from vjpkit.control.calls import Outputs, apply, flat_outputs, is_staging, zeros_of
from vjpkit.control.external import External, external
from vjpkit.control.programs import numbered, rearranged, transposed_program
from vjpkit.control.rules import Maybe, RuledCall
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import (
    ClosedTraceError,
    NotDifferentiableError,
    NotLinearError,
    TracerConversionError,
    at,
    calling_position,
)
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import Program, nonlinear_equation
from vjpkit.core.tracer import RUNNING, Tracer
from vjpkit.ops.structural import to_dtype
from vjpkit.pytree import PyTree, PyTreeDef, flatten
from vjpkit.transforms.arguments import name_of, require_function, stacked
from vjpkit.transforms.closures import closes_over_traced
from vjpkit.transforms.derivatives import jvp
from vjpkit.transforms.staged import ShapeDtypeStruct, staged
from vjpkit.transforms.stopping import stop_gradient

__all__ = ["custom_linear_solve", "custom_root"]

Solver = Callable[..., Any]


# ----------------------------------------------------------------------------- what is to be solved


@dataclass(frozen=True)
class Equations:
    """A function of a tree to a tree like it, as a program of what it closes over and the tree."""

    label: str
    program: Program
    consts: tuple[Value, ...]
    tree: PyTreeDef

    @classmethod
    def of(cls, label: str, what: str, f: Solver, x: Sequence[Value], tree: PyTreeDef) -> Equations:
        """Stage ``f``, which errors call ``what``, at unknowns like ``x``."""
        avals = [aval_of(v).strong() for v in x]
        structs = [ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
        try:
            closed, found, outs = staged(f"{label}: {what}", f, (tree.unflatten(structs),))
        except TracerConversionError as error:
            error.add_note(
                f"{label} stages {what}, so that derivatives reach what it closes over: its "
                "control flow may not depend on values."
            )
            raise
        came = [aval_of(y).strong() for y in outs]
        if found != tree or came != avals:
            raise TypeError(
                f"{label}: {what} must return what it takes, {tree.unflatten(avals)}, "
                f"got {found.unflatten(came)}{at(calling_position())}.\n"
                "Give the unknown the shapes and dtypes of what the function returns."
            )
        return cls(label, closed.program, closed.consts, tree)

    @property
    def count(self) -> int:
        """How many constants are before the unknowns."""
        return len(self.program.inputs) - self.tree.num_leaves

    @property
    def avals(self) -> tuple[Aval, ...]:
        """Those of the unknowns."""
        return self.program.in_avals[self.count :]

    def function(self, consts: Sequence[Value]) -> Applied:
        """The function of the tree, given what it closes over."""
        return Applied(self, tuple(consts))

    def knowing(self, more: Sequence[Value]) -> Equations:
        """The same with further constants, on which they do not depend, before the others."""
        avals = [*[aval_of(c).strong() for c in more], *self.program.in_avals]
        places = range(len(more), len(avals))
        program = rearranged(self.program, avals, places, range(len(self.program.outputs)))
        return replace(self, program=program, consts=(*more, *self.consts))

    def linearized(self) -> Equations:
        """The equations for a tangent: linear, with the point among their constants."""
        consts = [ShapeDtypeStruct(a.shape, a.dtype) for a in self.program.in_avals[: self.count]]
        x = [ShapeDtypeStruct(a.shape, a.dtype) for a in self.avals]

        def tangent(consts: Sequence[Value], x: list[Value], t: list[Value]) -> PyTree:
            return jvp(self.function(consts), (x,), (t,))[1]

        label = f"{self.label}: tangent"
        closed, _, _ = staged(label, tangent, (consts, x, x))
        return Equations(label, closed.program, closed.consts, self.tree)

    def transposed(self) -> Equations:
        """The transpose of a linear function."""
        n = self.tree.num_leaves
        mask = (False,) * self.count + (True,) * n
        back, found = transposed_program(linear_last(self.program, mask), (True,) * n)
        pairs = zip(numbered(found), self.avals, strict=True)
        outputs = [aval if place is None else place for place, aval in pairs]
        whole = rearranged(back, back.in_avals, range(len(back.inputs)), outputs)
        return replace(self, program=whole)


@dataclass(frozen=True)
class Applied:
    """The function of equations at what it closes over: what a solver is given."""

    equations: Equations
    consts: tuple[Value, ...]

    @property
    def __name__(self) -> str:
        return self.equations.label

    def __call__(self, x: PyTree) -> PyTree:
        leaves = array_leaves(self.equations.label, "the unknown", x)[0]
        outs = evaluate(self.equations.program, [*self.consts, *leaves])
        return self.equations.tree.unflatten(outs)


@dataclass(frozen=True)
class StagedSolver:
    """A solver as a program of what it closes over, the equations' constants and its argument."""

    name: str
    program: Program
    tree: PyTreeDef

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, f: Applied, y: PyTree) -> PyTree:
        leaves = flatten(y)[0]
        known = len(self.program.inputs) - len(leaves)
        consts = f.consts[len(f.consts) - known :]
        return self.tree.unflatten(evaluate(self.program, [*consts, *leaves]))


def hoisted(solve: Solver, equations: Equations) -> tuple[Solver, tuple[Value, ...]]:
    """A solver that closes over no traced value of a transform that is running, if it can be had.

    One that does is staged: then every transform maps what it closes over, which becomes constants
    of the equations, to be put before the others. A solver that cannot be staged stays as it is.
    """
    if not closes_over_traced(solve):
        return solve, ()
    known = [ShapeDtypeStruct(a.shape, a.dtype) for a in equations.program.in_avals]
    y = equations.tree.unflatten(known[equations.count :])

    def run(consts: Sequence[Value], y: PyTree) -> PyTree:
        return solve(equations.function(consts), y)

    try:
        closed, tree, _ = staged(equations.label, run, (known[: equations.count], y))
    except Exception:  # whatever plain code makes of a tracer
        return solve, ()
    return StagedSolver(name_of(solve), closed.program, tree), closed.consts


@dataclass(frozen=True)
class Run:
    """A solver of equations, run on constants and what it takes beside the function."""

    solve: Solver
    equations: Equations
    has_aux: bool
    aux_tree: list[PyTreeDef] = field(default_factory=list)

    def __call__(self, *values: Value) -> Outputs:
        """The solution and then aux, flat: traced if the solver lets itself be traced."""
        if not any(isinstance(x, Tracer) for x in values):
            return self.solved(*values)
        try:
            return self.solved(*values)
        except ClosedTraceError:
            raise
        except Exception:  # whatever plain code makes of a tracer; what is wrong comes up again
            if self.has_aux and is_staging(values):  # the avals of aux are not known before
                raise
        label = f"{self.equations.label}: {name_of(self.solve)}"
        avals = None if self.has_aux else self.equations.avals
        return external(*values, call=External(label, self.solved, avals))  # type: ignore[no-any-return]

    def solved(self, *values: Value) -> Outputs:
        """As it is called, whatever the values are. No derivative goes through a solver."""
        equations, label = self.equations, self.equations.label
        count = equations.count
        f, y = equations.function(values[:count]), equations.tree.unflatten(values[count:])
        try:
            out, aux = self.parts(stop_gradient(self.solve(f, y)))
        except ClosedTraceError as error:
            error.add_note(
                f"{name_of(self.solve)} runs again for the derivatives of {label}, and closes over "
                "a traced value: pass it vk.lax.stop_gradient of that value."
            )
            raise
        leaves, found = flat_outputs(label, out)
        if found != equations.tree:
            raise TypeError(
                f"{label}: {name_of(self.solve)} returned a solution of tree {found}, but "
                f"{equations.tree} is wanted{at(calling_position())}"
            )
        rest, tree = flat_outputs(label, aux)
        self.aux_tree[:] = [tree]
        return (*self.fitted(leaves), *rest)

    def parts(self, out: PyTree) -> tuple[PyTree, PyTree]:
        """Solution and aux of what the solver returned."""
        if not self.has_aux:
            return out, ()
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(
                f"{self.equations.label}: with has_aux=True {name_of(self.solve)} must return a "
                f"pair (solution, aux), got {type(out).__name__}{at(calling_position())}"
            )
        return out

    def fitted(self, leaves: Sequence[Value]) -> list[Value]:
        """A solution in the dtypes of the unknowns."""
        out = []
        for x, aval in zip(leaves, self.equations.avals, strict=True):
            if tuple(x.shape) != aval.shape or not np.can_cast(x.dtype, aval.dtype, "same_kind"):
                raise ValueError(
                    f"{self.equations.label}: {name_of(self.solve)} returned a solution "
                    f"{aval_of(x)}, but {aval} is wanted{at(calling_position())}"
                )
            out.append(to_dtype(x, aval.dtype))
        return out

    def result(self, outs: Sequence[Value]) -> PyTree:
        """What the user gets."""
        n = self.equations.tree.num_leaves
        solution = self.equations.tree.unflatten(outs[:n])
        if not self.has_aux:
            return solution
        return solution, self.aux_tree[0].unflatten(outs[n:])


def in_the_open(f: Solver) -> bool:
    """Whether no transform runs here: a solver's result is all there is to have."""
    return RUNNING.get().on == "" and not closes_over_traced(f)


# -------------------------------------------------------------------------------- linear equations


@dataclass(frozen=True, eq=False)
class System:
    """Linear equations A x = b, a solver of them, and one of the transposed equations.

    ``owner`` is shared by a system and its transpose: each one's rules call the other's.
    """

    equations: Equations
    solve: Solver
    transpose_solve: Solver | None
    symmetric: bool
    owner: set[int] = field(default_factory=set)

    def transposed(self) -> System:
        if self.transpose_solve is None:
            raise NotDifferentiableError(
                f"{self.equations.label}: reverse mode solves the transposed equations, but there "
                f"is no solver of these{at(calling_position())}.\n"
                "Pass transpose_solve=, or symmetric=True where the matrix is symmetric."
            )
        equations = self.equations if self.symmetric else self.equations.transposed()
        return replace(
            self, equations=equations, solve=self.transpose_solve, transpose_solve=self.solve
        )

    def solution(self, consts: Sequence[Value], b: Sequence[Value]) -> Outputs:
        return apply(*consts, *b, call=self.call())  # type: ignore[no-any-return]  # untyped

    def call(self) -> RuledCall:
        """Solving as a call of constants and b, linear in b."""
        n, count = self.equations.tree.num_leaves, self.equations.count
        return RuledCall(
            self.equations.label,
            Run(self.solve, self.equations, False),
            jvp=self.jvp,
            transpose=self.transpose,
            linear=tuple(range(count, count + n)),
            owner=self.owner,
            proven=True,
        )

    def jvp(self, values: Sequence[Value], ts: Sequence[Maybe]) -> tuple[Outputs, Sequence[Maybe]]:
        count = self.equations.count
        solution = self.solution(values[:count], values[count:])
        return solution, self.tangents(values, ts, solution)

    def tangents(
        self, values: Sequence[Value], ts: Sequence[Maybe], solution: Outputs
    ) -> Sequence[Maybe]:
        """A^-1 (db - dA x)."""
        count = self.equations.count
        moved = moved_by(self.equations.program, values[:count], ts[:count], solution)
        pairs = zip(values[count:], ts[count:], moved, strict=True)
        rhs = [minus(t, c, aval_of(b), values) for b, t, c in pairs]
        return self.solution(values[:count], rhs)

    def transpose(self, values: Sequence[Value], cts: Sequence[Maybe]) -> list[Maybe]:
        count = self.equations.count
        beside = [*values, *cts]
        pairs = zip(cts, self.equations.avals, strict=True)
        dense = [zeros_of(a, beside) if c is None else c for c, a in pairs]
        return [*[None] * count, *self.transposed().solution(values[:count], dense)]


def moved_by(
    program: Program, consts: Sequence[Value], ts: Sequence[Maybe], x: Sequence[Value]
) -> Sequence[Maybe]:
    """Tangents of a program of constants and x at fixed x."""
    live = [i for i, t in enumerate(ts) if t is not None]
    if not live:
        return [None for _ in program.outputs]

    def outs(*moving: Value) -> Outputs:
        full = list(consts)
        for i, c in zip(live, moving, strict=True):
            full[i] = c
        return evaluate(program, [*full, *x])

    at_point, along = tuple([consts[i] for i in live]), tuple([ts[i] for i in live])
    return jvp(outs, at_point, along)[1]  # type: ignore[no-any-return]  # a pair


def minus(a: Maybe, b: Maybe, aval: Aval, beside: Sequence[Value]) -> Value:
    """``a - b``, zeros where both are zero."""
    if b is None:
        return zeros_of(aval, beside) if a is None else a
    return -b if a is None else a - b


def with_aux(system: System, run: Run) -> RuledCall:
    """Solving with a solver that returns aux, which has no tangent: these are solved without."""

    def rule(values: Sequence[Value], ts: Sequence[Maybe]) -> tuple[Outputs, Sequence[Maybe]]:
        outs: Outputs = apply(*values, call=call)
        n = system.equations.tree.num_leaves
        tangents = system.tangents(values, ts, outs[:n])
        return outs, [*tangents, *[None] * (len(outs) - n)]

    call = RuledCall(run.equations.label, run, jvp=rule, owner=set(), proven=True)
    return call


def without_aux(solve: Solver) -> Solver:
    """The solver without the second of what it returns."""

    def solution(f: Solver, b: PyTree) -> PyTree:
        return solve(f, b)[0]

    solution.__name__ = name_of(solve)
    return solution


def custom_linear_solve(
    matvec: Callable[[PyTree], PyTree],
    b: PyTree,
    solve: Solver,
    transpose_solve: Solver | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> PyTree:
    """The x with ``matvec(x) == b`` that ``solve(matvec, b)`` finds, and its derivatives.

    ``matvec`` is a linear function of a tree of arrays to a tree like it (`NotLinearError`,
    `TypeError`); derivatives reach what it closes over, and ``b``. ``solve`` may be any code: it is
    run, never differentiated, on plain arrays except under `jit` and `vmap`, where it is traced if
    it lets itself be traced and is run from inside the program, example by example, if not. A
    solver that closes over traced values is staged; one that cannot be reads their
    `stop_gradient`, and is not mapped over them. Reverse mode solves with ``transpose_solve(vecmat,
    ct)``, or with ``solve`` where ``symmetric``; without either it raises `NotDifferentiableError`.
    With ``has_aux`` solvers return ``(x, aux)``, and so does this function; aux has no derivative.
    Differentiable in both modes, to any order: dx = A^-1 (db - dA x).

    >>> import numpy as np, vjpkit as vk
    >>> dense = lambda matvec, b: np.linalg.solve(vk.jacobian(matvec)(b), b)
    >>> def f(a, b):
    ...     return vk.lax.custom_linear_solve(lambda x: a @ x, b, dense, dense)
    >>> vk.grad(lambda a, b: np.sum(f(a, b)), 1)(np.diag([2.0, 4.0]), np.ones(2))
    array([0.5 , 0.25])
    """
    label = f"custom_linear_solve({name_of(matvec)})"
    for name, function in (("matvec", matvec), ("solve", solve)):
        require_function(label, function, name)
    if transpose_solve is not None:
        require_function(label, transpose_solve, "transpose_solve")
    elif symmetric:
        transpose_solve = solve
    leaves, tree = unknowns(label, "b", b)
    if in_the_open(matvec):
        return solve(matvec, tree.unflatten(leaves))
    equations = Equations.of(label, "matvec", matvec, leaves, tree)
    mask = (False,) * equations.count + (True,) * len(leaves)
    if nonlinear_equation(linear_last(equations.program, mask)) is not None:
        raise NotLinearError(
            f"{label}: matvec is not linear in its argument{at(calling_position())}.\n"
            "Solve nonlinear equations with vk.lax.custom_root."
        )
    same = transpose_solve is solve and symmetric
    solve, more = hoisted(solve, equations)
    equations = equations.knowing(more) if more else equations
    if same:
        transpose_solve = solve
    elif transpose_solve is not None and closes_over_traced(transpose_solve):
        transpose_solve, more = hoisted(transpose_solve, equations.transposed())
        equations = equations.knowing(more)
    return linear_solution(equations, leaves, solve, transpose_solve, symmetric, has_aux)


def linear_solution(
    equations: Equations, b: Sequence[Value], solve: Solver, transpose_solve: Solver | None,
    symmetric: bool = False, has_aux: bool = False,
) -> PyTree:  # fmt: skip
    """The solution of linear equations that were staged."""
    run = Run(solve, equations, has_aux)
    if has_aux:
        bare = None if transpose_solve is None else without_aux(transpose_solve)
        call = with_aux(System(equations, without_aux(solve), bare, symmetric), run)
    else:
        call = System(equations, solve, transpose_solve, symmetric).call()
    return run.result(apply(*equations.consts, *b, call=call))


def unknowns(label: str, what: str, x: PyTree) -> tuple[list[Value], PyTreeDef]:
    """Leaves (arrays and NumPy scalars) and tree of a tree of real or complex arrays."""
    leaves, tree = array_leaves(label, what, stacked(x))
    for v in leaves:
        if not aval_of(v).inexact:
            raise TypeError(
                f"{label}: {what} has a leaf {aval_of(v)}; unknowns are floating-point numbers"
                f"{at(calling_position())}.\nCast it, e.g. x.astype(float)."
            )
    if not leaves:
        raise TypeError(f"{label}: {what} has no arrays{at(calling_position())}")
    return leaves, tree


# ------------------------------------------------------------------------------------------- roots


def custom_root(
    f: Callable[[PyTree], PyTree],
    initial_guess: PyTree,
    solve: Solver,
    tangent_solve: Solver,
    has_aux: bool = False,
) -> PyTree:
    """The x with ``f(x) == 0`` that ``solve(f, initial_guess)`` finds, and its derivatives.

    ``f`` maps a tree of arrays to a tree like it (`TypeError`); derivatives reach what it closes
    over, by the implicit function theorem, dx = -(df/dx)^-1 df. ``tangent_solve(g, y)`` solves
    ``g(x) == y`` for the linear function g, f linearized at the root (``lambda g, y: y / g(1.0)``
    for scalars); in reverse mode it gets the transpose of g. Solvers may be any code, as for
    `custom_linear_solve`: they are run, never differentiated. The derivative in ``initial_guess``
    is zero. With ``has_aux`` solve returns ``(x, aux)``, and so does this function; aux has no
    derivative. Differentiable in both modes, to any order.

    >>> import vjpkit as vk
    >>> def newton(f, x):
    ...     for _ in range(20):
    ...         x = x - f(x) / vk.grad(f)(x)
    ...     return x
    >>> def square_root(a):
    ...     divide = lambda g, y: y / g(1.0)
    ...     return vk.lax.custom_root(lambda x: x * x - a, 1.0, newton, divide)
    >>> vk.grad(square_root)(4.0), vk.grad(vk.grad(square_root))(4.0)
    (np.float64(0.25), np.float64(-0.03125))
    """
    label = f"custom_root({name_of(f)})"
    for name, function in (("f", f), ("solve", solve), ("tangent_solve", tangent_solve)):
        require_function(label, function, name)
    leaves, tree = unknowns(label, "initial_guess", stop_gradient(initial_guess))
    if in_the_open(f):
        return solve(f, tree.unflatten(leaves))
    equations = Equations.of(label, "f", f, leaves, tree)
    solve, more = hoisted(solve, equations)
    equations = equations.knowing(more) if more else equations
    solvers = tangent_solve, tangent_solve
    if closes_over_traced(tangent_solve):
        forward, more = hoisted(tangent_solve, equations.linearized())
        equations = equations.knowing(more)
        backward, more = hoisted(tangent_solve, equations.linearized().transposed())
        equations, solvers = equations.knowing(more), (forward, backward)
    run = Run(solve, equations, has_aux)
    call = root_call(run, *solvers)
    return run.result(apply(*equations.consts, *leaves, call=call))


def root_call(run: Run, tangent_solve: Solver, transpose_solve: Solver) -> RuledCall:
    """Finding a root, as a call of constants and a first guess."""
    equations = run.equations
    count = equations.count
    n = equations.tree.num_leaves

    def rule(values: Sequence[Value], ts: Sequence[Maybe]) -> tuple[Outputs, Sequence[Maybe]]:
        outs: Outputs = apply(*values, call=call)
        consts, root = values[:count], outs[:n]
        moved = moved_by(equations.program, consts, ts[:count], root)
        nothing: list[Maybe] = [None] * len(outs)
        if all(y is None for y in moved):
            return outs, nothing

        linear = equations.linearized()
        linear = replace(linear, consts=(*linear.consts, *consts, *root))
        rhs = [minus(None, y, a, values) for y, a in zip(moved, equations.avals, strict=True)]
        dx = linear_solution(linear, rhs, tangent_solve, transpose_solve)
        return outs, [*flatten(dx)[0], *nothing[n:]]

    call = RuledCall(equations.label, run, jvp=rule, owner=set(), proven=True)
    return call
