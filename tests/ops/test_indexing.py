"""Reading by index: everything that NumPy accepts, its errors, and the transpose."""

import itertools
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.aval import aval_of
from vjpkit.core.errors import ClosedTraceError, TracerConversionError
from vjpkit.core.rows import Parts, Rows, new_slots, pull_rows, settled
from vjpkit.core.staging import stage
from vjpkit.ops.index import (
    Index,
    arrays_place,
    flat_positions,
    is_basic,
    normalized,
    split_index,
)
from vjpkit.ops.indexing import add_into, getitem, scatter_sum, take
from vjpkit.transforms.batch import Batched, Batches

RNG = np.random.default_rng(1)
X = RNG.normal(size=(2, 3, 4))
XS = RNG.normal(size=(5, 2, 3, 4))
ENTRIES = [
    0,
    -1,
    slice(None),
    slice(2, 0, -1),
    None,
    Ellipsis,
    np.array([0, 1, -1]),
    np.array([[1], [0]]),
    [1, 0],
    True,
    np.False_,
    np.int32(1),
    np.array(1),
    np.array([], int),
]
MASKS = [X > 0, np.array([True, False]), np.array([[True, False, True], [False, True, True]])]
INDICES: list[Any] = [
    *ENTRIES,
    *MASKS,
    X > 9,
    *itertools.product(ENTRIES, repeat=2),
    *[t for t in itertools.product(ENTRIES, repeat=3) if RNG.random() < 0.25],
    *[t for t in itertools.product(ENTRIES, repeat=4) if RNG.random() < 0.02],
    *[(mask, 0) for mask in MASKS],
    *[(Ellipsis, mask) for mask in MASKS],
    *[(mask, np.array([0, 1, -1])) for mask in MASKS],
    (None, MASKS[1], slice(None), [0, 2]),
    np.ix_([0, 1], [2, 0], [3, 1]),
    5,
    -3,
    (0, 3),
    (0, 0, 0, 0),
    (..., ...),
    1.0,
    "a",
    np.array([0.0]),
    [0, 5],
    np.array([True, False, True]),
    {"a": 1},
    (slice(None, None, 0),),
    range(2),
    (range(1), (1, 2)),
]


def outcome(x, index):
    try:
        return x[index], None
    except (IndexError, ValueError, TypeError) as error:
        return None, error


def test_every_index_that_numpy_takes():
    """Values, strides and errors of eager reads, the transpose, staged and batched reads."""
    refused = 0
    for index in INDICES:
        wanted, wanted_error = outcome(X, index)
        trace = Rows()
        got, error = outcome(trace.argument(X), index)
        if wanted_error is not None:
            refused += 1
            assert (type(error), str(error)) == (type(wanted_error), str(wanted_error)), index
            continue
        assert error is None, f"{index}: {error!r}"
        assert type(got.value) is type(wanted)
        assert got.value.strides == wanted.strides
        np.testing.assert_array_equal(got.value, wanted)
        _assert_transposed(trace, got, index)
        _assert_staged_and_batched(index)
    assert 100 < refused < len(INDICES) / 2


def _assert_transposed(trace, out, index):
    """The cotangent is added at the index, repeatedly where that repeats."""
    ct = np.asarray(RNG.normal(size=out.shape))[()]
    slots = new_slots(trace.new())
    slots[out.slot] = ct
    pull_rows(trace.rows, slots)
    wanted = np.zeros_like(X)
    np.add.at(wanted, index, ct)
    np.testing.assert_array_equal(slots[0], wanted)


def _assert_staged_and_batched(index):
    closed = stage(lambda x: (x[index],), [aval_of(X)])
    assert closed.program.out_avals[0].shape == X[index].shape
    np.testing.assert_array_equal(closed(X)[0], X[index])
    batched: Any = Batched(XS, Batches(5))
    batched = batched[index]
    np.testing.assert_array_equal(batched.value, np.stack([x[index] for x in XS]))


def test_batches_of_indices():
    """Every combination of batched and fixed index arrays, for batched and fixed arrays."""
    compared = 0
    for index in INDICES:
        if outcome(X, index)[1] is not None:
            continue
        static, arrays = split_index(index)
        for flags in itertools.product((False, True), repeat=len(arrays)):
            if any(flags):
                _assert_batched_arrays(static, arrays, flags)
                compared += 1
    assert compared > 500


def _assert_batched_arrays(static, arrays, flags):
    batches = Batches(5)
    many = [
        np.stack([RNG.permutation(a.ravel()).reshape(a.shape) for _ in range(5)]) for a in arrays
    ]
    given = [Batched(m, batches) if b else a for a, m, b in zip(arrays, many, flags, strict=True)]
    each = [
        static.fill([m[i] if b else a for a, m, b in zip(arrays, many, flags, strict=True)])
        for i in range(5)
    ]
    for x, examples in ((X, [X] * 5), (Batched(XS, batches), XS)):
        out = getitem(x, *given, index=static).value
        wanted = np.stack([one[index] for one, index in zip(examples, each, strict=True)])
        np.testing.assert_array_equal(out, wanted)
    ct = RNG.normal(size=wanted.shape)
    params = {"shape": X.shape, "dtype": X.dtype, "indices": (static,)}
    sums = scatter_sum(*given, Batched(ct, batches), **params).value
    for i in range(5):
        one = np.zeros_like(X)
        np.add.at(one, each[i], ct[i])
        np.testing.assert_allclose(sums[i], one, rtol=1e-14, atol=1e-15)


def test_flat_positions_are_those_of_numpy():
    places = np.arange(X.size).reshape(X.shape)
    for index in INDICES:
        if outcome(X, index)[1] is None and not is_basic(normalized(index)):
            flat = flat_positions(X.shape, index)
            np.testing.assert_array_equal(np.broadcast_to(flat, X[index].shape), places[index])


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
def test_large_sums_by_index_are_exact(dtype: str):
    """The path that goes by flat positions adds the same numbers in the same order."""
    shape = (7, 5, 3)
    cases: list[tuple[Any, tuple[int, ...]]] = [
        ((RNG.integers(-7, 7, 3000),), (3000, 5, 3)),
        ((RNG.integers(0, 7, 3000), slice(None), RNG.integers(-3, 3, 3000)), (3000, 5)),
        ((slice(None), RNG.integers(0, 5, (50, 60)), 0), (7, 50, 60)),
    ]
    for index, size in cases:
        ct = RNG.normal(size=size).astype(dtype)
        got, wanted = np.zeros(shape, dtype), np.zeros(shape, dtype)
        add_into(got, index, ct)
        np.add.at(wanted, index, ct)
        np.testing.assert_array_equal(got, wanted)


def test_cotangents_meet_in_one_buffer():
    """n reads of an array cost one buffer and O(n), not n dense arrays."""
    trace = Rows()
    x: Any = trace.argument(np.ones(1000))
    outs = [x[i] for i in range(100)] + [x[10:20], x[[1, 1]]]
    slots = new_slots(trace.new())
    for out in outs:
        slots[out.slot] = np.ones(out.shape)[()]
    last = trace.rows.pop()
    last[0](last, slots[last[1]], slots)
    buffer = slots[0]
    pull_rows(trace.rows, slots)
    assert slots[0] is buffer
    assert buffer.sum() == 112


K, PLACES = np.array([2.0, -3.0, 5.0]), np.array([2, 0, 2])
USES: dict[str, Any] = {
    "whole": lambda x, w, i: np.sum(x * K),
    "whole, traced": lambda x, w, i: np.sum(x * w),
    "element": lambda x, w, i: 7.0 * x[1],
    "element, traced": lambda x, w, i: x[2] * w[0],
    "elements": lambda x, w, i: np.sum(x[PLACES] * K),
    "elements, traced": lambda x, w, i: np.sum(x[PLACES] * w),
    "at a traced place": lambda x, w, i: 11.0 * x[i],
}
MEETINGS = list(itertools.product(USES, repeat=3))


def test_cotangents_of_every_kind_add_up():
    """Whatever comes first: whole ones and parts, traced and not, into our buffer or not."""
    x, w = np.array([0.3, 0.5, 0.7]), np.array([0.2, -0.4, 0.6])

    def all_of(meetings):
        def f(w, i):
            sums = [lambda x, m=m: sum(USES[name](x, w, i) for name in m) for m in meetings]
            return [vk.grad(f)(x) for f in sums]

        return vk.jvp(lambda w: f(w, 1), (w,), (K,)), vk.jit(f)(w, 1)

    each = [dict(zip(USES, y, strict=True)) for y in all_of([(name,) for name in USES])[0]]
    found = all_of(MEETINGS)
    for m, value, slope, staged in zip(MEETINGS, *found[0], found[1], strict=True):
        wanted = [sum(e[name] for name in m) for e in each]
        np.testing.assert_allclose(value, wanted[0], rtol=1e-14, err_msg=str(m))
        np.testing.assert_allclose(slope, wanted[1], rtol=1e-14, err_msg=str(m))
        np.testing.assert_allclose(staged, wanted[0], rtol=1e-14, err_msg=str(m))


def test_a_cotangent_that_is_given_is_not_added_to():
    given = np.ones(3)
    _, pull = vk.vjp(lambda x: (x, 2.0 * x[0], np.sum(x[PLACES])), np.arange(3.0))
    np.testing.assert_array_equal(pull((given, 1.0, 1.0))[0], [4.0, 1.0, 3.0])
    np.testing.assert_array_equal(given, 1.0)


def test_cotangents_in_another_order_of_memory_are_added_to():
    x = np.zeros((60, 50))
    i, j = np.arange(3000) % 60, np.arange(3000) % 50
    a, b = np.asfortranarray(x + 2.0), np.asfortranarray(x + 3.0)
    wanted = x + 5.0
    np.add.at(wanted, (i, j), 1.0)
    f = lambda x: np.sum(x[i, j]) + np.sum(x * a) + np.sum(x * b)
    np.testing.assert_array_equal(vk.grad(f)(x), wanted)


def test_traced_cotangents_are_summed_by_one_equation():
    def gradient(x):
        return vk.grad(lambda x: sum((x[i] * x[i + 1] for i in range(20)), start=np.sum(x)))(x)

    program = vk.make_ir(gradient)(np.ones(30)).program
    assert [e.primitive.name for e in program.equations].count("scatter_sum") == 1
    np.testing.assert_array_equal(program.eval(np.ones(30))[0], gradient(np.ones(30)))


def test_gathers_by_traced_integers_are_summed_by_one_equation():
    def gradient(x, i):
        return vk.grad(lambda x: sum(np.sum(np.sin(x[i + k])) for k in range(20)))(x)

    x, i = np.linspace(0.0, 1.0, 30), np.array([3, 1, 3])
    program = vk.make_ir(gradient)(x, i).program
    assert [e.primitive.name for e in program.equations].count("scatter_sum") == 1
    np.testing.assert_allclose(program.eval(x, i)[0], gradient(x, i), rtol=1e-15)


def test_parts_keep_what_came_before():
    """A whole cotangent, then parts of it, then another whole one."""

    def f(x):
        return np.sum(x * 2) + x[0] * x[1] + np.sum(np.exp(x)) + np.sum(x[np.array([0, 0])])

    x = np.array([0.3, 0.5])
    np.testing.assert_allclose(vk.jacfwd(vk.grad(f))(x), vk.jacrev(vk.grad(f))(x), rtol=1e-14)
    np.testing.assert_allclose(vk.make_ir(vk.grad(f))(x)(x)[0], vk.grad(f)(x), rtol=1e-15)


def test_a_later_change_of_the_index_does_not_matter():
    def f(x):
        index = np.array([0, 1])
        mask = np.array([True, False, True])
        out = np.sum(x[index] * 2.0) + np.sum(x[mask])
        index[:] = 2
        mask[:] = False
        return out

    np.testing.assert_array_equal(vk.grad(f)(np.ones(3)), [3.0, 2.0, 1.0])


def test_integers_of_every_width_and_pandas():
    x = np.arange(10.0)
    f = lambda x, index: np.sum(x[index])
    for kind in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
        np.testing.assert_array_equal(vk.grad(f)(x, np.array([9, 0, 9], kind))[[0, 9]], [1, 2])
        assert vk.grad(f)(x, kind(3))[3] == 1.0
    pandas = pytest.importorskip("pandas")
    series = pandas.Series([1, 1, 4], index=["a", "b", "c"])
    np.testing.assert_array_equal(vk.grad(lambda x: np.sum(x[series]))(x)[:5], [0, 2, 0, 0, 1])
    mask = pandas.Series(x > 6)
    np.testing.assert_array_equal(vk.grad(lambda x: np.sum(x[mask]))(x), x > 6)


# ---- what is not known -------------------------------------------------------------------------


def test_a_mask_that_is_not_known_names_where():
    with pytest.raises(TracerConversionError, match=r"Use np\.where") as caught:
        vk.make_ir(lambda x: x[x > 0])(np.ones(3))
    assert "test_indexing.py" in str(caught.value)
    with pytest.raises(TracerConversionError, match=r"Use np\.where"):
        vk.vmap(lambda x: x[x > 0])(np.ones((2, 3)))


def test_a_mask_of_another_shape_is_numpys_error():
    mask = np.array([True, False])
    for f in (vk.make_ir(lambda x: x[mask]), vk.grad(lambda x: np.sum(x[mask]))):
        with pytest.raises(
            IndexError, match="boolean index did not match indexed array along axis 0"
        ):
            f(np.ones(3))


def test_a_traced_slice_says_how_to_index():
    with pytest.raises(TracerConversionError, match=r"start \+ np.arange"):
        vk.make_ir(lambda x, i: x[i:])(np.ones(3), 1)


def test_a_traced_float_is_no_index():
    with pytest.raises(IndexError, match="only integers, slices"):
        vk.grad(lambda i: np.sum(i * i[i[0]]))(np.ones(3))
    with pytest.raises(IndexError, match=r"integer \(or boolean\) type"):
        vk.grad(lambda i: np.sum(i[i]))(np.ones(3))
    with pytest.raises(IndexError, match=r"integer \(or boolean\) type"):
        vk.grad(lambda i: np.sum(i[[i[0], i[1]]]))(np.ones(3))


def test_traced_integers():
    """Scalars, arrays, and lists of them; out of bounds is NumPy's error at run time."""
    x = np.linspace(0.0, 1.0, 5)
    f = lambda x, i, j: x[i] * x[[i, j]] * x[np.stack([j, i])] + x[..., j, None]
    closed = vk.make_ir(f)(x, 1, 3)
    for i, j in ((1, 3), (0, -1)):
        np.testing.assert_array_equal(closed(x, i, j)[0], f(x, i, j))
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 5"):
        closed(x, 7, 0)


def test_batched_errors_speak_of_one_example():
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 1 with size 4"):
        vk.vmap(lambda x: x[0, 9])(np.ones((2, 3, 4)))
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 1 with size 4"):
        vk.vmap(lambda x: x[:, np.array([0, 9])])(np.ones((2, 3, 4)))
    with pytest.raises(IndexError, match="too many indices for array: array is 1-dimensional"):
        vk.vmap(lambda x: x[0, 0])(np.ones((2, 3)))
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        vk.vmap(lambda x: x[3])(np.ones((5, 3)))


def test_an_example_that_escaped_is_not_read():
    escaped: list[Any] = []

    def f(x):
        escaped.append(x)
        return x

    vk.vmap(f)(np.ones((2, 3)))
    with pytest.raises(ClosedTraceError, match="had finished"):
        escaped[0][0]


@pytest.mark.parametrize("i", [1, np.array([0, 2, 0])], ids=["integer", "array"])
def test_tangents_are_read_at_traced_places(i):
    x, t = np.array([0.3, 0.5, 0.7]), np.array([2.0, 3.0, 5.0])
    along = lambda i: vk.linearize(lambda x: x[i], x)[1](t)
    back = lambda i: vk.grad(lambda x: np.sum(x[i] * 1.5))(x)
    wanted = np.zeros(3)
    np.add.at(wanted, i, 1.5)
    np.testing.assert_array_equal(vk.jit(along)(i), t[i])
    np.testing.assert_array_equal(vk.jit(back)(i), wanted)
    if np.ndim(i):
        np.testing.assert_array_equal(vk.vmap(along)(i), t[i])
        outside = vk.grad(lambda x: np.sum(vk.vmap(lambda i: x[i])(i) * 1.5))
        np.testing.assert_array_equal(outside(x), wanted)


def test_integers_beside_what_is_differentiated_are_places():
    """Also in arrays that NumPy makes of them."""
    f = lambda x, i: np.sum(x[np.array([i, i])])
    np.testing.assert_array_equal(vk.grad(f)(np.arange(3.0), 1), [0, 2, 0])
    np.testing.assert_array_equal(vk.jit(vk.grad(f))(np.arange(3.0), 1), [0, 2, 0])
    gradient, _ = vk.grad(f, (0, 1), allow_int=True)(np.arange(3.0), 1)
    np.testing.assert_array_equal(gradient, [0, 2, 0])


# ---- the parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entries",
    [
        (0, -3),
        (slice(1, None), slice(None, None, -1), slice(None)),
        (None, Ellipsis, Index.ARRAY),
        (True, False, 1, 0),
        (),
    ],
)
def test_the_text_of_an_index_reads_back(entries):
    index = Index(entries)
    assert Index.parse(repr(index)) == index
    assert hash(Index.parse(repr(index))) == hash(index)
    assert index != Index((*entries, 0))


def test_true_is_not_one():
    assert Index((True,)) != Index((1,))


def test_where_index_arrays_stand():
    """Against NumPy, by a length that nothing else has."""
    x = np.zeros((2, 3, 4, 5))
    array = np.zeros((7,), int)
    entries = [0, slice(None), None, Ellipsis, Index.ARRAY]
    for combination in itertools.product(entries, repeat=4):
        if Index.ARRAY not in combination or combination.count(Ellipsis) > 1:
            continue
        index = Index(combination)
        arrays = [array] * index.arrays
        assert x[index.fill(arrays)].shape.index(7) == arrays_place(index, x.ndim), combination


def test_take_is_dense():
    """Unlike a read behind a slice, for which NumPy puts the axes of index arrays first."""
    i = np.array([2, 0])
    assert take(X, i, axis=1).flags.c_contiguous
    assert not X[:, i].flags.c_contiguous
    np.testing.assert_array_equal(take(X, i, axis=1), X[:, i])


def test_the_sign_of_zero_survives_padding():
    assert np.signbit(vk.vjp(lambda x: np.pad(x, 1), np.array([-0.0]))[0][1])


def test_no_part_is_lost_when_all_are_whole():
    parts = Parts([aval_of(np.ones(2)), (None, np.ones(2)), (None, np.ones(2))])
    np.testing.assert_array_equal(settled(parts), [2.0, 2.0])


def test_a_traced_python_number_is_an_array_without_axes():
    """As NumPy's scalars are: ``x[()]`` is the number, ``x[None]`` an array of one."""
    for f in (
        lambda x: x[()] * 3.0,
        lambda x: x[...] * 3.0,
        lambda x: np.sum(x[None] * 3.0),
        lambda x: np.sum(x[np.array(True)] * 3.0),
    ):
        assert vk.grad(f)(2.0) == 3.0
        assert vk.jvp(f, (2.0,), (1.0,))[1] == 3.0
        assert vk.make_ir(f)(2.0)(2.0)[0] == 6.0
    assert vk.grad(lambda x: np.sum(np.array([x, x * x]) * 1.0))(2.0) == 5.0
