"""Linear algebra: equations, determinants, factorizations, spectra.

All primitives map over leading axes. The rules hold for complex matrices too; cotangents pair
without conjugation (Re(sum(ct * t))). Where a routine reads one triangle of a Hermitian matrix,
that triangle is what it depends on, and so its derivative is in that triangle.
"""

from vjpkit.ops.linalg.definite import cholesky, cholesky_pull
from vjpkit.ops.linalg.determinants import cofactors, cofactors_push, det, slogdet
from vjpkit.ops.linalg.eigen import eig, eigh, eigvals, eigvalsh
from vjpkit.ops.linalg.equations import inv, lu, solve
from vjpkit.ops.linalg.least_squares import drops_values, lstsq, pinv, pseudo_inverse
from vjpkit.ops.linalg.matrices import common_dtype, mirror, real_dtype
from vjpkit.ops.linalg.norms import norm2
from vjpkit.ops.linalg.orthogonal import basis_tangent, qr
from vjpkit.ops.linalg.singular import svd, svdvals
from vjpkit.ops.linalg.triangles import fold, hermitian

__all__ = [
    "basis_tangent",
    "cholesky",
    "cholesky_pull",
    "cofactors",
    "cofactors_push",
    "common_dtype",
    "det",
    "drops_values",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "fold",
    "hermitian",
    "inv",
    "lstsq",
    "lu",
    "mirror",
    "norm2",
    "pinv",
    "pseudo_inverse",
    "qr",
    "real_dtype",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
]
