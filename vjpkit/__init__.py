"""vjpkit turns NumPy programs into their derivatives.

>>> import numpy as np, vjpkit as vk
>>> vk.grad(lambda x: np.sum(np.sin(x) ** 2))(np.array([0.0, 1.0]))
array([0.        , 0.90929743])
"""

from importlib import import_module
from typing import TYPE_CHECKING

from vjpkit import numpy
from vjpkit.core.primitive import LATER
from vjpkit.core.text import FORMAT_VERSION as IR_VERSION
from vjpkit.transforms.derivatives import grad, hvp, jvp, linearize, value_and_grad, vjp
from vjpkit.transforms.linear import LinearMap
from vjpkit.transforms.sides import float0

if TYPE_CHECKING:
    from vjpkit import custom_derivatives, debug, flatten_util, lax, nn, scipy, tree, tree_util
    from vjpkit import test_util as test_util
    from vjpkit.control.checkpointing import checkpoint
    from vjpkit.control.checkpointing import checkpoint as remat
    from vjpkit.control.custom import custom_jvp, custom_rule, custom_vjp
    from vjpkit.control.external import numeric_vjp
    from vjpkit.control.jit import jit
    from vjpkit.control.policies import checkpoint_name, checkpoint_policies
    from vjpkit.control.revolve import checkpoint_loop
    from vjpkit.memory import retain_memory
    from vjpkit.parsing import parse as parse_ir
    from vjpkit.transforms.finding import debug_nans
    from vjpkit.transforms.jacobians import hessian, jacfwd, jacobian, jacrev
    from vjpkit.transforms.mapping import vmap
    from vjpkit.transforms.scopes import named_scope
    from vjpkit.transforms.staged import (
        ShapeDtypeStruct,
        closure_convert,
        eval_shape,
        linear_transpose,
        make_ir,
    )
    from vjpkit.transforms.taylor import directional_derivatives, jet, laplacian

__version__ = "0.1.0"

__all__ = [
    "IR_VERSION",
    "LinearMap",
    "ShapeDtypeStruct",
    "checkpoint",
    "checkpoint_loop",
    "checkpoint_name",
    "checkpoint_policies",
    "closure_convert",
    "custom_derivatives",
    "custom_jvp",
    "custom_rule",
    "custom_vjp",
    "debug",
    "debug_nans",
    "directional_derivatives",
    "eval_shape",
    "flatten_util",
    "float0",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jet",
    "jit",
    "jvp",
    "laplacian",
    "lax",
    "linear_transpose",
    "linearize",
    "make_ir",
    "named_scope",
    "nn",
    "numeric_vjp",
    "numpy",
    "parse_ir",
    "remat",
    "retain_memory",
    "scipy",
    "tree",
    "tree_util",
    "value_and_grad",
    "vjp",
    "vmap",
]


# Loaded when first asked for, so that ``import vjpkit`` costs little beside ``import numpy``.
_HOMES = {
    "checkpoint": "control.checkpointing",
    "checkpoint_loop": "control.revolve",
    "checkpoint_name": "control.policies",
    "checkpoint_policies": "control.policies",
    "closure_convert": "transforms.staged",
    "custom_jvp": "control.custom",
    "custom_rule": "control.custom",
    "custom_vjp": "control.custom",
    "debug_nans": "transforms.finding",
    "directional_derivatives": "transforms.taylor",
    "eval_shape": "transforms.staged",
    "hessian": "transforms.jacobians",
    "jacfwd": "transforms.jacobians",
    "jacobian": "transforms.jacobians",
    "jacrev": "transforms.jacobians",
    "jet": "transforms.taylor",
    "jit": "control.jit",
    "laplacian": "transforms.taylor",
    "linear_transpose": "transforms.staged",
    "make_ir": "transforms.staged",
    "named_scope": "transforms.scopes",
    "numeric_vjp": "control.external",
    "parse_ir": "parsing:parse",
    "remat": "control.checkpointing:checkpoint",
    "retain_memory": "memory",
    "ShapeDtypeStruct": "transforms.staged",
    "vmap": "transforms.mapping",
}
_MODULES = (
    "custom_derivatives", "debug", "flatten_util", "lax", "nn", "scipy", "test_util", "tree",
    "tree_util",
)  # fmt: skip

_HERE = "arrays are NumPy's, and are there when a call returns"
_WAYS = {
    "make_jaxpr": "use vk.make_ir",
    "custom_gradient": "use vk.custom_vjp",
    "custom_batching": "use vk.custom_rule(f, vmap=rule)",
    "custom_transpose": "use vk.custom_rule(f, transpose=rule)",
    "pure_callback": "call NumPy code as it is; vk.numeric_vjp(f, result=...) where it is staged",
    "io_callback": "call it as it is; vk.debug.print prints in staged code",
    "named_call": "use vk.named_scope",
    "ad_checkpoint": "use vk.checkpoint and vk.checkpoint_name",
    "disable_jit": "call f.__wrapped__, the function itself, or use vk.jit(f, passes=False)",
    "debug_infs": "use vk.debug_nans(f, inf=True)",
    "ensure_compile_time_eval": "values that are not traced are computed while staging as they are",
    "enable_x64": "dtypes are NumPy's, and float64 is the default",
    "config": "options are arguments; float64 is the default",
    "random": "use numpy.random.default_rng, and pass what is drawn as arguments",
    "experimental": "jet is vk.jet, and what is sparse is vk.LinearMap.as_scipy",
    "Array": "use numpy.ndarray, and vjpkit.core.tracer.Tracer for traced values",
    "pmap": "use vk.vmap; there is one device",
    "shard_map": "use vk.vmap; there is one device",
    **dict.fromkeys(("block_until_ready", "device_put", "device_get", "devices"), _HERE),
}
"""What to write instead of names that JAX has."""

LATER.extend(("vjpkit.control.primitives", "vjpkit.scipy._distributions"))
LATER.extend(
    f"vjpkit.ops.{name}"
    for name in (
        "fourier",
        "linalg",
        "positions",
        "printing",
        "scipy_bessel",
        "scipy_distributions",
        "scipy_elementary",
        "scipy_equations",
        "scipy_errors",
        "scipy_factors",
        "scipy_filters",
        "scipy_gamma",
        "scipy_integrals",
        "scipy_inverses",
        "scipy_matrix_functions",
        "scipy_pairs",
        "scipy_polynomials",
        "scipy_spherical",
    )
)

if not TYPE_CHECKING:  # with a __getattr__, type checkers would believe in every name

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f"vjpkit.{name}")
        if name not in _HOMES:
            way = f": {_WAYS[name]}" if name in _WAYS else ""
            raise AttributeError(f"module 'vjpkit' has no attribute {name!r}{way}")
        module, _, attribute = _HOMES[name].partition(":")
        found = getattr(import_module(f"vjpkit.{module}"), attribute or name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
