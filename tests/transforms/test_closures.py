"""jit: whatever a function reads beyond its arguments, no call uses a program made for another."""

import warnings
from dataclasses import dataclass
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.transforms.closures import Closure

X = np.linspace(0.1, 1.0, 4)
W: Any = 2.0
TABLE: dict[str, Any] = {"w": 2.0}
LIST: list[Any] = [2.0]
V = np.array([1.0, 2.0, 3.0])


@dataclass
class Model:
    w: Any
    other: Any = None

    def scaled(self, x):
        return np.sum(x * self.w)

    def __call__(self, x):
        return helper(x, self)


class Slotted:
    __slots__ = ("w",)
    w: Any


class Settings:
    w: Any = 2.0


def helper(x, model):
    return np.sum(x * model.w)


def by_global(x):
    return np.sum(x * W)


def by_other_function(x):
    return 1.0 * by_global(x)


def by_table(x):
    return np.sum(x * TABLE["w"])


def by_list(x):
    return np.sum(x * LIST[0])


def by_class(x):
    return np.sum(x * Settings.w)


MODEL, SLOTTED = Model(2.0), Slotted()
SLOTTED.w = 2.0


def by_slot(x):
    return np.sum(x * SLOTTED.w)


def by_attribute(x):
    return helper(x, MODEL)


def by_default(x):
    return np.sum(x * SETTINGS.w)


def by_namespace(x):
    return np.sum(x * SPACE.inner.w)


def by_text(x):
    return np.sum(x * getattr(SPACE.inner, "w"))  # noqa: B009  # what is tested


class Ways:
    @staticmethod
    def static(x):
        return np.sum(x * W)

    @classmethod
    def of_class(cls, x):
        return np.sum(x * W)

    @property
    def factor(self):
        return W


def decorated(f):
    @wraps(f)
    def called(x):
        return f(x)

    return called


SETTINGS, SPACE, WAYS = Settings(), SimpleNamespace(inner=SimpleNamespace(w=2.0)), Ways()


def set_global(w):
    global W
    W = w


PLACES: dict[str, tuple[Any, Any]] = {
    "global": (by_global, set_global),
    "global of another function": (by_other_function, set_global),
    "transformed": (vk.checkpoint(by_global), set_global),
    "jitted": (vk.jit(by_global), set_global),
    "partial": (partial(lambda f, x: f(x), by_global), set_global),
    "dict": (by_table, lambda w: TABLE.update(w=w)),
    "list": (by_list, lambda w: LIST.__setitem__(0, w)),
    "class": (by_class, lambda w: setattr(Settings, "w", w)),
    "slot": (by_slot, lambda w: setattr(SLOTTED, "w", w)),
    "attribute": (by_attribute, lambda w: setattr(MODEL, "w", w)),
    "bound method": (MODEL.scaled, lambda w: setattr(MODEL, "w", w)),
    "callable object": (MODEL, lambda w: setattr(MODEL, "w", w)),
    "over a class's default": (by_default, lambda w: setattr(SETTINGS, "w", w)),
    "namespace": (by_namespace, lambda w: setattr(SPACE.inner, "w", w)),
    "attribute by its text": (by_text, lambda w: setattr(SPACE.inner, "w", w)),
    "static method": (lambda x: Ways.static(x), set_global),
    "class method": (lambda x: WAYS.of_class(x), set_global),
    "property": (lambda x: np.sum(x * WAYS.factor), set_global),
    "decorated": (decorated(by_global), set_global),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_value_rebound_in_any_place_is_seen(place):
    f, rebind = PLACES[place]
    rebind(2.0)
    j = vk.jit(f)
    assert j(X) == pytest.approx(2 * np.sum(X))
    assert j(X) == pytest.approx(2 * np.sum(X))
    assert j.cache_info()[:2] == (1, 1)

    def loss(w):
        rebind(w)
        return j(X)

    try:
        assert vk.grad(loss)(3.0) == pytest.approx(np.sum(X))
        assert vk.jit(vk.grad(loss))(3.0) == pytest.approx(np.sum(X))
        rebind(5.0)
        assert j(X) == pytest.approx(5 * np.sum(X))
        rebind(np.array([1.0, 2.0, 3.0, 4.0]))
        assert j(X) == pytest.approx(X @ [1.0, 2.0, 3.0, 4.0])
    finally:
        rebind(2.0)


def test_a_closure_variable():
    w: Any = 2.0
    j = vk.jit(lambda x: w * x)
    assert j(3.0) == 6.0
    w = 4.0
    assert j(3.0) == 12.0
    assert j.misses[-1].reason == "closure variable 'w' is 4.0, and was 2.0"
    assert "test_closures.py" in j.misses[-1].where

    def f(z):
        nonlocal w
        w = z
        return j(3.0)

    assert vk.grad(f)(1.0) == 3.0
    assert vk.grad(vk.grad(lambda z: f(z) ** 2))(1.0) == 18.0
    w = 2.0
    assert j(3.0) == 6.0
    w = float("2")  # an equal number: nothing changed
    misses = j.cache_info().misses
    assert j(3.0) == 6.0
    assert j.cache_info().misses == misses
    w = -0.0
    assert np.signbit(j(3.0))
    w = 0.0
    assert not np.signbit(j(3.0))


def make_unassigned():
    w: Any = 0.0

    def f(x):
        try:
            return x * w
        except NameError:
            return x

    def assign():
        nonlocal w
        w = 5.0

    del w
    return f, assign


def make_none():
    model = Model(None)
    return lambda x: x if model.w is None else x * model.w, lambda: setattr(model, "w", 5.0)


def make_deleted():
    settings = Settings()
    settings.w = 7.0
    return lambda x: x * settings.w, lambda: delattr(settings, "w")


def make_own():
    settings = Settings()
    return lambda x: x * settings.w, lambda: setattr(settings, "w", 5.0)


def make_longer():
    terms = [1.0, 2.0]
    return lambda x: x * sum(terms), lambda: terms.append(3.0)


def make_set():
    terms = {1.0, 2.0}
    return lambda x: x * sum(terms), lambda: terms.remove(2.0)


def make_element():
    array = np.ones(3)
    return lambda x: x * float(array[1]), lambda: array.__setitem__(1, 4.0)


def make_new_key():
    table = {"a": 1.0}
    return lambda x: x * table.get("b", 2.0), lambda: table.update(b=3.0)


def make_namespace():
    """An object whose dictionary is another one."""
    space = SimpleNamespace(w=2.0)
    return lambda x: x * space.w, lambda: space.__dict__.update(w=3.0)


MAKERS = [value for name, value in list(globals().items()) if name.startswith("make_")]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__.removeprefix("make_"))
def test_the_short_way_in_sees_it_too(make):
    f, change = make()
    j = vk.jit(f)
    assert [j(3.0) for _ in range(4)] == [f(3.0)] * 4
    assert j.cache_info().misses == 1
    before = f(3.0)
    change()
    assert f(3.0) != before
    assert [j(3.0) for _ in range(4)] == [f(3.0)] * 4
    assert j.cache_info().misses == 2


def test_equal_values_stage_nothing_anew():
    w: Any = 2.5
    j = vk.jit(lambda x: x * w)
    for _ in range(4):
        assert j(2.0) == 5.0
        w = float("2.5")
    assert j.cache_info().misses == 1


def test_a_value_over_a_default_of_the_class():
    """The attribute was the class's when the program was made, and is the object's now."""
    fresh = Settings()
    j = vk.jit(lambda x: x * fresh.w)
    assert j(3.0) == 6.0
    fresh.w = 5.0
    assert j(3.0) == 15.0
    del fresh.w
    assert j(3.0) == 6.0


def test_what_static_arguments_hold():
    class Layer:
        def __init__(self, w):
            self.w = w

        @partial(vk.jit, static_argnums=0)
        def __call__(self, x):
            return x * self.w

    layer, other = Layer(2.0), Layer(7.0)
    assert (layer(3.0), other(3.0)) == (6.0, 21.0)
    layer.w = 4.0
    assert (layer(3.0), other(3.0)) == (12.0, 21.0)
    assert vk.grad(layer)(3.0) == 4.0
    layer.w = np.array([1.0, 2.0])
    np.testing.assert_array_equal(layer(3.0), [3.0, 6.0])
    layer.w[0] = 9.0
    np.testing.assert_array_equal(layer(3.0), [27.0, 6.0])

    apply = vk.jit(lambda f, x: f(x), static_argnums=0)
    try:
        assert apply(by_global, X) == pytest.approx(2 * np.sum(X))
        set_global(3.0)
        assert apply(by_global, X) == pytest.approx(3 * np.sum(X))
    finally:
        set_global(2.0)


def test_an_array_that_numpy_alone_reads():
    v = V.copy()
    j = vk.jit(lambda x: x * np.sum(np.sin(v)))
    assert j(2.0) == 2.0 * np.sum(np.sin(v))
    v[1] = 7.0
    assert j(2.0) == 2.0 * np.sum(np.sin(v))
    assert "'v', read while staging, was changed in place" in j.misses[-1].reason

    both = vk.jit(lambda x: np.sum(x * v) + x[0] * np.sum(v))
    both(V), v.__setitem__(0, -1.0)
    assert both(V) == np.sum(V * v) + V[0] * np.sum(v)
    index = np.array([0, 2])
    chosen = vk.jit(lambda x: x[index])
    chosen(V), index.__setitem__(0, 1)
    np.testing.assert_array_equal(chosen(V), V[[1, 2]])


def test_arrays_in_bodies_of_control_flow():
    w = V.copy()
    j = vk.jit(lambda x: vk.lax.scan(lambda c, _: (c * w, None), x, None, length=2)[0])
    j(V)
    w *= 2.0
    np.testing.assert_allclose(j(V), V * w * w)


def test_a_function_defined_anew():
    def doubled(x):
        return x * 2.0

    def defined_anew(x):
        return x * 5.0

    g = doubled
    j = vk.jit(lambda x: g(x))
    assert j(3.0) == 6.0
    g = defined_anew
    assert j(3.0) == 15.0


def test_what_is_not_read_costs_nothing():
    unread = Model(1.0)
    j = vk.jit(lambda x: unread.w * x)
    j(2.0)
    unread.other = 3.0
    assert j(2.0) == 2.0
    assert j.cache_info().misses == 1
    assert not Closure(lambda x: np.sin(x) * len(x))


def test_programs_for_many_signatures_are_each_looked_at():
    w = 2.0
    j = vk.jit(lambda x: w * x)
    j(1.0), j(V)
    w = 3.0
    assert j(1.0) == 3.0
    np.testing.assert_array_equal(j(V), 3.0 * V)
    assert j.cache_info() == (0, 4, 2)


def test_a_call_staged_again_and_again_warns_once():
    w = 0.0
    j = vk.jit(lambda x: w * x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(10):
            w = float(k)
            assert j(2.0) == 2.0 * k
    w = 20.0
    with pytest.warns(
        RuntimeWarning, match=r"staged 10 times .*'w' is 20.0.*test_closures"
    ) as said:
        assert j(2.0) == 40.0
    assert "argument" in str(said[0].message)
    assert said[0].filename == __file__
