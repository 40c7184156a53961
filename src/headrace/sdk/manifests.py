"""Reads manifests as users write them: YAML or JSON, many documents in a file, files in a directory, standard input."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from headrace.errors import InvalidSpec
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import ALL_KINDS, REFUSED_FLUID_KINDS

_SUFFIXES = (".yaml", ".yml", ".json")
_OFFERED = tuple(kind for kind in ALL_KINDS if kind not in REFUSED_FLUID_KINDS)
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class Manifest(NamedTuple):
    """One object as written. `base` is the directory from which its relative paths start."""

    body: Json
    base: Path
    source: str


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a date stays a text, and a key given twice is a mistake."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def load(sources: Sequence[str]) -> list[Manifest]:
    """Return all objects of the given files and directories (`-` is standard input), in order.

    `kind: List` is unfolded; empty documents are left out. Raises InvalidSpec with file and line for anything that is
    no YAML, no object, or names no kind.
    """
    found: list[Manifest] = []
    for source in sources:
        for name, base, text in _texts(source):
            found += [Manifest(body, base, name) for body in _objects(name, text)]
    if not found:
        raise InvalidSpec(
            f"There is no object in {', '.join(sources)}.", hint="Give a file with a Kubernetes manifest."
        )
    return found


def read(sources: Sequence[str]) -> list[Json]:
    """Return only the bodies of what `load` finds."""
    return [manifest.body for manifest in load(sources)]


def _texts(source: str) -> Iterator[tuple[str, Path, str]]:
    if source == "-":
        yield "standard input", Path.cwd(), _text("standard input", sys.stdin.buffer.read())
        return
    path = Path(source)
    try:
        files = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES) if path.is_dir() else [path]
        for file in files:
            yield str(file), file.resolve().parent, _text(str(file), file.read_bytes())
    except OSError as error:
        where = str(error.filename or path)
        raise InvalidSpec(f"{where!r} cannot be read: {error.strerror}.", hint="Check the file's name.") from error


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{name} cannot be read: it is not a text file.", hint="Give YAML or JSON.") from error


def _objects(name: str, text: str) -> list[Json]:
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is not YAML"
        raise InvalidSpec(
            f"{name}{where}: {problem}.", hint="Mend the YAML there; indentation is the usual cause."
        ) from error
    objects: list[Json] = []
    for document in documents:
        if document is None:
            continue
        if isinstance(document, dict) and _is_list(document):
            objects += [_checked(name, item) for item in document.get("items") or []]
        else:
            objects.append(_checked(name, document))
    return objects


def _is_list(document: Json) -> bool:
    kind = document.get("kind")
    return kind == "List" or (
        isinstance(kind, str) and kind.endswith("List") and isinstance(document.get("items"), list)
    )


def _checked(name: str, document: Any) -> Json:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise InvalidSpec(f"{name} holds a document without a kind.", hint="Begin with apiVersion: and kind:.")
    if not isinstance(document.get("metadata"), dict | None):
        raise InvalidSpec(f"{name} holds a {document['kind']} whose metadata is no mapping.", hint="Mend it there.")
    return document


def kind_of(document: Json) -> Kind[Any]:
    """Return the Kind an object says it is; raises InvalidSpec naming the nearest kinds there are."""
    version, name = document.get("apiVersion", ""), document["kind"]
    for kind in ALL_KINDS:
        if kind.name == name and kind.api_version == version:
            return kind
    same_name = [kind.api_version for kind in ALL_KINDS if kind.name == name]
    if same_name:
        said = f"has no apiVersion {version!r}" if version else "comes without an apiVersion"
        raise InvalidSpec(f"{name} {said}.", hint=f"Write apiVersion: {same_name[0]}.")
    raise InvalidSpec(f"{name!r} is not a kind Headrace knows.", hint=_nearest(name, [kind.name for kind in _OFFERED]))


def find_kind(word: str) -> Kind[Any]:
    """Return the Kind that `word` names: kind, plural, singular or short name, any case, with or without its group."""
    wanted = word.lower()
    for kind in ALL_KINDS:
        names = {kind.plural, kind.singular, *kind.short_names}
        if wanted in names or wanted in {f"{name}.{kind.group}" for name in names if kind.group}:
            return kind
    raise InvalidSpec(
        f"{word!r} is not a kind Headrace knows.", hint=_nearest(wanted, [kind.plural for kind in _OFFERED])
    )


def _nearest(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, n=2) or [name for name in names if word and word in name][:2]
    return f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(sorted(names))}."
