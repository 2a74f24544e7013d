"""`check_rule`: does a primitive keep the laws, do rules that were given agree?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vjpkit.control.custom import CustomRule
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.core.primitive import Primitive
from vjpkit.pytree import PyTree
from vjpkit.testing.case import Case, cases_of
from vjpkit.testing.given import disagreements
from vjpkit.testing.laws import LAWS
from vjpkit.testing.laws.linearity import undeclared

__all__ = ["check_rule", "failures"]


def failures(primitive: Primitive) -> Iterator[tuple[Case, str, Exception]]:
    """Every law that does not hold: at which case, which law, and what it raised."""
    for case in cases_of(primitive):
        for name, law in LAWS.items():
            if case.exemption(name) is None:
                try:
                    if law.applies(case):
                        law(case)
                except Exception as error:  # a rule that crashes breaks the law too
                    yield case, name, error


def check_rule(rule: Primitive | Callable[..., PyTree], *args: PyTree) -> None:
    """Check that the rules of a primitive, or of a function that brings its own, hold together.

    Of a primitive every law of `vjpkit.testing.laws`, at every sample that it declares: values
    under every kind of tracer, promotion, derivatives against differences and the complex step,
    duality, staging, transposing, second order, batching, printing, purity. ``primitive.exempt``
    names laws that cannot hold.

    Of a `custom_vjp`, `custom_jvp` or `custom_rule` function at ``args`` the rules that it was
    given, against each other and the function: equal outputs, <ct, jvp(t)> = <vjp(ct), t>,
    linearity, the transpose of a linear function, ``vmap`` as a loop. Whether they are the
    function's derivative, `check_grads` says.

    Raises an AssertionError that lists what does not hold.

    >>> from vjpkit.ops.elementwise import sin
    >>> check_rule(sin)
    >>> import numpy as np, vjpkit as vk
    >>> f = vk.custom_rule(lambda x: x * x, jvp=lambda xs, ts: (xs[0] ** 2, 2 * xs[0] * ts[0]),
    ...                    vjp=(lambda x: (x * x, x), lambda x, ct: (3 * x * ct,)))
    >>> try:
    ...     check_rule(f, 1.5)
    ... except AssertionError as error:
    ...     print(str(error)[:68])
    custom_rule(<lambda>): its rules disagree:
    vjp is not the transpose
    """
    if isinstance(rule, CustomRule):
        rule.require_rule()
        found = list(disagreements(rule, args))
        assert not found, f"{rule.label}: its rules disagree:\n" + "\n".join(found)
        return
    if not isinstance(rule, Primitive):
        raise TypeError(
            f"check_rule: a primitive, or a function with rules of its own, is wanted, got "
            f"{type(rule).__name__}{at(calling_position())}.\nvk.test_util.check_grads checks the "
            "derivatives of any function."
        )
    if args:
        raise TypeError(
            f"check_rule: {rule.name} is a primitive, and checked at its own samples; got "
            f"{counted(len(args), 'argument')}{at(calling_position())}"
        )
    primitive = rule
    cases = cases_of(primitive)
    assert cases, f"{primitive.name}: no samples; declare some, so that its laws can be checked"
    wrong = [f"{case!r}, {law}: {_said(error)}" for case, law, error in failures(primitive)]
    if not wrong and "undeclared" not in primitive.exempt:
        wrong = [f"linear in operands {mask}, but not declared so" for mask in undeclared(cases)]
    assert not wrong, f"{primitive.name} breaks {len(wrong)} laws:\n" + "\n".join(wrong)


def _said(error: Exception) -> str:
    text = str(error)
    return text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}"
