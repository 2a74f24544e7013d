"""The walks' own helpers."""

from typing import Literal

import numpy as np
import pytest

from vjpkit.core.rows import annihilate, has_nan, unbroadcast


@pytest.mark.parametrize("n", [0, 1, 100, 70_000])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_has_nan_finds_exactly_nan(n: int, dtype: str, order: str) -> None:
    x = np.ones((2, n), dtype, order="F" if order == "F" else "C")
    x = x[:, ::2] if order == "strided" else x
    assert not has_nan(x)
    if not x.size:
        return
    x[0, 0] = np.inf
    x[-1, -1] = np.finfo(dtype).max
    assert not has_nan(x)
    x[-1, -1] = -np.inf
    assert not has_nan(x)
    x[x.shape[0] // 2, x.shape[1] // 2] = np.nan
    assert has_nan(x)


def test_zero_wins_over_inf_and_nan_in_products_of_derivatives() -> None:
    ct = np.array([0.0, 1.0, 0.0, 2.0])
    factor = np.array([np.inf, 3.0, np.nan, np.inf])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(annihilate(ct, factor), [0.0, 3.0, 0.0, np.inf])
        np.testing.assert_array_equal(annihilate(factor, ct), [0.0, 3.0, 0.0, np.inf])
        assert np.isnan(annihilate(np.float64(1.0), np.float64(np.nan)))
        assert annihilate(np.float64(0.0), np.float64(np.nan)) == 0.0


@pytest.mark.parametrize("dtype", ["e", "f", "d", "g", "F", "D", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "lead"),
    [((5, 3), 1), ((4, 2, 3), 1), ((4, 2, 3), 2), ((7,), 1), ((0, 3), 1), ((70_000, 4), 1)],
)
def test_rows_that_broadcasting_repeated_are_added_up(
    shape: tuple[int, ...], lead: int, dtype: str, order: Literal["C", "F"]
) -> None:
    whole = np.random.default_rng(3).integers(-2, 3, size=shape)  # whose sums are exact
    ct = whole.astype(dtype).copy(order)
    total = unbroadcast(ct, shape[lead:], np.dtype(dtype))
    assert np.shape(total) == shape[lead:]
    assert total.dtype.type is np.dtype(dtype).type
    np.testing.assert_array_equal(total, np.sum(whole, axis=tuple(range(lead))))


def test_sums_of_rows_keep_inf_and_nan_in_their_columns() -> None:
    ct = np.ones((3, 4))
    ct[0, 1], ct[1, 2], ct[0, 3], ct[2, 3] = np.inf, np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        total = unbroadcast(ct, (4,), ct.dtype)
    np.testing.assert_array_equal(total, [3, np.inf, np.nan, np.nan])
