"""`vjpkit.scipy.special` has SciPy's names, values and signatures, on traced values too."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.scipy.calls import Call, check_derivatives, check_transforms, check_value, each
from vjpkit.core.errors import UnsupportedError
from vjpkit.ops.scipy_special import by_ufunc

special = pytest.importorskip("scipy.special")
ours = vk.scipy.special
X = np.array([[0.3, -1.2, 2.5], [1e3, 1e3, -np.inf]])

V = np.array([0.4, 1.7, 3.2])
W = np.array([0.3, -1.2, 2.5])
Z = W + 1j * V
ORDERS = np.array([0, 1, 3])


def of_order(*orders: Any) -> Any:
    return lambda *xs: (*orders, *xs)


CALLS = [
    Call("lambertw", (V,)),
    Call("lambertw", (Z,), {"k": -1}),
    *[Call(f"spherical_{n}", (W,), made=of_order(ORDERS)) for n in ("jn", "yn", "in", "kn")],
    *[Call(f"spherical_{n}", (Z,), made=of_order(2)) for n in ("jn", "yn", "in", "kn")],
    *[
        Call(f"spherical_{n}", (W,), {"derivative": True}, made=of_order(ORDERS))
        for n in ("jn", "yn", "in", "kn")
    ],
    Call("comb", (V + 4, V)),
    Call("comb", (V + 4, V), {"repetition": True}),
    Call("perm", (V + 4, V)),
    Call("factorial", (V,)),
    Call("factorial", (W,)),
    Call("factorial", (W,), {"extend": "complex"}),
    *[Call("diric", (W,), made=lambda x, n=n: (x, n)) for n in (1, 2, 5)],
    Call("diric", (np.array([2 * np.pi + 1e-4, 1e-5, -4 * np.pi]),), made=lambda x: (x, 4)),
    Call("assoc_laguerre", (W,), made=lambda x: (x, 3, 1.5)),
    Call("legendre_p", (W / 3,), made=of_order(ORDERS), mapped=False),
    Call("legendre_p", (W / 3,), {"diff_n": 2}, made=of_order(ORDERS), mapped=False),
    *[Call("sph_harm_y", (V, W), made=of_order(3, m)) for m in (-3, -1, 0, 2)],
    *[Call(n, (V,), made=of_order(1.3)) for n in ("jvp", "yvp", "ivp", "kvp", "h1vp", "h2vp")],
    Call("softplus", (W,)),
    Call("sinc", (W,)),
    Call("zeta", (V + 2,), made=lambda q: (2.5, q)),
    Call("polygamma", (V,), made=of_order(2)),
    Call("multigammaln", (V + 2,), made=lambda a: (a, 2)),
    *[Call(n, (W,)) for n in ("airy", "sici", "shichi", "fresnel", "softmax", "log_softmax")],
    Call("airy", (Z,)),
    Call("ellipj", (V,), made=lambda u: (u, 0.3)),
    Call("pbdv", (W,), made=of_order(1.3)),
    Call("itj0y0", (V,)),
    Call("iti0k0", (V,)),
    Call("eval_jacobi", (W / 3,), made=of_order(ORDERS, 0.3, 1.2)),
    Call("hyp2f1", (W / 3,), made=of_order(1.3, 0.4, 2.1)),
]


@each(CALLS)
def test_values_are_scipys(call: Call) -> None:
    check_value(call, ours, special)


@each(CALLS)
def test_derivatives(call: Call) -> None:
    check_derivatives(call, ours)


@each(CALLS)
def test_staged_and_mapped(call: Call) -> None:
    check_transforms(call, ours)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_normalizations_are_scipys(name: str, axis: Any) -> None:
    mine, theirs = getattr(ours, name), getattr(special, name)
    assert mine(X, axis=axis) == pytest.approx(theirs(X, axis=axis))
    vk.test_util.check_grads(lambda x: mine(x, axis=axis), (X[:1],), order=2)


# ---------------------------------------------------------------------------------- every name

OF_INTEGERS = {
    *(n for n in dir(special) if n.endswith(("_zeros", "_roots", "_seq"))),
    *(n for n in dir(special) if n.startswith("roots_")),
    "bernoulli", "chebyc", "chebys", "chebyt", "chebyu", "euler", "geterr", "hermite",
    "hermitenorm", "laguerre", "legendre", "seterr", "sh_chebyt", "sh_chebyu", "sh_legendre",
    "test",
}  # fmt: skip
"""SciPy's own: polynomials, roots and zeros of whole numbers, and settings."""

OF_UFUNCS = {
    "digamma", "h1vp", "h2vp", "ivp", "jvp", "kvp", "sinc", "softplus", "yvp", "zeta",
}  # fmt: skip
"""SciPy's own, made of ufuncs and so of traced values as they are."""

UNSUPPORTED = {
    "agm", "airye", "bdtrik", "bdtrin", "besselpoly", "btdtria", "btdtrib", "chdtriv", "chndtridf",
    "chndtrinc", "chndtrix", "ellipeinc", "ellipkinc", "elliprc", "elliprd", "elliprf", "elliprg",
    "elliprj", "fdtridfd", "gdtria", "gdtrib", "it2i0k0", "it2j0y0", "itairy", "kelvin",
    "mathieu_a", "mathieu_b", "mathieu_cem", "mathieu_modcem1", "mathieu_modcem2",
    "mathieu_modsem1", "mathieu_modsem2", "mathieu_sem", "modfresnelm", "modfresnelp", "nbdtrik",
    "nbdtrin", "ncfdtr", "ncfdtri", "ncfdtridfd", "ncfdtridfn", "ncfdtrinc", "nctdtr", "nctdtridf",
    "nctdtrinc", "nctdtrit", "obl_ang1", "obl_ang1_cv", "obl_cv", "obl_rad1", "obl_rad1_cv",
    "obl_rad2", "obl_rad2_cv", "pbvv", "pbwa", "pdtrik", "pro_ang1", "pro_ang1_cv", "pro_cv",
    "pro_rad1", "pro_rad1_cv", "pro_rad2", "pro_rad2_cv", "round", "smirnov", "smirnovi",
    "stdtridf", "tklmbda",
}  # fmt: skip
"""Ufuncs that refuse traced values."""


def ufuncs() -> dict[str, np.ufunc]:
    return {n: f for n, f in vars(special).items() if n[0] != "_" and isinstance(f, np.ufunc)}


def test_every_ufunc_is_accounted_for() -> None:
    assert {n for n, f in ufuncs().items() if by_ufunc(f) is None} == UNSUPPORTED


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_ufuncs_without_rules_refuse(name: str) -> None:
    ufunc = ufuncs()[name]
    with pytest.raises(UnsupportedError, match=f"the ufunc {name} is not supported"):
        vk.grad(lambda x: ufunc(*[x] * ufunc.nin))(0.5)


def test_every_function_is_accounted_for() -> None:
    functions = {
        n
        for n, f in vars(special).items()
        if n[0] != "_" and callable(f) and not isinstance(f, np.ufunc | type)
    }
    assert functions == set(ours.__all__) | (OF_UFUNCS - {"digamma"}) | (
        OF_INTEGERS - set(ours.REFUSED)
    )


@pytest.mark.parametrize("name", ours.REFUSED)
def test_what_is_refused_is_named(name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"scipy\.special\.{name}: this function"):
        vk.grad(lambda x: getattr(ours, name)(x))(0.5)


KEYWORDS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("comb", (2,), {"exact": True}),
    ("perm", (2,), {"exact": True}),
    ("factorial", (), {"exact": True}),
    ("diric", (np.array([2.0, 0.5], object),), {}),
]


@pytest.mark.parametrize(("name", "args", "keywords"), KEYWORDS)
def test_keywords_that_are_refused(name: str, args: Any, keywords: Any) -> None:
    with pytest.raises(UnsupportedError, match=rf"scipy\.special\.{name}: "):
        vk.grad(lambda x: np.sum(getattr(ours, name)(x, *args, **keywords)))(3.0)


@pytest.mark.parametrize("name", ["spherical_jn", "legendre_p"])
def test_a_traced_order_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"scipy\.special\.{name}: a traced n"):
        vk.grad(lambda n: getattr(ours, name)(n, 0.5))(2.0)


@pytest.mark.parametrize("name", sorted(set(ours.__all__) - set(ours.REFUSED)))
def test_signatures_are_scipys(name: str) -> None:
    parameters = inspect.signature(getattr(special, name)).parameters
    if "args" in parameters or name == "logsumexp":  # which has JAX's ``where`` too
        return
    assert list(inspect.signature(getattr(ours, name)).parameters) == list(parameters)


def test_names_that_take_traced_values_already_are_scipys_own() -> None:
    assert vk.scipy.special.erf is special.erf
    public = {name for name in dir(special) if not name.startswith("_")}
    assert public <= set(dir(vk.scipy.special))


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match=r"vjpkit\.scipy\.special' has no attribute 'efr'"):
        _ = vk.scipy.special.efr
