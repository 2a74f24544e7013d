"""Why some of NumPy's functions have no derivative: the reasons are a closed list."""

from __future__ import annotations

__all__ = ["NOT_DIFFERENTIABLE", "REASONS", "STRINGS"]

STRINGS = {
    "count", "endswith", "find", "index", "isalnum", "isalpha",
    "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "rfind",
    "rindex", "startswith", "str_len",
}  # fmt: skip
"""Ufuncs of text."""

REASONS = {
    "integer": "integer- or boolean-valued",
    "string": "takes or gives text, dates or structured records",
    "io": "input/output",
    "random": "random",
    "set": "set membership",
}

NOT_DIFFERENTIABLE: dict[str, str] = {
    **dict.fromkeys(STRINGS, "string"),
    **dict.fromkeys(
        ("busday_count", "busday_offset", "datetime_as_string", "is_busday", "isnat"), "string"
    ),
    **dict.fromkeys(
        ("array2string", "array_repr", "array_str"), "string"
    ),
    **dict.fromkeys(("packbits", "unpackbits"), "integer"),
    **dict.fromkeys(
        ("frombuffer", "fromfile", "fromiter", "fromstring", "genfromtxt", "loadtxt", "save",
         "savetxt", "savez", "savez_compressed"),
        "io",
    ),
}  # fmt: skip
"""Functions that refuse traced values, or of which nothing is left to differentiate."""
