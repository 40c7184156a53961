"""The shape of one kind's table: its columns and the function that fills a row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, NamedTuple

from headrace.spec.kind import Json

Cell = str | int | float | bool | None
Row = Callable[[Json, dt.datetime], list[Cell]]


class TableColumn(NamedTuple):
    """One column of a Table. `wide` ones are shown by `-o wide` only; `format` is `name` for the object's name."""

    name: str
    type: str = "string"
    wide: bool = False
    format: str = ""
    description: str = ""

    def definition(self) -> Json:
        """Return the `columnDefinitions` entry."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": 1 if self.wide else 0,
        }


class Layout(NamedTuple):
    """How one kind is printed."""

    columns: tuple[TableColumn, ...]
    row: Row


NAME = TableColumn("Name", format="name", description="Name of the object, unique within its namespace and kind.")
AGE = TableColumn("Age", description="Time since the object was made.")


def layout(row: Row, *names: str | TableColumn) -> Layout:
    """Return a layout from a row function and columns; a plain text is a string column, `+` before it makes it wide."""
    columns = tuple(
        name if isinstance(name, TableColumn) else TableColumn(name.lstrip("+"), wide=name.startswith("+"))
        for name in names
    )
    return Layout(columns, row)


def part(raw: Json, *path: str) -> Any:
    """Return what lies at `path`, None where anything on the way is missing or null."""
    found: Any = raw
    for name in path:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def text(raw: Json, *path: str, otherwise: str = "") -> str:
    """Return the text at `path`, `otherwise` where it is missing or empty."""
    return str(part(raw, *path) or otherwise)


def items(raw: Json, *path: str) -> list[Json]:
    """Return the list at `path`, empty where it is missing."""
    return part(raw, *path) or []


def object_name(raw: Json) -> str:
    return text(raw, "metadata", "name")


def created(raw: Json) -> str:
    return text(raw, "metadata", "creationTimestamp")
