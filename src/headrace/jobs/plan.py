"""What to do next about one TrainJob. Pure: from the job and its pods to actions and the next status.

An attempt begins with the scheduler's placement, has an outcome when its first worker failed, all succeeded, or somebody
ended it, and is over when none of its pods can run any more. Only then is the job finished or queued again: a gang that
writes is never started beside its old self (docs/design.md, section 6, fencing).
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from headrace.clock import format_time, parse_time
from headrace.jobs import gang
from headrace.jobs.gang import Member
from headrace.jobs.outcome import Outcome, exit_code_of, failure, is_dead, retry_is_due
from headrace.jobs.starting import obstacle
from headrace.pools.status import declare_unsupported
from headrace.spec.conditions import Status, set_condition
from headrace.spec.kind import Doc, Json
from headrace.spec.names import ATTEMPT_LABEL
from headrace.units import parse_duration_s

TERMINAL = ("Succeeded", "Failed")
_SAID_AFTER_S = 5.0
"""What keeps a gang from starting is said from then on; before, it mostly passes by itself."""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One job and every pod that carries its label, of all attempts."""

    job: Any
    pods: Sequence[Any] = ()
    start_timeout_s: float = 300.0


class Notice(msgspec.Struct, frozen=True):
    """An event to record on the job."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Pods to make and to delete, the whole next status, events, and when to look again without a change."""

    create: tuple[Member, ...] = ()
    delete: tuple[Any, ...] = ()
    status: Json = {}
    notices: tuple[Notice, ...] = ()
    again_after_s: float | None = None


def plan(observed: Observed, now: dt.datetime) -> Plan:
    """Return the next step. Repeating it on its own result plans nothing new."""
    job = observed.job
    if job.is_deleting:
        return Plan(status=job.status)
    step = _Step(observed, now)
    step.run()
    return step.result()


class _Step:
    """One call of `plan`: collects actions while it goes through the states of a job."""

    def __init__(self, observed: Observed, now: dt.datetime) -> None:
        self.job: Doc[Any] = observed.job
        self.now = now
        self.start_timeout_s = observed.start_timeout_s
        self.status: Json = copy.deepcopy(dict(observed.job.status))
        self.status["observedGeneration"] = self.job.generation
        self.placement: Json = self.status.get("placement") or {}
        attempt = str(self.placement.get("attempt", ""))
        self.current = {pod.name: pod for pod in observed.pods if pod.labels.get(ATTEMPT_LABEL) == attempt}
        self.old = [pod for pod in observed.pods if pod.labels.get(ATTEMPT_LABEL) != attempt and not is_dead(pod)]
        self.create: list[Member] = []
        self.delete: list[Doc[Any]] = []
        self.notices: list[Notice] = []
        self.again_after_s: float | None = None

    def result(self) -> Plan:
        return Plan(
            create=tuple(self.create),
            delete=tuple(self.delete),
            status=self.status,
            notices=tuple(self.notices),
            again_after_s=self.again_after_s,
        )

    def run(self) -> None:
        conditions = declare_unsupported(self.job, self.status.get("conditions") or [], self.now)
        if conditions:
            self.status["conditions"] = conditions
        self._end(self.old)
        if self.status.get("phase") in TERMINAL:
            self._end(self.current.values())
        elif self.placement:
            self._attempt()
        elif self.job.spec.get("suspend"):
            self._suspended()
        else:
            self._queued()

    # -- without a placement -----------------------------------------------------------------------------------------

    def _queued(self) -> None:
        if self.status.get("phase") != "Queued":
            self._phase("Queued", "", "")
            self.status["queuedAt"] = format_time(self.now)
        self.status["workers"] = {"total": sum(role.replicas for role in gang.roles(self.job))}

    def _suspended(self) -> None:
        if self.status.get("phase") != "Suspended":
            self._phase("Suspended", "Suspended", "It was stopped; set spec.suspend to false to go on.")
            self._condition("Admitted", "False", "Suspended", "It was stopped by request.")
            self._notice("Normal", "Suspended", "Stopped by request.")

    # -- with one ------------------------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        attempt = self._record()
        if not attempt.get("outcome"):
            outcome = self._outcome(attempt)
            if outcome is not None:
                self._close(attempt, outcome)
        if attempt.get("outcome"):
            self._wind_up(attempt)
        else:
            self._go_on(attempt)

    def _record(self) -> Json:
        """Return the entry of the current attempt in the history, made when the placement is new."""
        attempts: list[Json] = self.status.setdefault("attempts", [])
        if not attempts or attempts[-1]["attempt"] != self.placement["attempt"]:
            attempts.append({"attempt": self.placement["attempt"], "pool": self.placement["pool"]})
            self._phase("Starting", "", "")
            where = f"Starts on {self.placement['pool']}."
            self._condition("Admitted", "True", self.placement.get("reason") or "Placed", where)
        return attempts[-1]

    def _outcome(self, attempt: Json) -> Outcome | None:
        """Return how the attempt has just ended, or None while it goes on."""
        if self.job.spec.get("suspend"):
            return Outcome("Stopped", "Suspended", "It was stopped by request.")
        pods = list(self.current.values())
        failed = failure(pods)
        if failed is not None:
            return failed
        members = list(gang.members(self.job))
        if len(pods) == len(members) and all(pod.status.get("phase") == "Succeeded" for pod in pods):
            return Outcome("Succeeded", "Completed", "All workers ended with exit code 0.", 0)
        names = {gang.pod_name(self.job, attempt["attempt"], member) for member in members}
        vanished = sorted(names - set(self.current))
        if attempt.get("startedAt") and vanished:
            return Outcome("Failed", "PodDeleted", f"Pod {vanished[0]} was deleted from outside.")
        return self._deadline(attempt)

    def _deadline(self, attempt: Json) -> Outcome | None:
        limit = self.job.spec.get("maxDuration")
        if limit and attempt.get("startedAt"):
            left_s = parse_duration_s(limit) - self._since(attempt["startedAt"])
            if left_s <= 0:
                return Outcome("Failed", "DeadlineExceeded", f"It ran longer than its maxDuration of {limit}.")
            self.again_after_s = left_s
        if not attempt.get("startedAt") and self.placement.get("decidedAt"):
            left_s = self.start_timeout_s - self._since(self.placement["decidedAt"])
            if left_s <= 0:
                waiting = self._who_waits()
                return Outcome(
                    "StartTimeout",
                    "StartTimeout",
                    f"Not all workers started within {self.start_timeout_s:g} s{waiting}.",
                )
            self.again_after_s = left_s
        return None

    def _who_waits(self) -> str:
        found = obstacle(list(self.current.values()))
        if found is not None:
            return f"; {found.message}"
        for pod in self.current.values():
            for condition in pod.status.get("conditions") or []:
                if condition.get("status") == "False" and condition.get("message"):
                    return f"; {pod.name}: {condition['message']}"
        return ""

    def _since(self, moment: str) -> float:
        return (self.now - parse_time(moment)).total_seconds()

    def _go_on(self, attempt: Json) -> None:
        if self.old:
            self._phase("Starting", "Fencing", f"Waits until {self.old[0].name} of the attempt before has ended.")
            return
        self.create = [
            member
            for member in gang.members(self.job)
            if gang.pod_name(self.job, attempt["attempt"], member) not in self.current
        ]
        phases = [pod.status.get("phase") for pod in self.current.values()]
        total = sum(role.replicas for role in gang.roles(self.job))
        running = phases.count("Running")
        succeeded = phases.count("Succeeded")
        self.status["workers"] = {"total": total, "running": running, "succeeded": succeeded, "failed": 0}
        if running + succeeded == total and not attempt.get("startedAt"):
            attempt["startedAt"] = format_time(self.now)
            self.status.setdefault("startedAt", attempt["startedAt"])
            self._phase("Running", "", "")
            self._condition("Running", "True", "AllWorkersRunning", f"{total} of {total} workers run.")
            self._notice("Normal", "Running", f"All {total} workers run on {attempt['pool']}.")
        elif not attempt.get("startedAt"):
            self._starting()

    def _starting(self) -> None:
        """Say what the gang waits for, as an event when it is something new; only its phase when nothing does."""
        found = obstacle(list(self.current.values()))
        early_s = _SAID_AFTER_S - self._since(self.placement.get("decidedAt") or format_time(self.now))
        if found is None or early_s > 0:
            self._phase("Starting", "", "")
            self.again_after_s = min(self.again_after_s or early_s, early_s) if found else self.again_after_s
            return
        if self.status.get("reason") != found.reason:
            self._notice("Warning", found.reason, f"Does not start: {found.message}")
        self._phase("Starting", found.reason, found.message)
        self._condition("Running", "False", found.reason, found.message)

    def _close(self, attempt: Json, outcome: Outcome) -> None:
        attempt["outcome"] = outcome.kind
        attempt["reason"] = outcome.reason
        attempt["message"] = outcome.message
        attempt["endedAt"] = format_time(self.now)
        if outcome.kind == "Succeeded" and not attempt.get("startedAt"):
            attempt["startedAt"] = attempt["endedAt"]
            self.status.setdefault("startedAt", attempt["endedAt"])
        if outcome.exit_code is not None:
            attempt["exitCode"] = outcome.exit_code
        if outcome.kind != "Succeeded":
            self._notice("Warning", outcome.reason, outcome.message)

    def _wind_up(self, attempt: Json) -> None:
        """End the rest of the gang; once all of it is dead, finish the job or queue it again."""
        alive = [pod for pod in self.current.values() if not is_dead(pod)]
        if alive:
            self._end(alive)
            return
        if attempt["outcome"] == "Succeeded":
            self._finish("Succeeded", attempt)
        elif attempt["outcome"] == "Stopped":
            self.status["placement"] = None
            self._suspended()
        elif retry_is_due(self.job, self.status["attempts"]):
            self.status["placement"] = None
            self._phase("Queued", attempt["reason"], attempt["message"])
            self.status["queuedAt"] = format_time(self.now)
            self.status["workers"] = {"total": sum(role.replicas for role in gang.roles(self.job))}
            self._condition(
                "Admitted", "False", "Requeued", f"Attempt {attempt['attempt']} ended: {attempt['message']}"
            )
            self._notice("Normal", "Requeued", f"Queued again after attempt {attempt['attempt']}.")
        else:
            self._finish("Failed", attempt)

    def _finish(self, phase: str, attempt: Json) -> None:
        phases = [pod.status.get("phase") for pod in self.current.values()]
        self.status["workers"] = {
            "total": sum(role.replicas for role in gang.roles(self.job)),
            "running": 0,
            "succeeded": phases.count("Succeeded"),
            "failed": phases.count("Failed"),
        }
        self._phase(phase, attempt["reason"], attempt["message"])
        self.status["finishedAt"] = attempt["endedAt"]
        code = 0 if phase == "Succeeded" else exit_code_of(attempt)
        if code is not None:
            self.status["exitCode"] = code
        self._condition("Running", "False", attempt["reason"], "It has ended.")
        self._condition("Complete" if phase == "Succeeded" else "Failed", "True", attempt["reason"], attempt["message"])
        self._notice("Normal" if phase == "Succeeded" else "Warning", phase, attempt["message"])

    # -- small words -----------------------------------------------------------------------------------------------------

    def _end(self, pods: Any) -> None:
        self.delete += [pod for pod in pods if not is_dead(pod) and not pod.is_deleting]

    def _phase(self, phase: str, reason: str, message: str) -> None:
        self.status.update(phase=phase, reason=reason, message=message)

    def _condition(self, type_: str, status: Status, reason: str, message: str) -> None:
        self.status["conditions"] = set_condition(
            self.status.get("conditions"), type_, status, reason, message, now=self.now, generation=self.job.generation
        )

    def _notice(self, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        self.notices.append(Notice(type_, reason, message))
