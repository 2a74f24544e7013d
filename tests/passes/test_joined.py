"""What is read of joined arrays is read of the array that holds it."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.backends import executable
from vjpkit.core.ir import check
from vjpkit.passes import optimize
from vjpkit.passes.joined import with_parts_read

X, Y = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3) / 7

PARTS: dict[str, Any] = {
    "a slice": lambda x, y: np.concatenate([x, y])[3:5],
    "from the end": lambda x, y: np.concatenate([x, y])[-4:],
    "a row": lambda x, y: np.concatenate([x, y])[-1, 1:],
    "columns": lambda x, y: np.concatenate([x, x + 1.0], axis=1)[..., 4:],
    "everything else": lambda x, y: np.concatenate([x, y])[None, 2:6:1, None, ::-1],
    "all of one": lambda x, y: np.concatenate([x, y])[:2],
    "of a stack": lambda x, y: np.stack([x, 2.0 * x])[1, :, ::2],
    "of a stack behind": lambda x, y: np.stack([x, 2.0 * x], axis=-1)[..., 0],
    "of a stack from the end": lambda x, y: np.stack([x, 2.0 * x], axis=1)[:1, -2],
    "gradient": vk.grad(lambda x, y: np.sum(np.sin(np.stack([x, y[:2]])[0]) ** 2)),
}
OTHERS: dict[str, Any] = {
    "of two": lambda x, y: np.concatenate([x, y])[1:3],
    "with steps": lambda x, y: np.concatenate([x, y])[3:6:2],
    "nothing": lambda x, y: np.concatenate([x, y])[3:3],
    "by an array": lambda x, y: np.concatenate([x, y])[np.array([3, 4])],
    "several of a stack": lambda x, y: np.stack([x, 2.0 * x, x])[1:],
    "of another dtype": lambda x, y: np.concatenate([x.astype("f4"), y])[:1],
}


def joins(f: Any) -> int:
    program = vk.make_ir(f)(X, Y).program
    check(with_parts_read(program))
    names = [eqn.primitive.name for eqn in optimize(program).equations]
    return names.count("concatenate") + names.count("stack")


def same(f: Any) -> None:
    closed = vk.make_ir(f)(X, Y)
    for got, want in zip(
        executable(closed.program)(*closed.consts, X, Y), closed(X, Y), strict=True
    ):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", PARTS)
def test_the_join_is_not_made(name):
    assert not joins(PARTS[name])
    same(PARTS[name])


@pytest.mark.parametrize("name", OTHERS)
def test_others_stay_as_they_are(name):
    assert joins(OTHERS[name]) == 1
    same(OTHERS[name])
