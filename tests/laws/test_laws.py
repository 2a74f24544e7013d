"""Every primitive keeps every law: one generated test per primitive and law, over all samples.

The laws are `vjpkit.testing.laws`; what a primitive cannot keep, it declares, with the reason.
"""

import itertools

import pytest

import vjpkit as vk
from tests.laws import fallbacks
from vjpkit.core.primitive import registered
from vjpkit.testing.case import cases_of
from vjpkit.testing.laws import LAWS
from vjpkit.testing.laws.linearity import undeclared

OURS = {name: p for name, p in registered().items() if type(p).__module__.startswith(vk.__name__)}
CASES = {name: cases_of(primitive) for name, primitive in OURS.items()}

ALL_EXAMPLES = "what it gives depends on all examples of a vmap: transforms/test_collectives.py"
WITHOUT_SAMPLES: dict[str, str] = dict.fromkeys(("all_gather", "psum_scatter"), ALL_EXAMPLES)
"""Primitives that cannot have samples, and why."""


def asked(name, law):
    """The cases that a law is checked at."""
    return [c for c in CASES[name] if law.applies(c) and c.exemption(law.name) is None]


TESTS = [(name, law) for name, law in itertools.product(OURS, LAWS) if asked(name, LAWS[law])]


@pytest.mark.parametrize(("name", "law"), TESTS, ids=[f"{name}-{law}" for name, law in TESTS])
def test_law(name, law):
    wrong = []
    for case in asked(name, LAWS[law]):
        try:
            LAWS[law](case)
        except Exception as error:
            error.add_note(f"at {case!r}")
            wrong.append(error)
    if wrong:
        raise wrong[0] if len(wrong) == 1 else ExceptionGroup(f"{name} breaks {law}", wrong[:3])


@pytest.mark.parametrize("name", OURS)
def test_every_primitive_has_samples(name):
    if name in WITHOUT_SAMPLES:
        assert not CASES[name], f"{name} has samples: take it off the list"
    else:
        assert CASES[name], f"{name} declares no samples, so nothing of it is tested"


def test_the_table_of_fallbacks_is_up_to_date():
    assert fallbacks.text() == fallbacks.PATH.read_text(encoding="utf-8"), (
        "look at the difference that `python -m tests.laws.fallbacks` makes"
    )


@pytest.mark.parametrize("name", OURS)
def test_linearity_is_declared(name):
    if "undeclared" not in OURS[name].exempt:
        assert not undeclared(CASES[name])


def test_exemptions_name_laws_or_variants_and_give_reasons():
    variants = {case.variant for cases in CASES.values() for case in cases}
    for name, primitive in OURS.items():
        for key, reason in primitive.exempt.items():
            law, _, variant = key.partition(":")
            known = law in LAWS or key in variants or key == "undeclared"
            assert known, f"{name}: {key} is neither law nor variant"
            assert not variant or variant in variants, f"{name}: {variant} is no variant"
            assert len(reason) > 20, f"{name}: why is it exempt from {key}?"


ON_SOME_MACHINES = {"svd": {"complex"}}
"""Exemptions from laws that one LAPACK keeps and another one does not."""


@pytest.mark.parametrize("name", [name for name, p in OURS.items() if p.exempt])
def test_exemptions_are_needed(name):
    """A law that is kept after all must not be exempt."""
    broken = {"undeclared"} if undeclared(CASES[name]) else set()
    for case, law in itertools.product(CASES[name], LAWS.values()):
        if law.applies(case) and case.exemption(law.name) is not None:
            try:
                law(case)
            except Exception:
                broken |= {law.name, case.variant, f"{law.name}:{case.variant}"}
    assert set(OURS[name].exempt) - ON_SOME_MACHINES.get(name, set()) <= broken
