"""Mutants that compute the same as the rule they are made of, each with the proof."""

EQUIVALENT: dict[str, str] = {}
