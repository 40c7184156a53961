"""What a process in the background waits for, in sentences, where whoever started it can read them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from headrace.telemetry import logger

WAITS = "process.waits"


class Said:
    """Sentences by topic, in a file. What a topic says last is what holds; an empty sentence means that all is well."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._said: dict[str, str] = {}
        self._write()

    def say(self, topic: str, sentence: str) -> None:
        """Say something, and log it when it is new."""
        if self._said.get(topic, "") == sentence:
            return
        self._said[topic] = sentence
        if sentence:
            logger().info(WAITS, topic=topic, why=sentence)
        self._write()

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps({topic: said for topic, said in self._said.items() if said}))
        os.replace(temporary, self._file)


def read(file: Path) -> dict[str, str]:
    """Return what is being said; nothing where nobody has said anything yet."""
    try:
        found: dict[str, str] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found
