"""`LinearMap`: a pullback or a pushforward as a value."""

from __future__ import annotations
