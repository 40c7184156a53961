"""Descriptions of fields, for `kubectl explain`: the text literal that follows a field in its class.

Written once, where the field is; Python drops such texts, so they are read from the source file.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from pathlib import Path


def field_descriptions(view: type) -> dict[str, str]:
    """Return Python field name to description, of the fields of `view` that have one, inherited ones included."""
    told: dict[str, str] = {}
    for owner in reversed(view.__mro__):
        if owner.__module__.startswith("headrace."):
            told |= _of_module(owner.__module__).get(owner.__qualname__, {})
    return told


def class_description(view: type) -> str:
    """Return the first paragraph of a class's docstring, in one line."""
    return " ".join((inspect.getdoc(view) or "").partition("\n\n")[0].split())


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """Return class name to its fields' descriptions; each source file is parsed once."""
    path = sys.modules[name].__file__
    assert path is not None
    classes = (node for node in ast.parse(Path(path).read_text()).body if isinstance(node, ast.ClassDef))
    return {definition.name: _of_class(definition) for definition in classes}


def _of_class(definition: ast.ClassDef) -> dict[str, str]:
    told: dict[str, str] = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            told[field.target.id] = " ".join(str(text.value.value).split())
    return told
