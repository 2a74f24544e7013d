"""Mutants that compute the same as the rule they are made of, each with the proof."""

EQUIVALENT: dict[str, str] = {
    "ops.structural.Copy.batch: copy(values[0], order=order)  ->  values[0]": (
        "a copy has the values of what it copies; whose memory they lie in is no matter of values"
    ),
}
