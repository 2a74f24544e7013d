"""vjpkit turns NumPy programs into their derivatives.

>>> import numpy as np, vjpkit as vk
>>> vk.grad(lambda x: np.sum(np.sin(x) ** 2))(np.array([0.0, 1.0]))
array([0.        , 0.90929743])
"""

from importlib import import_module

from vjpkit import lax, nn, numpy, tree, tree_util
from vjpkit.control.checkpointing import checkpoint
from vjpkit.control.checkpointing import checkpoint as remat
from vjpkit.control.custom import custom_jvp, custom_rule, custom_vjp
from vjpkit.control.external import numeric_vjp
from vjpkit.control.jit import jit
from vjpkit.control.policies import checkpoint_name, checkpoint_policies
from vjpkit.control.revolve import checkpoint_loop
from vjpkit.core.text import FORMAT_VERSION as IR_VERSION
from vjpkit.memory import retain_memory
from vjpkit.parsing import parse as parse_ir
from vjpkit.transforms.derivatives import grad, hvp, jvp, linearize, value_and_grad, vjp
from vjpkit.transforms.jacobians import hessian, jacfwd, jacobian, jacrev
from vjpkit.transforms.linear import LinearMap, float0
from vjpkit.transforms.mapping import vmap
from vjpkit.transforms.staged import (
    ShapeDtypeStruct,
    closure_convert,
    eval_shape,
    linear_transpose,
    make_ir,
)

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
    "custom_jvp",
    "custom_rule",
    "custom_vjp",
    "eval_shape",
    "float0",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "lax",
    "linear_transpose",
    "linearize",
    "make_ir",
    "nn",
    "numeric_vjp",
    "numpy",
    "parse_ir",
    "remat",
    "retain_memory",
    "tree",
    "tree_util",
    "value_and_grad",
    "vjp",
    "vmap",
]


def __getattr__(name: str) -> object:
    if name == "test_util":  # loaded when asked for: tests need it, programs do not
        return import_module("vjpkit.test_util")
    raise AttributeError(f"module 'vjpkit' has no attribute {name!r}")
