"""`vjpkit.scipy.special` has SciPy's names, values and signatures, on traced values too."""

import numpy as np
import pytest

import vjpkit as vk

special = pytest.importorskip("scipy.special")
X = np.array([[0.3, -1.2, 2.5], [1e3, 1e3, -np.inf]])


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_normalizations_are_scipys(name, axis):
    ours, theirs = getattr(vk.scipy.special, name), getattr(special, name)
    assert ours(X, axis=axis) == pytest.approx(theirs(X, axis=axis))
    vk.test_util.check_grads(lambda x: ours(x, axis=axis), (X[:1],), order=2)


def test_names_that_take_traced_values_already_are_scipys_own():
    assert vk.scipy.special.erf is special.erf
    public = {name for name in dir(special) if not name.startswith("_")}
    assert public <= set(dir(vk.scipy.special))


def test_an_unknown_name_is_named():
    with pytest.raises(AttributeError, match=r"vjpkit\.scipy\.special' has no attribute 'efr'"):
        _ = vk.scipy.special.efr
