"""The command line: ``python -m vjpkit`` and the ``vjpkit`` command."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np

import vjpkit
from vjpkit.cli import check, cost, show
from vjpkit.cli.find import find
from vjpkit.cli.screen import Progress, Screen, wrapped
from vjpkit.cli.target import BadInput, Target, failure, instead_of_lists
from vjpkit.transforms.derivatives import vjp

__all__ = ["main"]

_DESCRIPTION = """\
Shows, checks and times the derivative of a NumPy function.

Without a command: a worked example, softmax regression on Fisher's iris data.
"""
_EPILOG = """\
examples:
  {prog}                                       the worked example
  {prog} show model.py:loss                    the derivative of loss, from all sides
  {prog} check model.py:loss                   against finite differences
  {prog} cost model.py:loss                    its time and memory

Arguments come from --at, from example_args in the file, or from the function's defaults:
  {prog} check model.py:loss --at 'np.ones(3)' 0.5
  {prog} check model.py:loss --at 'weights=np.ones(3)' data.npz:x data.py:labels
"""
_AT = """\
arguments, one expression each, by position or as name=expression; np is NumPy, and the names of
FILE are known. Or stored values: data.py:NAME, data.npz:NAME, data.npy"""
_WRT = "the arguments to differentiate in (default: all that are floating-point)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0: all is well, 1: a derivative disagrees, 2: bad input."""
    words = sys.argv[1:] if argv is None else list(argv)
    options = _parser().parse_args(_shielded(words))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # µ and ± on a terminal that has none
    screen, progress = Screen.on(sys.stdout), Progress(sys.stderr)
    try:
        status = _run(options, screen, progress)
        sys.stdout.flush()
        return status
    except BadInput as problem:
        progress.clear()
        print(wrapped(f"vjpkit: {problem}"), file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        progress.clear()
        return 130


def _parser() -> argparse.ArgumentParser:
    prog = "python -m vjpkit" if sys.argv[0].endswith("__main__.py") else "vjpkit"
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog, description=_DESCRIPTION, epilog=_EPILOG.format(prog=prog), formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"vjpkit {vjpkit.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (help_text, description) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=help_text,
            description=description,
            epilog=_EXAMPLES[name].format(prog=prog),
            formatter_class=raw,
        )
        command.add_argument("target", metavar="FILE:FUNCTION")
        command.add_argument("--at", nargs="+", action="extend", metavar="EXPR", help=_AT)
        command.add_argument(
            "--wrt", nargs="+", action="extend", metavar="NAME", default=[], help=_WRT
        )
        if name == "show":
            command.add_argument("--full", action="store_true", help="leave nothing out")
    return parser


_COMMANDS = {
    "show": (
        "value, gradient, IR, pullback, checks and cost",
        "Shows a function's value and gradient (or Jacobian), its program, its pullback with the\n"
        "residuals it keeps, the agreement with finite differences, duality, and the cost.",
    ),
    "check": (
        "the gradient against finite differences",
        "Compares the pullback with finite differences, argument by argument, at several steps.\n"
        "Where the slopes from the two sides disagree the function has a kink, and any slope\n"
        "between them is right. Exit status: 0 agrees, 1 disagrees, 2 bad input.",
    ),
    "cost": (
        "time and memory of evaluation, linearization and pullback",
        "Measures evaluation, linearization, pullback and gradient: the median time of many runs,\n"
        "the peak of memory, and what the pullback keeps.",
    ),
}
_EXAMPLES = {
    "show": "examples:\n"
    "  {prog} show model.py:loss\n"
    "  {prog} show model.py:loss --at 'np.ones(3)' 0.5 --wrt weights\n"
    "  {prog} show model.py:loss --full | less",
    "check": "examples:\n"
    "  {prog} check model.py:loss\n"
    "  {prog} check model.py:loss --at data.npz:x data.npz:y",
    "cost": "examples:\n  {prog} cost model.py:loss --at 'np.ones(10**6)'",
}


def _shielded(words: list[str]) -> list[str]:
    """The words, in which an argument such as -np.ones(3) cannot be taken for an option."""
    shielded, among_arguments = [], False
    for word in words:
        if word.startswith("--"):
            among_arguments = word == "--at"
        shielded.append(f" {word}" if among_arguments and not word.startswith("--") else word)
    return shielded


# ---------------------------------------------------------------------------------------- commands


def _run(options: argparse.Namespace, screen: Screen, progress: Progress) -> int:
    if options.command is None:
        return _example(screen, progress)
    target = find(options.target, options.at, options.wrt)
    with _watched(target):
        if options.command == "show":
            good = _show(screen, progress, target, options.full)
        elif options.command == "check":
            good = _check(screen, progress, target)
        else:
            _cost(screen, progress, target)
            good = True
    return 0 if good else 1


@contextlib.contextmanager
def _watched(target: Target) -> Iterator[None]:
    """While derivatives are taken: errors come with the user's lines, prints go nowhere.

    What the function prints was seen once; from now on it is run many times.
    """
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    except (BadInput, BrokenPipeError):
        raise
    except Exception as error:
        what = f"{target.name} cannot be differentiated here:"
        raise failure(what, error, instead_of_lists(target.leaves)) from None


def _show(screen: Screen, progress: Progress, target: Target, full: bool = False) -> bool:
    """All views, from the source to the cost; whether the checks hold."""
    progress("differentiating")
    _, pullback = vjp(target.flat, *target.xs)
    progress.clear()
    show.function(screen, target, full)
    show.arguments(screen, target)
    show.derivative(screen, target, pullback)
    show.program(screen, target, full)
    show.pullback(screen, target, pullback, full)
    agrees = _check(screen, progress, target)
    dual = show.duality(screen, target)
    _cost(screen, progress, target)
    return agrees and dual


def _check(screen: Screen, progress: Progress, target: Target) -> bool:
    findings = check.agreement(target, progress)
    progress.clear()
    screen.heading(f"Finite differences of {target.name}", check.explanation(target))
    return check.report(screen, findings)


def _cost(screen: Screen, progress: Progress, target: Target, remark: str = "") -> None:
    measured = cost.measure(target, progress)
    progress.clear()
    screen.heading(f"Cost of {target.name}", remark)
    cost.report(screen, target, measured)


def _example(screen: Screen, progress: Progress) -> int:
    """The worked example: a program and data that come with vjpkit."""
    from vjpkit.examples import iris

    weights, bias, features, species = iris.example_args()
    wrt = ("weights", "bias")
    screen.heading(f"vjpkit {vjpkit.__version__}: the derivative of a NumPy program")
    screen.say(
        "Softmax regression on Fisher's iris data: from four lengths, measured on 150 flowers in "
        "1936, which of three species is it? Below is its loss as plain NumPy, at a rough guess of "
        "the weights, and all that vjpkit knows about it."
    )
    target = Target.of(iris.loss, (weights, bias, features, species), wrt=wrt)
    with _watched(target):
        good = _show(screen, progress, target)
        many = (weights, bias, np.tile(features, (200, 1)), np.tile(species, 200))
        remark = "the same for 30,000 flowers (every flower 200 times)"
        _cost(screen, progress, Target.of(iris.loss, many, wrt=wrt), remark)
    screen.heading("Your own function")
    screen.line("python -m vjpkit show FILE:FUNCTION      python -m vjpkit --help")
    return 0 if good else 1
