"""What a sequence is made of, and how answers are made comparable: between runs, and between servers.

A sequence is played in a namespace of its own, one request after the other, each in a second of its own, because times
in `managedFields` have seconds. What no two runs share is replaced by what it is within the sequence: the first uid
becomes `uid-1`, the second time `time-2`, and so on. An answer that repeats a version says that nothing was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"

NAMESPACE = "NAMESPACE"
"""Stands for the sequence's own namespace, in paths, bodies and answers."""
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
_GENERATED = re.compile(r"\bmade-[a-z0-9]{5}\b")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Step(NamedTuple):
    """One request.

    Args:
        body: sent as JSON, or as it is when it is a text. `{uid}`, `{version}` and `{managed}` in it are the uid, the
            version and the `managedFields` of the last object that was answered.
        agent: User-Agent.
    """

    method: str
    path: str
    body: Any = None
    content_type: str = JSON
    agent: str = "recorder/1.0"

    def content(self, last: Any) -> bytes | None:
        """Return the bytes to send after the answer `last`."""
        if self.body is None:
            return None
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        metadata = (last or {}).get("metadata") or {}
        text = text.replace('"{managed}"', json.dumps(metadata.get("managedFields")))
        for place, field in (("{uid}", "uid"), ("{version}", "resourceVersion")):
            text = text.replace(place, metadata.get(field, place))
        return text.encode()


Send = Callable[[Step, bytes | None], tuple[int, Any]]
"""Sends a step to a server and returns the status number and the decoded body."""


def play(steps: list[Step], namespace: str, send: Send) -> list[dict[str, Any]]:
    """Send the steps and return their answers, made comparable."""
    answers = []
    last: Any = None
    for step in steps:
        content = step.content(last)
        status, body = send(
            step._replace(path=step.path.replace(NAMESPACE, namespace)),
            None if content is None else content.replace(NAMESPACE.encode(), namespace.encode()),
        )
        if status < 300 and isinstance(body, dict) and body.get("kind") != "Status":
            last = body
        answers.append({"status": status, "body": body})
    text = _GENERATED.sub("made-GENERATED", json.dumps(answers).replace(namespace, NAMESPACE))
    found: list[dict[str, Any]] = json.loads(text)
    return _Comparable().all(found)


class _Comparable:
    def __init__(self) -> None:
        self._times: dict[str, str] = {}
        self._uids: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def all(self, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Replace times in their order, uids and versions in the order in which they came."""
        times: set[str] = set()
        for answer in answers:
            self._collect(answer["body"], times)
        self._times = {time: f"time-{place}" for place, time in enumerate(sorted(times), 1)}
        return [{"status": answer["status"], "body": self._value(answer["body"], "")} for answer in answers]

    def _collect(self, value: Any, times: set[str]) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                self._collect(inner, times)
        elif isinstance(value, list):
            for inner in value:
                self._collect(inner, times)
        elif isinstance(value, str) and _TIME.match(value):
            times.add(value)

    def _value(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            found = {key: self._value(inner, key) for key, inner in value.items()}
            if name == "details" and "causes" in found:
                found["causes"] = sorted(found["causes"], key=json.dumps)
            return {self._uid(key): inner for key, inner in found.items()}
        if isinstance(value, list):
            return [self._value(inner, "") for inner in value]
        if not isinstance(value, str):
            return value
        if name == "resourceVersion":
            return self._versions.setdefault(value, f"version-{len(self._versions) + 1}")
        return self._uid(self._times.get(value, value))

    def _uid(self, text: str) -> str:
        return _UID.sub(lambda found: self._uids.setdefault(found[0], f"uid-{len(self._uids) + 1}"), text)
