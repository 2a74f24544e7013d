"""show, check and cost on files of one's own: what they print, and with which exit status."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.cli import main
from vjpkit.cli.screen import Progress, Screen
from vjpkit.cli.slope import elements

MODEL = '''\
"""A file as people write them."""

import math

import numpy as np

import vjpkit as vk


def loss(params, x, y, scale=1.0):
    """Squared error of a small network."""
    h = np.tanh(x @ params["w"] + params["b"])
    return scale * np.mean((h @ params["out"] - y) ** 2)


def area(width: float = 2.0, height: float = 3.0, count: int = 2):
    return width * height * count


def kinked(x):
    return np.sum(np.abs(x)) + np.sum(np.maximum(x, 0.0))


def bent_both_ways(x):
    return max(x[0], 0.0) - max(x[1], 0.0)


def wrong(x, y):
    return np.sum(x * vk.lax.stop_gradient(x) * y)


def wrong_at_a_kink(x):
    return abs(x) + 5.0 * (x - vk.lax.stop_gradient(x))


def field(x, t):
    return np.stack([x[1] * t, -np.sin(x[0])])


def several(x):
    return {"square": x * x, "count": 3, "total": np.sum(x)}


def halved(x):
    total = 0.0
    while x > 1.0:
        x = x / 2
        total = total + np.sin(x)
    return total


def noisy(x):
    return np.sum(x) * np.random.default_rng().standard_normal()


def jump(x):
    return np.floor(x) + x


def root(x):
    return np.sum(np.sqrt(x))


def overwrites(x):
    x[0] = x[0] * x[1]
    return np.sum(x * x)


def squared_modulus(z):
    return np.sum(np.abs(z) ** 2)


def exponential(z):
    return 2 * np.exp(z)


def chain(x):
    for _ in range(60):
        x = np.tanh(x) * 1.5
    return np.sum(x)


def squares(n):
    return n * n


def constant():
    return 1.0


class Spring:
    stiffness = 2.0

    @staticmethod
    def shared(x=np.array([1.0, 3.0])):
        return np.sum(x**3)

    def energy(self, x=np.array([0.5, -1.0])):
        return 0.5 * self.stiffness * np.sum(x * x)


spring = Spring()


def says(x):
    print("called")
    return np.sum(x * x)


def refuses(x):
    return np.linalg.cholesky(-np.eye(3) * x)


def unsupported(x):
    return math.sin(x)


def stretched(x):
    return np.sum(np.tanh(x))


def text(x):
    return "no number"


def by_keyword(x, *, power=2):
    return np.sum(x**power)


def added(*terms):
    return sum(terms)


def _hidden(x):
    return x


class Scaler:
    def __call__(self, x):
        return 3.0 * x


scaler = Scaler()
points = np.array([1.0, 2.0])
rng = np.random.default_rng(0)
example_args = {
    "loss": (
        {"w": rng.standard_normal((3, 4)), "b": np.zeros(4), "out": np.ones(4)},
        rng.standard_normal((20, 3)),
        rng.standard_normal(20),
    ),
    "kinked": (np.array([0.0, 1.0, -1.0]),),
    "wrong": (np.array([1.0, 2.0]), np.array([1.0, -0.5])),
    "halved": (50.0,),
    "field": lambda: (np.array([0.1, 0.2]), 0.5),
}
'''


def line_of(code: str) -> int:
    """Where a line stands in the model."""
    return [line.strip() for line in MODEL.splitlines()].index(code) + 1


class Result(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


class Runner:
    """Runs commands in this process, in a folder with files."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def __call__(self, *words: str) -> Result:
        self.capsys.readouterr()
        try:
            status = main(words)
        except SystemExit as leaving:  # argparse
            status = leaving.code if isinstance(leaving.code, int) else 1
        return Result(status, *self.capsys.readouterr())

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def good(self, *words: str) -> str:
        """Output of a command that succeeds without a word on stderr."""
        result = self(*words)
        assert result.status == 0, result
        assert result.err == ""
        return result.out

    def bad(self, *words: str) -> str:
        """The message of a command that finds bad input."""
        result = self(*words)
        assert result.status == 2, result
        message, _, traceback = result.err.partition("\n\n")
        assert all(len(line) <= 100 for line in message.splitlines()), message
        assert "vjpkit/cli" not in traceback, "only the user's own lines"
        return result.err


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runner]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("vjpkit.cli.cost._SECONDS", 0.0)
    before = set(sys.modules)
    runner = Runner(tmp_path, capsys)
    runner.write("model.py", MODEL)
    yield runner
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def section(text: str, title: str) -> str:
    """What stands under a heading, the heading included."""
    found = re.search(rf"^{re.escape(title)}.*?(?=^\S|\Z)", text, re.M | re.S)
    assert found, f"no section {title} in\n{text}"
    return found[0]


def rows(text: str) -> dict[str, list[str]]:
    """Lines of a table by their first word."""
    split = [line.split() for line in text.splitlines()]
    return {words[0]: words[1:] for words in split if words}


# The real commands ---------------------------------------------------------------------------


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(vk.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "vjpkit", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": root} | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_exit_status_of_the_real_command(tmp_path: Path):
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    agrees = command(tmp_path, "check", "model.py:loss")
    assert (agrees.returncode, agrees.stderr) == (0, "")
    assert "The pullback agrees with finite differences." in agrees.stdout
    differs = command(tmp_path, "check", "model.py:wrong")
    assert (differs.returncode, differs.stderr) == (1, "")
    missing = command(tmp_path, "check", "model.py:los")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("vjpkit: model.py has no function 'los'. Did you mean 'loss'?")


def test_output_survives_a_poor_encoding(tmp_path: Path):
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    done = command(tmp_path, "cost", "model.py:area", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "?s" in done.stdout


def test_a_reader_may_leave_early(tmp_path: Path):
    """As in ``vjpkit show ... | head``: no traceback."""
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "vjpkit", "show", "model.py:loss"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(vk.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def test_importing_vjpkit_does_not_import_the_command_line():
    code = "import sys, vjpkit; sys.exit('vjpkit.cli' in sys.modules or 'argparse' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


# show ----------------------------------------------------------------------------------------


def test_show_shows_everything(run: Runner):
    out = run.good("show", "model.py:loss")
    titles = re.findall(r"^(\S[\w ]+?)(?:   .*)?$", out, re.M)
    assert titles == [
        "Function", "Arguments", "Value", "Gradient", "Program", "Pullback",
        "Finite differences of loss", "Duality", "Cost of loss",
    ]  # fmt: skip
    assert 'h = np.tanh(x @ params["w"] + params["b"])' in section(out, "Function")
    assert rows(section(out, "Arguments"))["params['out']"] == ["f64[4]", "differentiated"]
    assert rows(section(out, "Arguments"))["scale"] == ["float", "held", "constant", "1.0"]
    assert "a = params['b'], b = params['out'], c = params['w'], d = x, e = y" in out
    assert "tanh f" in section(out, "Program") or "= tanh" in section(out, "Program")
    assert re.search(r"tanh +f64\[20,4\] +640 B +model\.py:12 +h = np\.tanh", out)
    assert all(len(line) <= 100 for line in out.splitlines())


def test_show_uses_defaults_and_holds_integers(run: Runner):
    out = run.good("show", "model.py:area")
    arguments = rows(section(out, "Arguments"))
    assert arguments["width"] == ["float", "differentiated", "2.0"]
    assert arguments["count"] == ["int", "held", "constant", "(integers)", "2"]
    gradient = rows(section(out, "Gradient"))
    assert (gradient["width"], gradient["height"]) == (["f64[]", "6.0"], ["f64[]", "4.0"])


def test_show_gives_the_jacobian_of_a_small_field(run: Runner):
    text = section(run.good("show", "model.py:field"), "Jacobian")
    printed = [float(x) for x in re.findall(r"-?\d+\.\d*", text)]
    jacobian = [[0.0, 0.5], [-np.cos(0.1), 0.0]]
    np.testing.assert_allclose(printed, [*np.ravel(jacobian), 0.2, 0.0], atol=5e-7)


def test_show_names_the_outputs_of_a_tree(run: Runner):
    out = run.good("show", "model.py:several", "--at", "points")
    value = rows(section(out, "Value"))
    assert value["output['count']"] == ["int", "3"]
    assert value["output['total']"] == ["f64[]", "3.0"]
    assert "output['square'] in x   f64[2,2]   [[2. 0.]" in section(out, "Jacobian")


def test_show_gives_a_product_where_the_jacobian_is_large(run: Runner):
    out = run.good("show", "model.py:several", "--at", "np.ones(30)")
    text = section(out, "Derivative")
    assert "uJ for a random u; J has 31 x 30 entries" in text
    assert "x   f64[30]   [" in text


def test_show_follows_a_function_that_branches_on_values(run: Runner):
    text = section(run.good("show", "model.py:halved"), "Program")
    assert "these are the operations at this point" in text
    assert text.count(" = divide ") == 6
    assert f"# model.py:{line_of('x = x / 2')}" in text


def test_show_leaves_out_the_middle_of_a_long_program(run: Runner):
    short = section(run.good("show", "model.py:chain", "--at", "points"), "Program")
    full = section(run.good("show", "model.py:chain", "--at", "points", "--full"), "Program")
    assert len(short.splitlines()) < 70
    assert "lines are left out; --full shows all" in short
    assert full.count(" = tanh ") == 60
    assert "left out" not in full


def test_show_reports_a_wrong_derivative_in_its_status(run: Runner):
    result = run("show", "model.py:wrong")
    assert result.status == 1
    assert "Cost of wrong" in result.out, "it still shows everything"


# check ---------------------------------------------------------------------------------------


def test_check_goes_through_the_paths_of_the_tree(run: Runner):
    out = run.good("check", "model.py:loss")
    table = rows(out)
    names = ["params['b']", "params['out']", "params['w']", "x", "y"]
    for name in names:
        pullback, differences, *off, verdict = table[name]
        assert verdict == "agrees"
        assert float(off[-1]) < 1e-9
        assert abs(float(pullback) - float(differences)) <= 1e-7 * abs(float(pullback))
    assert table["argument"][2:] == ["h=1e-2", "h=1e-4", "h=1e-6", "h", "->", "0"]


def test_check_can_be_told_the_arguments(run: Runner):
    out = run.good("check", "model.py:loss", "--wrt", "y")
    assert "y" in rows(out)
    assert "x" not in rows(out)


def test_check_finds_what_is_wrong(run: Runner):
    result = run("check", "model.py:wrong")
    assert result.status == 1
    assert rows(result.out)["y"][-1] == "agrees"
    assert "x[0]: the pullback says 1, differences say 2" in result.out
    assert "(2 such elements among 2)" in result.out
    assert "DISAGREE in x." in result.out


def test_check_calls_a_kink_a_kink(run: Runner):
    out = run.good("check", "model.py:kinked")
    assert "x[0]: a kink, slope -1 from the left and 2 from the right" in out
    assert "the pullback takes 0.5" in out
    assert "agrees with finite differences, up to a kink in x." in out


def test_check_finds_kinks_that_cancel_along_a_line(run: Runner):
    out = run.good("check", "model.py:bent_both_ways", "--at", "np.zeros(2)")
    assert "a kink, slope" in out


def test_check_does_not_excuse_everything_by_a_kink(run: Runner):
    result = run("check", "model.py:wrong_at_a_kink", "--at", "0.0")
    assert result.status == 1
    assert "slope -1 from the left and 1 from the right; the pullback takes 5" in result.out


def test_check_tests_array_outputs_by_projection(run: Runner):
    out = run.good("check", "model.py:field")
    assert "u random" in out
    assert [rows(out)[name][-1] for name in ("x", "t")] == ["agrees", "agrees"]


@pytest.mark.parametrize(
    ("function", "point"),
    [
        ("squared_modulus", "np.array([1 + 2j, -1j])"),
        ("exponential", "1 + 2j"),
        ("kinked", "np.float32([1, 2, 3])"),
        ("kinked", "np.float16([1, 2, 3])"),
        ("kinked", "np.zeros((0, 3))"),
        ("area", "-3.0"),
        ("scaler", "np.ones((2, 2))"),
        ("overwrites", "np.array([2.0, 3.0])"),
    ],
)
def test_check_takes_all_kinds_of_numbers(run: Runner, function: str, point: str):
    assert "agrees with" in run.good("check", f"model.py:{function}", "--at", point)


@pytest.mark.parametrize(
    ("function", "point", "said"),
    [
        ("noisy", "np.ones(3)", "the function gives another value when it is called again"),
        ("jump", "1.0", "differences at shrinking steps do not settle"),
        ("root", "np.zeros(2)", "the pullback is not finite here, nor are differences"),
    ],
)
def test_check_says_when_nothing_can_be_said(run: Runner, function: str, point: str, said: str):
    result = run("check", f"model.py:{function}", "--at", point)
    assert (result.status, result.err) == (1, "")
    assert said in " ".join(result.out.split())
    assert "Nothing can be said about x." in result.out


def test_elements_of_a_large_array_are_sampled_once_each():
    places = [place for place, _ in elements(np.zeros((30, 40)), np.random.default_rng(0))]
    assert len(places) == len(set(places)) == 100


# cost ----------------------------------------------------------------------------------------


def test_cost_measures_every_step(run: Runner):
    out = run.good("cost", "model.py:loss")
    table = rows(out)
    for step in ("evaluation", "linearization", "pullback", "gradient"):
        assert table[step][1] in ("µs", "ms", "s")
        assert float(table[step][0]) > 0
        assert float(table[step][2]) > 0
    assert "for 100 partial derivatives" in " ".join(out.split())


def test_cost_of_an_array_output_has_no_gradient(run: Runner):
    out = run.good("cost", "model.py:field")
    assert "gradient" not in rows(out)
    assert "Linearization and pullback cost" in out


def test_cost_sees_memory(run: Runner):
    """sum(x * x) of a million numbers: 8 MB for the product, then 8 MB for the gradient."""
    out = run.good("cost", "model.py:by_keyword", "--at", "np.ones(10**6)")
    assert rows(out)["evaluation"][3:5] == ["8.0", "MB"]
    assert 8 <= float(rows(out)["gradient"][3]) < 40
    assert "holds 8.0 MB of residuals, what is differentiated 8.0 MB." in " ".join(out.split())


def test_what_the_function_prints_is_seen_once(run: Runner):
    assert run.good("cost", "model.py:says", "--at", "points").count("called") == 1


# Arguments -----------------------------------------------------------------------------------


def derivative_of(run: Runner, *words: str) -> str:
    return section(run.good("show", *words), "Gradient").partition("\n")[2].strip()


def test_arguments_are_expressions(run: Runner):
    assert derivative_of(run, "model.py:by_keyword", "--at", "points + 1") == "x   f64[2]   [4. 6.]"
    assert derivative_of(run, "model.py:by_keyword", "--at", "-np.ones(2)") == (
        "x   f64[2]   [-2. -2.]"
    )


def test_arguments_are_given_by_name(run: Runner):
    words = ("model.py:by_keyword", "--at", "x=points", "power=3")
    assert derivative_of(run, *words) == "x   f64[2]   [ 3. 12.]"
    assert "follows one that has" in run.bad("show", *words, "1.0")


def test_arguments_come_from_files(run: Runner):
    np.savez(run.folder / "data.npz", x=np.array([1.0, 3.0]))
    np.save(run.folder / "data.npy", np.array([5.0, 7.0]))
    run.write("data.py", "import numpy as np\nx = np.array([2.0, 4.0])\n")
    for source, gradient in (
        ("data.npz:x", "[2. 6.]"),
        ("data.npy", "[10. 14.]"),
        ("data.py:x", "[4. 8.]"),
    ):
        assert derivative_of(run, "model.py:by_keyword", "--at", source).endswith(gradient)


@pytest.mark.parametrize("at", [("--at", "1.0", "2.0"), ("--at", "1.0", "--at", "2.0")])
def test_variadic_arguments_have_numbers(run: Runner, at: tuple[str, ...]):
    out = run.good("check", "model.py:added", *at)
    assert [rows(out)[f"terms[{i}]"][-1] for i in (0, 1)] == ["agrees", "agrees"]


def test_example_args_may_be_a_tuple_or_a_function(run: Runner):
    body = "def f(x):\n    return x * x\n\n\n"
    run.write("first.py", body + "example_args = (3.0,)\n")
    run.write("second.py", body + "def example_args():\n    return (3.0,)\n")
    for file in ("first.py", "second.py"):
        assert derivative_of(run, f"{file}:f") == "x   f64[]   6.0"


def test_a_file_of_a_package_is_loaded_within_it(run: Runner):
    run.write("pack/__init__.py", "")
    run.write("pack/tools.py", "FACTOR = 3.0\n")
    run.write(
        "pack/model.py", "from .tools import FACTOR\n\n\ndef f(x=2.0):\n    return FACTOR * x\n"
    )
    assert derivative_of(run, "pack/model.py:f") == "x   f64[]   3.0"


def test_a_file_never_takes_the_place_of_another_module(run: Runner):
    run.write("random.py", "def f(x=2.0):\n    return x * x\n")
    import random

    assert derivative_of(run, "random.py:f") == "x   f64[]   4.0"
    assert sys.modules["random"] is random


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["modle.py:loss"], ["modle.py: no such file. Did you mean 'model.py'?"]),
        (["nowhere/model.py:loss"], ["nowhere/model.py: no such file."]),
        ([".:loss"], ["is no Python file. Name one: model.py:FUNCTION."]),
        (["model.py"], ["Which function? Write model.py:FUNCTION.", "model.py: loss, area"]),
        (["model.py:los"], ["has no function 'los'. Did you mean 'loss'?", "area, kinked"]),
        (["model.py:nothing_like_it"], ["has no function 'nothing_like_it'.\n", "Functions in"]),
        (["model.py:points"], ["points in model.py is no function, but f64[2]."]),
        (["model.py:Spring.engery"], ["model.py has no function 'Spring.engery'", "Functions in"]),
        (["model.py:Spring.energy"], ["Spring.energy needs arguments", ": self."]),
        (["model.py:spring.stiffness"], ["spring.stiffness in model.py is no function"]),
        (["model.py:squares"], ["squares needs arguments", ": n.", "--at 1.5", "example_args = ("]),
        (["model.py:squares", "--at", "3"], ["n is the integer 3", "write 2.0 for 2"]),
        (["model.py:squares", "--at", "np.arange(3)"], ["n is i64[3]", ".astype(float)"]),
        (["model.py:area", "--wrt", "count"], ["count is the integer 2"]),
        (["model.py:area", "--wrt", "heigth"], ["no argument called 'heigth'", "'height'?"]),
        (["model.py:area", "--at", "count=5"], ["only defaults are left", "--wrt width"]),
        (["model.py:loss", "--at", "1.0"], ["do not fit: missing a required argument: 'x'"]),
        (["model.py:area", "--at", "1", "2", "3", "4"], ["too many positional arguments"]),
        (["model.py:area", "--at", "wide=1.0"], ["unexpected keyword argument 'wide'"]),
        (["model.py:area", "--at", "point"], ["'point' cannot be evaluated: NameError"]),
        (["model.py:area", "--at", "1 +"], ["'1 +' cannot be evaluated: SyntaxError"]),
        (["model.py:area", "--at", "no.npy"], ["no.npy cannot be read"]),
        (["model.py:area", "--at", "model.py:pionts"], ["no 'pionts'. Did you mean 'points'?"]),
        (["model.py:refuses", "--at", "2.0"], ["refuses raised at these arguments (x: float)",
            "return np.linalg.cholesky(-np.eye(3) * x)", "LinAlgError: Matrix is not positive"]),
        (["model.py:loss", "--at", "example_args['loss'][0]", "np.ones((20, 2))", "1.0"],
            ["x: f64[20,2]", 'in loss\n', "ValueError: matmul"]),
        (["model.py:unsupported", "--at", "1.0"],
            ["cannot be differentiated here", "return math.sin(x)", "would lose its derivative"]),
        (["model.py:stretched", "--at", "[1.0, 2]"],
            ["cannot be differentiated here", "'x=np.array([1.0, ...])'"]),
        (["model.py:text", "--at", "1.0"], ["text returned str", "no floating-point output"]),
        (["model.py:constant"], ["constant takes no arguments: there is nothing to differentiate"]),
        (["model.py:squares", "--at", "np.inf"], ["squares is not finite", "output = inf"]),
    ],
)  # fmt: skip
def test_bad_input_is_told_clearly(run: Runner, words: list[str], said: list[str]):
    message = run.bad("check", *words)
    assert message.startswith("vjpkit: ")
    flowing = " ".join(message.split())
    for part in said:
        assert " ".join(part.split()) in flowing, message


def test_an_error_while_loading_shows_the_users_traceback(run: Runner):
    run.write(
        "broken.py", "import numpy as np\n\n\ndef make():\n    return np.nothing\n\n\nX = make()\n"
    )
    message = run.bad("show", "broken.py:f")
    assert message.startswith("vjpkit: broken.py raised while it was loaded:\n\n")
    assert 'broken.py", line 8, in <module>\n    X = make()' in message
    assert 'broken.py", line 5, in make\n    return np.nothing' in message
    assert "AttributeError: module 'numpy' has no attribute 'nothing'" in message
    assert "importlib" not in message


def test_a_syntax_error_shows_its_place(run: Runner):
    run.write("broken.py", "def f(x:\n")
    message = run.bad("show", "broken.py:f")
    assert "line 1\n    def f(x:\n         ^\nSyntaxError: '(' was never closed" in message


def test_a_file_that_leaves_python_does_not_take_us_along(run: Runner):
    run.write("leaving.py", "import sys\n\nsys.exit(3)\n")
    assert "SystemExit: 3" in run.bad("show", "leaving.py:f")


def test_a_file_that_failed_can_be_mended(run: Runner):
    run.write("mended.py", "raise RuntimeError\n")
    run.bad("show", "mended.py:f")
    assert "mended" not in sys.modules
    run.write("mended.py", "def f(x=2.0):\n    return x * x\n")
    assert derivative_of(run, "mended.py:f") == "x   f64[]   4.0"


def test_example_args_that_are_no_tuple(run: Runner):
    run.write("odd.py", "example_args = 3.0\n\n\ndef f(x):\n    return x\n")
    message = run.bad("show", "odd.py:f")
    assert "example_args of odd.py is float; it must be a tuple" in message
    run.write("odd.py", "def example_args():\n    return 1 / 0\n\n\ndef f(x):\n    return x\n")
    assert "ZeroDivisionError" in run.bad("show", "odd.py:f")


def test_usage_errors_and_help(run: Runner):
    assert "FILE:FUNCTION" in run("check").err
    assert run("check").status == 2
    assert run("chekc", "model.py:loss").status == 2
    assert run("--version").out == f"vjpkit {vk.__version__}\n"
    for words in ([], ["show"], ["check"], ["cost"]):
        out = run.good(*words, "--help")
        assert "examples:" in out
        assert "model.py:loss" in out
        assert all(len(line) <= 100 for line in out.splitlines())


# The terminal --------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Screen.on(Terminal()).color
    assert not Screen.on(io.StringIO()).color
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Screen.on(Terminal()).color
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen.on(Terminal()).color


def test_colours_do_not_move_the_columns(run: Runner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert main(["check", "model.py:loss"]) == 0
    colored = terminal.getvalue()
    assert "\33[32magrees\33[0m" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == run.good("check", "model.py:loss")


def test_progress_is_for_terminals_and_cleans_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = Progress(stream)
        progress("differences in x (1 of 2)")
        progress.clear()
    assert "differences in x (1 of 2) ..." in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\33[K")
    assert file.getvalue() == ""


@pytest.mark.parametrize("name", ["Spring.shared", "spring.energy"])
def test_methods_are_found_in_their_class_or_object(run: Runner, name: str):
    assert "agrees" in run.good("check", f"model.py:{name}")
    assert name in run.good("show", f"model.py:{name}")
