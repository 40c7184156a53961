"""`$(NAME)` in env values, commands, arguments and subPathExpr, exactly as Kubernetes expands it.

`$$` stands for `$`, an unknown name stays as it was written, and nothing is expanded twice.
Source: kubernetes `third_party/forked/golang/expansion/expand.go`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from headrace.errors import InvalidSpec

_REFERENCE = re.compile(r"\$(?:(?P<escaped>\$)|\((?P<name>[^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Return `text` with known names replaced."""

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        return variables.get(match["name"], match[0])

    return _REFERENCE.sub(value, text)


def expand_all(texts: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Return a command or arguments with known names replaced."""
    return [expand(text, variables) for text in texts]


def expand_strictly(text: str, variables: Mapping[str, str], path: str) -> str:
    """Return `text` with all names replaced; raises InvalidSpec naming `path` when one is unknown (subPathExpr)."""
    unknown = [m["name"] for m in _REFERENCE.finditer(text) if not m["escaped"] and m["name"] not in variables]
    if unknown:
        raise InvalidSpec(
            f"{path}: {text!r} names the variable {unknown[0]!r}, which the container's env does not set."
        )
    return expand(text, variables)
