"""Transposed products of matrices: products of transposes, which BLAS reads as they are."""

from __future__ import annotations

from vjpkit.core.ir import Atom, Equation, Program
from vjpkit.core.primitive import lookup
from vjpkit.passes.rewriting import Rewriter

__all__ = ["with_transposes_in_products"]

SWAPPED = {"axes": (1, 0)}


def with_transposes_in_products(program: Program) -> Program:
    """``(x @ y).T`` as ``y.T @ x.T``, where nothing else reads ``x @ y``.

    Law: equal outputs, up to rounding. Results come in NumPy's usual order, without a copy.
    """
    if not any(map(_transposes, program.equations)):
        return program
    new = Rewriter(program)
    for old in program.equations:
        eqn = new.read(old)
        products = "matmul", "scale_matmul"
        product = new.made_by(eqn.inputs[0], *products) if _transposes(eqn) else None
        of_matrices = product is not None and all(a.aval.ndim == 2 for a in product.inputs)
        if product is None or not of_matrices or new.readers[old.inputs[0]] > 1:
            new.keep(eqn)
            continue
        x, y = product.inputs
        swapped = _swapped(new, eqn, y), _swapped(new, eqn, x)
        new.replace(eqn, (new.emit(product.primitive, swapped, {}, product.position),))
    return new.finish() if new.stands_for else program


def _transposes(eqn: Equation) -> bool:
    return eqn.primitive.name == "transpose" and eqn.params["axes"] == (1, 0)


def _swapped(new: Rewriter, eqn: Equation, a: Atom) -> Atom:
    maker = new.maker(a)
    if maker is not None and _transposes(maker):
        return maker.inputs[0]
    return new.emit(lookup("transpose"), (a,), SWAPPED, eqn.position)
