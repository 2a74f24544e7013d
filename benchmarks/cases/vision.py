"""Bundle adjustment and hand tracking, in the shapes of ADBench: Jacobians of small residuals."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.case import Case, Size

# Bundle adjustment -------------------------------------------------------------------------------


def observations(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    """A row per observation: camera (11), point (3), weight (1); and the feature seen."""
    rows = size[0]
    camera = np.concatenate(
        [
            0.3 * generator.normal(size=(rows, 3)) + 0.1,  # rotation
            0.1 * generator.normal(size=(rows, 3)),  # centre
            500.0 + generator.uniform(size=(rows, 1)),  # focal length
            generator.normal(size=(rows, 2)),  # principal point
            1e-3 * generator.normal(size=(rows, 2)),  # radial distortion
        ],
        axis=1,
    )
    point = generator.normal(size=(rows, 3)) + np.array([0.0, 0.0, 5.0])
    x = np.concatenate([camera, point, generator.uniform(0.5, 1.0, size=(rows, 1))], axis=1)
    return x, generator.normal(size=(rows, 2))


def reprojection(np: Any, x: Any, feature: Any) -> Any:
    """The weighted error of one observation, two numbers."""
    rotation, centre, focal, principal, radial = x[0:3], x[3:6], x[6], x[7:9], x[9:11]
    point, weight = x[11:14], x[14]
    angle2 = np.sum(rotation * rotation)
    angle = np.sqrt(angle2)
    axis, moved = rotation / angle, point - centre
    cosine, sine = np.cos(angle), np.sin(angle)
    normal = np.stack(
        [
            axis[1] * moved[2] - axis[2] * moved[1],
            axis[2] * moved[0] - axis[0] * moved[2],
            axis[0] * moved[1] - axis[1] * moved[0],
        ]
    )
    along = np.sum(axis * moved) * (1.0 - cosine)
    turned = moved * cosine + normal * sine + axis * along
    flat = turned[0:2] / turned[2]
    r2 = np.sum(flat * flat)
    bent = flat * (1.0 + radial[0] * r2 + radial[1] * r2 * r2)
    return weight * (bent * focal + principal - feature)


# Hand tracking -----------------------------------------------------------------------------------

BONES, VERTICES, PARAMETERS = 22, 544, 26
PARENTS = (-1, 0, 0, 2, 3, 4, 0, 6, 7, 8, 0, 10, 11, 12, 0, 14, 15, 16, 0, 18, 19, 20)


def hand_model(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    """Pose; bones at rest, their inverses; vertices, weights; points, their owners; what turns."""
    points = size[0]
    rest = np.broadcast_to(np.eye(4), (BONES, 4, 4)).copy()
    rest[:, :3, 3] = 0.3 * generator.normal(size=(BONES, 3))
    vertices = np.concatenate([generator.normal(size=(VERTICES, 3)), np.ones((VERTICES, 1))], 1)
    weights = generator.uniform(size=(VERTICES, BONES))
    weights /= weights.sum(1, keepdims=True)
    owners = generator.integers(0, VERTICES, points)
    # Which parameter turns which bone about which axis; parameter 0 turns about nothing.
    which = np.zeros((BONES, 3), int)
    which[1:].flat[::3][:20] = 6 + np.arange(20)
    return (
        0.2 * generator.normal(size=PARAMETERS) + 0.3,
        rest, np.linalg.inv(rest), vertices, weights, generator.normal(size=(points, 3)), owners,
        which, (which > 0).astype(float),
    )  # fmt: skip


def turns(np: Any, angles: Any) -> Any:
    """Rotation matrices about x, y and z, one after the other; the last axis holds the angles."""
    c, s = np.cos(angles), np.sin(angles)
    cx, cy, cz, sx, sy, sz = c[:, 0], c[:, 1], c[:, 2], s[:, 0], s[:, 1], s[:, 2]
    rows = [
        cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz,
        cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz,
        -sy, sx * cy, cx * cy,
    ]  # fmt: skip
    return np.reshape(np.stack(rows, axis=1), (-1, 3, 3))


def hand(
    np: Any, theta: Any, rest: Any, inverse: Any, vertices: Any, weights: Any, points: Any,
    owners: Any, which: Any, moves: Any,
) -> Any:  # fmt: skip
    """Residuals between the points and the skinned vertices that own them, flat."""
    local = turns(np, theta[which] * moves)
    relative = np.concatenate([np.matmul(rest[:, :3, :3], local), rest[:, :3, 3:]], axis=2)
    bones: list[Any] = []
    for i, parent in enumerate(PARENTS):
        if parent < 0:
            bones.append(relative[i])
            continue
        above = bones[parent]
        turned = np.matmul(above[:, :3], relative[i])
        bones.append(np.concatenate([turned[:, :3], turned[:, 3:] + above[:, 3:]], axis=1))
    skinned = np.matmul(np.stack(bones), inverse)
    placed = np.matmul(skinned, vertices.T)
    blended = np.sum(placed * weights.T[:, None, :], axis=0)
    whole = turns(np, theta[None, 0:3])[0]
    moved = np.matmul(whole, blended) + theta[3:6, None]
    return np.reshape(points.T - moved[:, owners], (-1,))


CASES = (
    Case(
        name="bundle",
        about="bundle adjustment: the Jacobian block of each observation; their number",
        sizes=((1000,), (31843,)),
        quick=((1000,),),
        inputs=observations,
        function=reprojection,
        derivative="blocks",
        measures=("gradient",),
        tags=frozenset({"vision"}),
    ),
    Case(
        name="hand",
        about="hand tracking: the Jacobian of all residuals in 26 parameters; number of points",
        sizes=((100,), (1000,)),
        quick=((100,),),
        inputs=hand_model,
        function=hand,
        derivative="jacobian",
        tags=frozenset({"vision"}),
    ),
)
