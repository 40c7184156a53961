"""Which objects a command means: `KIND NAME...`, `KIND/NAME ...`, or kinds with commas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.errors import InvalidSpec
from headrace.sdk import manifests
from headrace.spec.kind import Kind

Target = tuple[Kind[Any], str]


def parse(words: Sequence[str]) -> list[tuple[Kind[Any], list[str]]]:
    """Return kinds with the names wanted of each; an empty list of names means all. Raises InvalidSpec."""
    first, rest = words[0], list(words[1:])
    if "/" in first:
        return [(kind, [name]) for kind, name in map(_pair, words)]
    kinds = [manifests.find_kind(word) for word in first.split(",") if word]
    if not kinds or (rest and len(kinds) > 1):
        raise InvalidSpec("Names cannot be given for several kinds at once.", hint="Write KIND/NAME for each.")
    wrong = next((name for name in rest if "/" in name), None)
    if wrong:
        raise InvalidSpec(f"{wrong!r} is no name.", hint="Write KIND NAME..., or KIND/NAME for each.")
    return [(kind, rest) for kind in kinds]


def named(words: Sequence[str]) -> list[Target]:
    """Return the objects named, at least one; raises InvalidSpec where a name is missing."""
    found = [(kind, name) for kind, names in parse(words) for name in names]
    if not found:
        raise InvalidSpec("A name is missing.", hint=f"Write {words[0]} NAME, or {words[0]}/NAME.")
    return found


def _pair(word: str) -> Target:
    kind, slash, name = word.partition("/")
    if not slash or not name or "/" in name:
        raise InvalidSpec(f"{word!r} is not KIND/NAME.", hint="Write for example dataset/starfs-pvc")
    return manifests.find_kind(kind), name
