"""`check_rule`: does a primitive keep the laws?"""

from __future__ import annotations

from collections.abc import Iterator

from vjpkit.core.primitive import Primitive
from vjpkit.testing.case import Case, cases_of
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


def check_rule(primitive: Primitive) -> None:
    """Check every law of `vjpkit.testing.laws` at every sample that a primitive declares.

    Values under every kind of tracer, promotion, derivatives against differences and the complex
    step, duality, staging, transposing, second order, batching, printing, purity. Raises an
    AssertionError that lists what does not hold. ``primitive.exempt`` names laws that cannot hold.

    >>> from vjpkit.ops.elementwise import sin
    >>> check_rule(sin)
    """
    if not isinstance(primitive, Primitive):
        raise TypeError(f"check_rule: a primitive is wanted, got {type(primitive).__name__}")
    cases = cases_of(primitive)
    assert cases, f"{primitive.name}: no samples; declare some, so that its laws can be checked"
    wrong = [f"{case!r}, {law}: {_said(error)}" for case, law, error in failures(primitive)]
    if not wrong and "undeclared" not in primitive.exempt:
        wrong = [f"linear in operands {mask}, but not declared so" for mask in undeclared(cases)]
    assert not wrong, f"{primitive.name} breaks {len(wrong)} laws:\n" + "\n".join(wrong)


def _said(error: Exception) -> str:
    text = str(error)
    return text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}"
