"""The programs and data of the second notebook: its cells tagged "program", run as one module.

The notebook is where these programs are written and explained; none of those cells knows of vjpkit.
"""

import json
from pathlib import Path
from types import ModuleType

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "02-real-programs.ipynb"


def source() -> str:
    """The code of the cells tagged "program"."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "program" in cell["metadata"].get("tags", [])]
    return "\n\n".join("".join(cell["source"]) for cell in tagged)


def load() -> ModuleType:
    """A module with the data and the models."""
    module = ModuleType("real_programs")
    exec(compile(source(), NOTEBOOK.name, "exec"), module.__dict__)
    return module
