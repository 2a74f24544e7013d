"""The mutation check itself: it changes running code, is noticed, and leaves no trace."""

import sys

import numpy as np
import pytest

import vjpkit as vk
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import (
    Source,
    concerned,
    modules_of_rules,
    mutants_of_declarations,
)
from vjpkit.core.primitive import PRIMITIVES, registered
from vjpkit.testing.rules import failures

NAMES = ("sin", "multiply", "subtract", "sum", "where", "getitem", "matmul", "cumprod")


@pytest.fixture(scope="module")
def sources():
    modules = {type(PRIMITIVES[name]).__module__ for name in NAMES}
    return {module: Source(sys.modules[module]) for module in modules}


def mutants_of(name, sources):
    primitive = PRIMITIVES[name]
    source = sources[type(primitive).__module__]
    yield from mutants_of_declarations(primitive)
    for rule in source.rules():
        if concerned(rule, [primitive]):
            yield from source.mutants(rule)


@pytest.mark.parametrize("name", NAMES)
def test_a_mutant_is_noticed_and_undone(name, sources):
    primitive = PRIMITIVES[name]
    assert next(failures(primitive), None) is None
    mutant = next(m for m in mutants_of(name, sources) if str(m) not in EQUIVALENT)
    with mutant.installed():
        assert next(failures(primitive), None) is not None, str(mutant)
    assert next(failures(primitive), None) is None


def test_mistakes_are_made_in_the_running_code(sources):
    gradient = lambda: vk.grad(np.sin)(0.5)
    wanted, seen = np.cos(0.5), set()
    for mutant in mutants_of("sin", sources):
        with mutant.installed():
            seen.add(float(gradient()))
        assert gradient() == wanted
    assert {-wanted, 0.5} <= seen  # the sign flipped, the cosine dropped


def test_what_is_listed_as_equivalent_is_made():
    """The list is of the present text of the rules."""
    listed = {name.partition(": ")[0] for name in EQUIVALENT}
    modules = {k: m for k, m in modules_of_rules().items() if any(x.startswith(k) for x in listed)}
    made = {
        f"{source.owner}.{rule.name}: {text}"
        for source in map(Source, modules.values())
        for rule in source.rules()
        if f"{source.owner}.{rule.name}" in listed
        for _, text in rule.sites()
    }
    for primitive in registered().values():
        made |= {str(mutant) for mutant in mutants_of_declarations(primitive)}
    assert not set(EQUIVALENT) - made


def test_every_reason_is_given():
    assert all(len(reason) > 20 for reason in EQUIVALENT.values())
