"""Matrices on which the rules are tried."""

from __future__ import annotations

import numpy as np

__all__ = ["Q1", "Q2", "A", "B", "C", "D", "H", "J", "N", "P", "S"]

A = np.array([[1.3, -1.2, 2.5], [1.7, 0.4, -0.6], [0.2, 0.9, -1.1]])
B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])
J = np.array([[0.2, 0.1, -0.3], [-0.4, 0.3, 0.6], [0.1, -0.5, 0.2]])
C = A + 1j * J
S = np.array(
    [[4.0, 9.0, 9.0], [0.5, 3.0, 9.0], [-0.8, 0.3, 2.5]]
)  # only its lower triangle is read
H = S + 1j * J
N = np.zeros((0, 0))
P = np.array([[1.3 + 0.2j, -1.2, 2.5j], [1.7, 0.9 - 0.4j, -0.6 + 1j]])
D = np.array([[1.0, 0.3, -0.2], [0.1, 2.5, 0.4], [-0.3, 0.2, -1.5]])
Q1, Q2 = np.split(np.linalg.qr(B, "complete")[0], [2], axis=1)
