"""The manifests that people are shown: in the pages of the documentation and in the examples."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

from headrace.spec.kind import Json

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_FENCED = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
_INDENTED = re.compile(r"^    apiVersion:.*\n(?:    .*\n|\n(?=    ))*", re.MULTILINE)


def manifests() -> Iterator[tuple[str, Json]]:
    """Yield each whole object with the name of the file it stands in. The design shows shapes to come, and is not read."""
    for path in PAGES:
        if path.name != "design.md":
            text = path.read_text()
            for block in (*_FENCED.findall(text), *map(textwrap.dedent, _INDENTED.findall(text))):
                yield from _objects(path, block)
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        yield from _objects(path, path.read_text())


def _objects(path: Path, text: str) -> Iterator[tuple[str, Json]]:
    for document in yaml.safe_load_all(text):
        if isinstance(document, dict) and "kind" in document and "apiVersion" in document:
            yield path.name, document
