"""Commands of other modules, which are imported when they are named."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer


def part(module: str) -> Any:
    """Return the commands of a module's ``app``, with help as plain as everywhere here."""
    app: typer.Typer = import_module(module).app
    app.rich_markup_mode = None
    return typer.main.get_group(app)
