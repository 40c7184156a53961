r"""The JSONPath of `additionalPrinterColumns`: what `kubectl get -o jsonpath` and CRDs write, without functions.

    .spec.replicas   .spec.mounts[0].path   .spec.mounts[*].path   .metadata.labels.app\.kubernetes\.io/name
    .metadata.labels['headrace.io/job']   .status.conditions[?(@.type=="Ready")].status

Anything else raises ValueError when it is compiled, so a column that could never print is found at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

Step = Callable[[Any], Iterator[Any]]

_STEP = re.compile(
    r"""\.(?P<name>(?:[^.\[\]\\]|\\.)+)
      | \[\s*(?P<index>-?\d+)\s*\]
      | \[\s*(?P<all>\*)\s*\]
      | \[\s*(?P<quote>['"])(?P<key>.*?)(?P=quote)\s*\]
      | \[\?\(\s*@\.(?P<field>(?:[^=\s\\]|\\.)+)\s*==\s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*\)\]""",
    re.VERBOSE,
)


@cache
def compiled(path: str) -> Callable[[Any], list[Any]]:
    """Return a function that finds all values at `path` in an object; it finds none where something is missing."""
    steps = list(_steps(path.strip().removeprefix("{").removesuffix("}").removeprefix("$")))

    def find(root: Any) -> list[Any]:
        found = [root]
        for step in steps:
            found = [value for parent in found for value in step(parent)]
        return found

    return find


def _steps(path: str) -> Iterator[Step]:
    position = 0
    path = path if path.startswith((".", "[")) else f".{path}"
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f"{path!r} is no JSONPath of a printed column: {path[position:]!r} is not understood")
        position = match.end()
        yield _step(match)


def _step(match: re.Match[str]) -> Step:
    if match["index"] is not None:
        return _at(int(match["index"]))
    if match["field"] is not None:
        return _where(compiled(match["field"]), match["value"].strip("\"'"))
    if match["all"] is not None or match["name"] == "*":
        return _all
    return _named(re.sub(r"\\(.)", r"\1", match["name"] if match["key"] is None else match["key"]))


def _named(name: str) -> Step:
    def step(parent: Any) -> Iterator[Any]:
        if isinstance(parent, dict) and parent.get(name) is not None:
            yield parent[name]

    return step


def _at(index: int) -> Step:
    def step(parent: Any) -> Iterator[Any]:
        if isinstance(parent, list) and -len(parent) <= index < len(parent):
            yield parent[index]

    return step


def _all(parent: Any) -> Iterator[Any]:
    if isinstance(parent, list):
        yield from parent
    elif isinstance(parent, dict):
        yield from parent.values()


def _where(find: Callable[[Any], list[Any]], wanted: str) -> Step:
    def step(parent: Any) -> Iterator[Any]:
        for item in parent if isinstance(parent, list) else []:
            if any(_as_text(value) == wanted for value in find(item)):
                yield item

    return step


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
