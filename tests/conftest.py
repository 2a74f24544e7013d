"""What every test may use: golden text files, and Hypothesis without a stopwatch."""

import difflib
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

GOLDEN = Path(__file__).parent / "golden"

# A shared machine is slow at times; a slow example is not a wrong one.
hypothesis.settings.register_profile(
    "vjpkit", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("vjpkit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the golden text files under tests/golden/ instead of comparing with them",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with ``tests/golden/NAME.txt``: ``golden("grad-of-tanh", str(program))``."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        text = text.rstrip("\n") + "\n"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"{path} does not exist; run pytest with --update-golden to write it")
        wanted = path.read_text(encoding="utf-8")
        if text == wanted:
            return
        lines = difflib.unified_diff(
            wanted.splitlines(), text.splitlines(), str(path), "this run", lineterm=""
        )
        pytest.fail("\n".join([*lines, "If this is meant, run pytest with --update-golden."]))

    return compare
