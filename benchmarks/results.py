"""What was measured: for each key one number per round, and what did not work."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Any, NamedTuple

__all__ = ["Key", "Missing", "Results", "Summary"]


class Key(NamedTuple):
    """One measured thing: ``Key("chain", "600", "vjpkit", "gradient")``."""

    case: str
    size: str
    library: str
    measure: str


class Missing(LookupError):
    """A number that was not measured, with the reason."""


@dataclass(frozen=True)
class Summary:
    """Median over the rounds, and the middle half of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """
        >>> Summary.of([3.0, 1.0, 2.0])
        Summary(median=2.0, low=1.5, high=2.5)
        """
        known = sorted(v for v in values if not isnan(v))
        if not known:
            raise Missing("no round gave a number")
        if len(known) == 1:
            return cls(*known * 3)
        low, median, high = statistics.quantiles(known, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass
class Results:
    """All numbers of a run: seconds per call, or what a probe counts."""

    samples: dict[Key, list[float]] = field(default_factory=dict)
    troubles: dict[Key, str] = field(default_factory=dict)
    libraries: dict[str, Any] = field(default_factory=dict)
    """Version and threads of each library."""

    def add(self, key: Key, value: float | None) -> None:
        """Append the number of one more round; None where the round failed."""
        self.samples.setdefault(key, []).append(nan if value is None else value)

    def of(self, key: Key) -> list[float]:
        """The rounds of a key."""
        if key not in self.samples:
            raise Missing(self.trouble(key))
        return self.samples[key]

    def trouble(self, key: Key) -> str:
        """Why a key has no numbers: its own trouble, or that of its library's gradient."""
        gradient = key._replace(measure="gradient")
        known = self.troubles.get(key) or self.troubles.get(gradient)
        return known or f"{key.library} was not measured in this run"

    def median(self, key: Key) -> float:
        return Summary.of(self.of(key)).median

    def ratios(self, over: Key, under: Key) -> list[float]:
        """One key over the other, round by round."""
        return [a / b for a, b in zip(self.of(over), self.of(under), strict=True)]

    def median_ratio(self, over: Key, under: Key) -> float:
        return Summary.of(self.ratios(over, under)).median

    def case_sizes(self, case: str) -> list[str]:
        """The sizes at which a case was run, in order."""
        keys = [*self.samples, *self.troubles]
        return list(dict.fromkeys(k.size for k in keys if k.case == case))

    def cases(self) -> list[str]:
        """The cases that were run, in order."""
        return list(dict.fromkeys(k.case for k in [*self.samples, *self.troubles]))

    @classmethod
    def from_json(cls, content: Any) -> Results:
        """The inverse of `as_json`."""
        results = cls(libraries=content["libraries"])
        for sample in content["samples"]:
            rounds = sample.pop("rounds")
            results.samples[Key(**sample)] = [nan if v is None else v for v in rounds]
        for entry in content["troubles"]:
            text = entry.pop("trouble")
            results.troubles[Key(**entry)] = text
        return results

    def as_json(self) -> Any:
        return {
            "libraries": self.libraries,
            "samples": [
                {**key._asdict(), "rounds": [None if isnan(v) else v for v in values]}
                for key, values in self.samples.items()
            ],
            "troubles": [{**k._asdict(), "trouble": text} for k, text in self.troubles.items()],
        }
