"""Reads manifests as users write them: YAML or JSON, many documents in a file, files in a directory, standard input."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from headrace.errors import InvalidSpec
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import ALL_KINDS

_SUFFIXES = (".yaml", ".yml", ".json")


def read(sources: Sequence[str]) -> list[Json]:
    """Return all objects of the given files and directories (`-` is standard input), in order.

    `kind: List` is unfolded; empty documents are left out. Raises InvalidSpec with file and line for anything that is
    no YAML, no object, or names no kind.
    """
    objects: list[Json] = []
    for source in sources:
        for name, text in _texts(source):
            objects += _objects(name, text)
    if not objects:
        raise InvalidSpec(
            f"There is no object in {', '.join(sources)}.", hint="Give a file with a Kubernetes manifest."
        )
    return objects


def _texts(source: str) -> Iterator[tuple[str, str]]:
    if source == "-":
        yield "standard input", sys.stdin.read()
        return
    path = Path(source)
    files = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES) if path.is_dir() else [path]
    for file in files:
        try:
            yield str(file), file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
            raise InvalidSpec(f"{str(file)!r} cannot be read: {reason}.", hint="Check the file's name.") from error


def _objects(name: str, text: str) -> list[Json]:
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise InvalidSpec(
            f"{name}{where}: {problem}.", hint="Mend the YAML there; indentation is the usual cause."
        ) from error
    objects: list[Json] = []
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            raise InvalidSpec(f"{name} holds a document without a kind.", hint="Begin with apiVersion: and kind:.")
        is_list = document["kind"] == "List" or (
            document["kind"].endswith("List") and isinstance(document.get("items"), list)
        )
        objects += document.get("items") or [] if is_list else [document]
    return objects


def kind_of(document: Json) -> Kind[Any]:
    """Return the Kind an object says it is; raises InvalidSpec naming the nearest kinds there are."""
    version, name = document.get("apiVersion", ""), document["kind"]
    for kind in ALL_KINDS:
        if kind.name == name and kind.api_version == version:
            return kind
    same_name = [kind.api_version for kind in ALL_KINDS if kind.name == name]
    if same_name:
        raise InvalidSpec(f"{name} has no apiVersion {version!r}.", hint=f"Write apiVersion: {same_name[0]}.")
    raise InvalidSpec(f"{name!r} is not a kind Headrace knows.", hint=_nearest(name, [kind.name for kind in ALL_KINDS]))


def find_kind(word: str) -> Kind[Any]:
    """Return the Kind that `word` names: kind, plural, singular or short name, any case, with or without its group."""
    wanted = word.lower()
    for kind in ALL_KINDS:
        names = {kind.plural, kind.singular, *kind.short_names}
        if wanted in names or wanted in {f"{name}.{kind.group}" for name in names if kind.group}:
            return kind
    raise InvalidSpec(
        f"{word!r} is not a kind Headrace knows.", hint=_nearest(wanted, [kind.plural for kind in ALL_KINDS])
    )


def _nearest(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, n=2)
    return f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(sorted(names))}."
