"""``python -m vjpkit``: the worked example, read as a person (and a program) would read it."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.ir import check
from vjpkit.examples import iris
from vjpkit.parsing import parse

HEADINGS = [
    "vjpkit", "Function", "Arguments", "Value", "Gradient", "Program", "Pullback",
    "Finite differences", "Duality", "Cost", "Cost", "Your own function",
]  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command prints, in a folder of its own and without a terminal."""
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    done = subprocess.run(
        [sys.executable, "-m", "vjpkit"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=environment | {"PYTHONPATH": str(Path(vk.__file__).parents[1])},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def sections(report: str) -> list[tuple[str, str]]:
    """Headings and the text below each, without its margin."""
    parts = re.split(r"^(?=\S)", report, flags=re.M)[1:]
    split = [part.partition("\n")[::2] for part in parts]
    return [(title, textwrap.dedent(body)) for title, body in split]


def section(sections: list[tuple[str, str]], title: str, number: int = 0) -> str:
    return [body for heading, body in sections if heading.startswith(title)][number]


def programs(text: str) -> list[str]:
    """Every program printed in a section."""
    return re.findall(r"^program\(.*?^\}$", text, re.M | re.S)


def by_hand() -> tuple[float, np.ndarray, np.ndarray]:
    """Loss and gradient of the example from the textbook's formulas: X^T (P - Y) / n."""
    weights, bias, features, species = iris.example_args()
    scores = features @ weights + bias
    probability = np.exp(scores)
    probability /= probability.sum(axis=1, keepdims=True)
    wanted = np.eye(3)[species]
    loss = 0.01 * (weights**2).sum() - np.log((probability * wanted).sum(axis=1)).mean()
    error = (probability - wanted) / len(species)
    return loss, features.T @ error + 0.02 * weights, error.sum(axis=0)


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"-?\d+\.\d*(?:e[+-]\d+)?", text)]


# The data ------------------------------------------------------------------------------------


def test_the_data_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    wanted = datasets.load_iris()
    features, species = iris.load()
    assert features.shape == (150, 4)
    np.testing.assert_array_equal(features, wanted.data)
    np.testing.assert_array_equal(species, wanted.target)


def test_the_data_name_their_source_and_licence():
    header = [line for line in iris.DATA.read_text("utf-8").splitlines() if line[0] == "#"]
    text = "\n".join(header)
    for word in ("Fisher", "1936", "scikit-learn", "Licence", "CC BY 4.0", "sepal_length"):
        assert word in text


def test_the_program_is_plain_numpy():
    source = Path(iris.__file__).read_text("utf-8")
    assert "import vjpkit" not in source
    assert "from vjpkit" not in source


def test_the_gradient_is_the_textbooks():
    loss, weights, bias = by_hand()
    value, gradient = vk.value_and_grad(iris.loss, (0, 1))(*iris.example_args())
    assert abs(value - loss) < 1e-14
    np.testing.assert_allclose(gradient[0], weights, rtol=0, atol=1e-14)
    np.testing.assert_allclose(gradient[1], bias, rtol=0, atol=1e-14)


# The report ----------------------------------------------------------------------------------


def test_sections_come_in_order(sections: list[tuple[str, str]]):
    found = [title for title, _ in sections]
    assert len(found) == len(HEADINGS)
    for title, wanted in zip(found, HEADINGS, strict=True):
        assert title.startswith(wanted)


def test_it_is_printed_for_people(report: str):
    assert "\33" not in report, "colours belong on a terminal only"
    long = [line for line in report.splitlines() if len(line) > 100]
    assert not long, "\n".join(long)
    assert not [line for line in report.splitlines() if line != line.rstrip()]
    assert "\n\n\n" not in report


def test_the_source_is_shown_with_its_line_numbers(sections: list[tuple[str, str]]):
    text = section(sections, "Function")
    lines = Path(iris.__file__).read_text("utf-8").splitlines()
    shown = re.findall(r"^(\d+)  (.*)$", text, re.M)
    assert len(shown) == 7
    for number, line in shown:
        assert lines[int(number) - 1] == line


def test_arguments_say_what_is_differentiated(sections: list[tuple[str, str]]):
    rows = [line.split(maxsplit=2) for line in section(sections, "Arguments").splitlines() if line]
    assert rows == [
        ["weights", "f64[4,3]", "differentiated"],
        ["bias", "f64[3]", "differentiated"],
        ["features", "f64[150,4]", "held constant"],
        ["species", "i64[150]", "held constant (integers)"],
    ]


def test_value_and_gradient_are_right(sections: list[tuple[str, str]]):
    loss, weights, bias = by_hand()
    assert abs(float(section(sections, "Value")) - loss) < 1e-14
    printed = numbers(section(sections, "Gradient"))
    np.testing.assert_allclose(printed, [*weights.ravel(), *bias], rtol=0, atol=5.1e-7)


def test_the_programs_can_be_read_back_and_run(sections: list[tuple[str, str]]):
    (function,) = map(parse, programs(section(sections, "Program")))
    (pullback,) = map(parse, programs(section(sections, "Pullback")))
    check(function)
    check(pullback)
    weights, bias, features, species = iris.example_args()
    known = {"features": features, "species": species, "weights": weights, "bias": bias}
    legend = section(sections, "Program").strip().splitlines()[0]
    names = [entry.split(" = ")[1] for entry in legend.split(", ")]
    rows = np.arange(len(species))  # made in the function, so it has no name
    (value,) = function.eval(*[known.get(name, rows) for name in names])
    assert abs(value - by_hand()[0]) < 1e-14
    assert pullback.linear == 1
    assert [str(aval) for aval in pullback.out_avals] == ["f64[4,3]", "f64[3]"]


def test_equations_carry_the_users_lines(sections: list[tuple[str, str]]):
    for title in ("Program", "Pullback"):
        (text,) = programs(section(sections, title))
        equations = [line for line in text.splitlines() if " = " in line]
        assert equations
        for line in equations:
            assert re.search(r"# iris\.py:(20|21|22|23|24)$", line), line


def test_residuals_have_name_type_size_and_line(sections: list[tuple[str, str]]):
    text = section(sections, "Pullback")
    rows = re.findall(
        r"^(\w+) +([fibol]\w+\[[\d,]*\]) +([\d.]+ k?B) +(iris\.py:\d+) +(\S.*)$", text, re.M
    )
    weights, bias, features, species = iris.example_args()
    _, pullback = vk.vjp(lambda w, b: iris.loss(w, b, features, species), weights, bias)
    residuals = pullback.residuals
    assert [row[0] for row in rows] == [r.name for r in residuals]
    assert [row[3] for row in rows] == [str(r.source) for r in residuals]
    assert f"keeps {len(rows)} arrays of {pullback.nbytes / 1000:.1f} kB" in text
    lines = Path(iris.__file__).read_text("utf-8").splitlines()
    for *_, place, code in rows:
        assert lines[int(place.split(":")[1]) - 1].strip().startswith(code.removesuffix("..."))


def test_it_agrees_with_differences(sections: list[tuple[str, str]]):
    text = section(sections, "Finite differences")
    rows = [line.split() for line in text.splitlines() if line.endswith(" agrees")]
    assert [row[0] for row in rows] == ["weights", "bias"]
    for _, pullback, differences, *off, _ in rows:
        assert abs(float(pullback) - float(differences)) <= 1e-7 * abs(float(pullback))
        coarse, middle, fine, best = map(float, off)
        assert coarse > middle > fine > best
        assert best < 1e-11
    assert "The pullback agrees with finite differences." in text


def test_duality_holds(sections: list[tuple[str, str]]):
    text = section(sections, "Duality")
    forward, reverse = (
        float(re.search(rf"^{re.escape(word)} +(\S+)", text, re.M)[1])  # type: ignore[index]
        for word in ("u(Jv)", "(uJ)v")
    )
    assert abs(forward - reverse) < 1e-13
    assert "equal to rounding" in text


@pytest.mark.parametrize("number", [0, 1])
def test_the_cost_is_measured(sections: list[tuple[str, str]], number: int):
    text = section(sections, "Cost", number)
    rows = re.findall(r"^(\w+) +([\d.]+ [mµ]?s) +([\d.]+) +([\d.]+ [kM]?B)  ", text, re.M)
    assert [row[0] for row in rows] == ["evaluation", "linearization", "pullback", "gradient"]
    assert rows[0][2] == "1.0"
    ratio = rows[3][2]
    assert f"The gradient costs {ratio} evaluations, for 15 partial derivatives." in text
    assert re.search(r"holds [\d.]+ [kM]B of\s+residuals", text)


def test_times_are_medians_of_several_runs(sections: list[tuple[str, str]]):
    for number in (0, 1):
        text = section(sections, "Cost", number)
        runs = int(re.search(r"Medians of (\d+) runs", text)[1])  # type: ignore[index]
        assert 5 <= runs <= 400
