"""Rows of kinds that are not Kubernetes' own: name, then their `additionalPrinterColumns`, or age where none are given.

Source: apiextensions-apiserver `pkg/registry/customresource/tableconvertor`.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from headrace.engine.tables.columns import AGE, NAME, Cell, Layout, TableColumn, created, object_name
from headrace.engine.tables.elapsed import age
from headrace.engine.tables.jsonpath import compiled
from headrace.spec.kind import Column, Json


def custom_layout(columns: tuple[Column, ...]) -> Layout:
    """Return the layout of a kind with those printed columns."""
    if not columns:
        return Layout((NAME, AGE), lambda raw, now: [object_name(raw), age(created(raw), now)])
    definitions = tuple(
        TableColumn(column.name, column.type, column.wide, description=column.description) for column in columns
    )
    finders = [(column.type, compiled(column.json_path)) for column in columns]

    def row(raw: Json, now: dt.datetime) -> list[Cell]:
        return [object_name(raw), *(_cell(type_name, find(raw), now) for type_name, find in finders)]

    return Layout((NAME, *definitions), row)


def _cell(type_name: str, found: list[Any], now: dt.datetime) -> Cell:
    """Return the cell for what was found; a value of another type than the column's prints nothing."""
    if not found:
        return None
    if type_name == "string":
        return " ".join(_text(value) for value in found)
    first = found[0]
    if type_name == "date":
        return age(first, now) if isinstance(first, str) else None
    if type_name == "boolean":
        return first if isinstance(first, bool) else None
    if isinstance(first, bool) or not isinstance(first, int | float):
        return None
    return int(first) if type_name == "integer" else first


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
