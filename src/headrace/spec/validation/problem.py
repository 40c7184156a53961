"""What a check finds: where, and a sentence that says what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from headrace.units import parse_duration_s, parse_quantity


class Problem(NamedTuple):
    """One finding.

    Args:
        path: the field, such as `spec.roles.worker.resources.gpu` or `spec.mounts[0].path`.
        message: continues the path in a sentence: `must be absolute, such as /data`.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


Problems = Iterator[Problem]


def member(path: str, key: str) -> str:
    """Return the path of a map's entry; keys with dots or slashes are put in brackets, as Kubernetes writes them."""
    if key.replace("-", "").replace("_", "").isalnum():
        return f"{path}.{key}" if path else key
    return f"{path}[{key}]"


def check(path: str, value: Any, parse: Callable[[Any], Any]) -> Problems:
    """Report what `parse` (which raises ValueError with a sentence) says about `value`."""
    try:
        parse(value)
    except ValueError as error:
        yield Problem(path, str(error))


def check_quantity(path: str, value: Any, *, zero: bool = True) -> Problems:
    """Report a quantity that is none, or negative, or zero where it must not be."""
    try:
        amount = parse_quantity(value)
    except ValueError as error:
        yield Problem(path, str(error))
        return
    if amount < 0 or (amount == 0 and not zero):
        yield Problem(path, f"is {value}; it must be {'0 or more' if zero else 'more than 0'}")


def check_duration(path: str, value: str, *, zero: bool = False) -> Problems:
    """Report a duration that is none, or zero where it must not be. An empty text is not said, hence fine."""
    if not value:
        return
    try:
        seconds = parse_duration_s(value)
    except ValueError as error:
        yield Problem(path, str(error))
        return
    if seconds < 0 or (seconds == 0 and not zero):
        yield Problem(path, f"is {value}; it must be more than 0s")


def check_one_of(path: str, value: str, allowed: Sequence[str]) -> Problems:
    """Report a value that is not one of `allowed`, where an empty text stands for "not said"."""
    if value not in allowed:
        yield Problem(path, f"is {value!r}; it must be one of {', '.join(filter(None, allowed))}")


def check_unique(path: str, values: Iterable[str], field: str = "") -> Problems:
    """Report each value that came before. `field` names the field of the list's items; empty values are skipped."""
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        if value and value in seen:
            where = f"{path}[{index}].{field}" if field else f"{path}[{index}]"
            yield Problem(where, f"is {value!r}, which {path}[{seen[value]}] is already; each may be given once")
        seen.setdefault(value, index)


def check_absolute(path: str, value: str) -> Problems:
    """Report a path that is not absolute and plain."""
    if not value.startswith("/") or ".." in value.split("/"):
        yield Problem(path, f"is {value!r}; it must be absolute and without '..', such as /data")


def check_relative(path: str, value: str) -> Problems:
    """Report a sub-path that is absolute or climbs out. An empty text is not said, hence fine."""
    if value.startswith("/") or ".." in value.split("/"):
        yield Problem(path, f"is {value!r}; it must be relative and without '..', such as train/images")
