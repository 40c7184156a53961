"""Descriptions of fields, for `kubectl explain`: the text literal that follows a field in its class.

Written once, where the field is; Python drops such texts, so they are read from the source file.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache


@cache
def field_descriptions(view: type) -> dict[str, str]:
    """Return Python field name to description, of the fields of `view` that have one, inherited ones included."""
    told: dict[str, str] = {}
    for owner in reversed(view.__mro__):
        if owner.__module__.startswith("headrace."):
            told |= _of_class(owner)
    return told


def class_description(view: type) -> str:
    """Return the first paragraph of a class's docstring, in one line."""
    return " ".join((inspect.getdoc(view) or "").partition("\n\n")[0].split())


def _of_class(owner: type) -> dict[str, str]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(definition, ast.ClassDef)
    told: dict[str, str] = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        is_field = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if is_field and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            told[field.target.id] = " ".join(inspect.cleandoc(str(text.value.value)).split())  # type: ignore[union-attr]
    return told
