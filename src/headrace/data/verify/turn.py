"""One look at one dataset in one pool: start a probe, judge it, try again later, or leave well alone. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.clock import format_time, parse_time
from headrace.data.act import Action, Create, Delete
from headrace.data.client import ResolvedDataset
from headrace.data.modes.mode import Capabilities
from headrace.data.verify.outcome import Evidence, Outcome, outcome
from headrace.data.verify.pod import (
    ATTEMPT_ANNOTATION,
    KEY_ANNOTATION,
    ProbeSettings,
    mode_of,
    named,
    probe_key,
    probe_pod,
)
from headrace.errors import HeadraceError
from headrace.ids import short_hash
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import POD

POLL_S = 5.0
"""A running probe is looked at so often, for what changes no object: its age."""
VERIFYING = Outcome(verified="Unknown", reason="Verifying", message="")
QUEUED = Outcome(
    verified="Unknown", reason="Queued", message="its turn to be probed comes after those of other Datasets."
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a look yields: the pool's entry in the Dataset's status, and what to do once it is written.

    Args:
        outcome: there when a probe has just ended.
    """

    entry: Json
    actions: tuple[Action, ...] = ()
    again_after_s: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, kw_only=True)
class Look:
    """Everything one look needs.

    Args:
        config, secret_versions: what the mount depends on besides the pod.
        before: the pool's entry in the Dataset's status; empty when there is none.
        pods: this Dataset's probe pods in this pool, of whatever attempt.
        others: how many probes of other Datasets run in this pool.
        evidence: by pod name, where it was asked for.
    """

    dataset: Doc[Any]
    resolved: ResolvedDataset
    config: str
    secret_versions: tuple[str, ...]
    pool: Doc[Any]
    before: Json
    pods: tuple[Doc[Any], ...]
    others: int = 0
    evidence: Mapping[str, Evidence] = field(default_factory=dict)

    def turn(self, now: dt.datetime, settings: ProbeSettings, capabilities: Capabilities) -> Turn:
        """Return what to do now."""
        try:
            body = probe_pod(self.dataset, self.resolved, self.pool, capabilities, settings)
        except HeadraceError as error:
            return self._impossible(error, now)
        key = probe_key(body, self.config, self.secret_versions)
        if self.before.get("key") != key:
            return self._start(body, key, now, is_full=self.others >= settings.most_others(0))
        current = self._attempt(key, self._failures)
        stale = tuple(remove(pod for pod in self.pods if pod is not current))
        if self.before.get("verified") == "True":
            return Turn(entry=self.before, actions=(*stale, *remove([current] if current else [])))
        if current is not None:
            return self._judge(current, stale, now, settings)
        return self._again(body, key, stale, now, settings)

    @property
    def _failures(self) -> int:
        return int(self.before.get("attempts") or 0)

    def _start(self, body: Json, key: str, now: dt.datetime, *, is_full: bool) -> Turn:
        """Something that the mount depends on has changed: nothing is known any more."""
        current = self._attempt(key, 0)
        stale = tuple(remove(pod for pod in self.pods if pod is not current))
        if current is None and is_full:
            return Turn(entry=self._entry(key, 0, QUEUED, now), actions=stale, again_after_s=POLL_S)
        create = () if current is not None else (Create(POD, named(body, key, 0)),)
        return Turn(entry=self._entry(key, 0, VERIFYING, now), actions=(*stale, *create), again_after_s=POLL_S)

    def _judge(self, pod: Doc[Any], stale: tuple[Action, ...], now: dt.datetime, settings: ProbeSettings) -> Turn:
        judged = outcome(pod, self.evidence.get(pod.name, Evidence()), now, settings.deadline_s)
        if judged is None or pod.is_deleting:
            return Turn(entry=self.before, actions=stale, again_after_s=POLL_S)
        failures = self._failures + (judged.verified != "True")
        pause_s = None if judged.verified == "True" else settings.retry_after_s(failures)
        entry = self._entry(str(self.before["key"]), failures, judged, now)
        return Turn(entry=entry, actions=(*stale, *remove([pod])), again_after_s=pause_s, outcome=judged)

    def _again(
        self, body: Json, key: str, stale: tuple[Action, ...], now: dt.datetime, settings: ProbeSettings
    ) -> Turn:
        """Make the next attempt's pod when its pause is over; the first one's at once, if it was lost or had to wait."""
        pause_s = settings.retry_after_s(self._failures) if self._failures else 0.0
        checked = self.before.get("checkedAt")
        waited_s = (now - parse_time(checked)).total_seconds() if checked else pause_s
        if waited_s < pause_s:
            return Turn(entry=self.before, actions=stale, again_after_s=pause_s - waited_s)
        if self.others >= settings.most_others(self._failures):
            return Turn(entry=self.before, actions=stale, again_after_s=POLL_S)
        entry = self._entry(key, 0, VERIFYING, now) if self.before.get("reason") == QUEUED.reason else self.before
        create = Create(POD, named(body, key, self._failures))
        return Turn(entry=entry, actions=(*stale, create), again_after_s=POLL_S)

    def _impossible(self, error: HeadraceError, now: dt.datetime) -> Turn:
        """The pool's mode cannot serve this dataset; no pod could tell more."""
        key = short_hash(mode_of(self.pool), str(error), length=12)
        actions = tuple(remove(self.pods))
        if self.before.get("key") == key:
            return Turn(entry=self.before, actions=actions)
        refused = Outcome(verified="False", reason=type(error).__name__, message=str(error))
        return Turn(entry=self._entry(key, 0, refused, now), actions=actions, outcome=refused)

    def _attempt(self, key: str, attempt: int) -> Doc[Any] | None:
        wanted = (key, str(attempt))
        found = (
            pod
            for pod in self.pods
            if (pod.annotations.get(KEY_ANNOTATION), pod.annotations.get(ATTEMPT_ANNOTATION)) == wanted
        )
        return next(found, None)

    def _entry(self, key: str, attempts: int, result: Outcome, now: dt.datetime) -> Json:
        entry: Json = {
            "pool": self.pool.name,
            "mode": mode_of(self.pool),
            "verified": result.verified,
            "reason": result.reason,
            "message": result.message,
            "observedGeneration": self.dataset.generation,
            "key": key,
            "attempts": attempts,
        }
        return entry if result in {VERIFYING, QUEUED} else {**entry, "checkedAt": format_time(now)}


def remove(pods: Iterable[Doc[Any]]) -> Iterable[Action]:
    """Yield the deletion of each pod that is not going already."""
    for pod in pods:
        if not pod.is_deleting:
            yield Delete(POD, pod.ref, pod.uid)
