"""One running installation for a module's tests: a client for facts, and the commands that people type."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.installation import Installation
from tests.storage import BIN

from headrace.data.wrapper.objects import dataset_ref
from headrace.sandbox.testing import missing_features
from headrace.sdk.blocking import Client
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import DATASET, EVENT, NAMESPACE, PERSISTENT_VOLUME_CLAIM, TRAIN_JOB
from headrace.spec.names import RUNTIME_PROFILE_LABEL

LONG_S = 60.0


class Stack:
    """See the module."""

    def __init__(self, installation: Installation, client: Client) -> None:
        self.installation = installation
        self.client = client

    # -- as people do --------------------------------------------------------------------------------------------------

    def headrace(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.installation.run(*words, check=check)

    def kubectl(self, *words: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "kubectl"), "--kubeconfig", str(self.installation.home / "kubeconfig"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, input=stdin)
        assert not check or done.returncode == 0, f"kubectl {words}: {done.stdout}{done.stderr}"
        return done

    # -- objects ---------------------------------------------------------------------------------------------------------

    def apply(self, *objects: Json) -> None:
        for body in objects:
            self.client.apply(body)

    def namespace(self, name: str) -> str:
        self.apply({"apiVersion": "v1", "kind": NAMESPACE.name, "metadata": {"name": name}})
        return name

    def until(
        self, kind: Kind[Any], ref: Ref, reached: Callable[[Doc[Any]], object], within_s: float = LONG_S
    ) -> Doc[Any]:
        """Return the object as soon as it is there and `reached`; the error names its last state."""
        found = self.client.wait(
            kind,
            ref.name,
            lambda doc: doc is not None and bool(reached(doc)),
            namespace=ref.namespace,
            timeout_s=within_s,
        )
        assert found is not None
        return found

    def gone(self, kind: Kind[Any], ref: Ref) -> None:
        self.client.wait(kind, ref.name, lambda doc: doc is None, namespace=ref.namespace, timeout_s=LONG_S)

    def says(self, kind: Kind[Any], ref: Ref, type: str, status: str, reason: str = "", words: str = "") -> Json:
        """Wait until a condition has this status (and reason, and these words in its message); return it."""

        def reached(doc: Doc[Any]) -> bool:
            said = find_condition(doc, type) or {}
            is_so = said.get("status") == status and reason in {"", said.get("reason")}
            return is_so and words in said.get("message", "")

        return find_condition(self.until(kind, ref, reached), type) or {}

    def events(self, doc: Doc[Any]) -> list[str]:
        """Return what was said about an object, as `Reason: message`."""
        found = self.client.list(EVENT, namespace=doc.namespace or "default")
        about = [event.raw for event in found if event.raw["involvedObject"].get("uid") == doc.uid]
        return [f"{event['reason']}: {event['message']}" for event in about]

    # -- data --------------------------------------------------------------------------------------------------------------

    def share(self, claim: Ref, profile: str | None) -> None:
        """Label a claim, as `kubectl label pvc` does; None takes the label off."""
        self.client.set_metadata(
            PERSISTENT_VOLUME_CLAIM, claim.name, labels={RUNTIME_PROFILE_LABEL: profile}, namespace=claim.namespace
        )

    def verified(self, claim: Ref) -> Doc[Any]:
        """Return the claim's Dataset once all pools have listed it; fails at once when one could not."""

        def decided(doc: Doc[Any]) -> bool:
            return (find_condition(doc, "MountVerified") or {}).get("status") in {"True", "False"}

        dataset = self.until(DATASET, dataset_ref(claim), decided)
        said = find_condition(dataset, "MountVerified") or {}
        assert said["status"] == "True", said["message"]
        return dataset

    # -- jobs --------------------------------------------------------------------------------------------------------------

    def submit(self, name: str, command: Sequence[str], *, namespace: str = "default", **spec: Any) -> Doc[Any]:
        """Submit a small job of one worker."""
        small = {"cpu": "100m", "memory": "128Mi"}
        return self.client.submit(
            {
                "apiVersion": TRAIN_JOB.api_version,
                "kind": TRAIN_JOB.name,
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"command": [*command], "resources": small, **spec},
            }
        )

    def ended(self, name: str, *, namespace: str = "default", phase: str = "Succeeded") -> Doc[Any]:
        """Return a job once it has ended; fails with its log when it did not end as it should."""
        job = self.until(
            TRAIN_JOB, Ref(namespace, name), lambda doc: doc.status.get("phase") in {"Succeeded", "Failed"}
        )
        assert job.status["phase"] == phase, (job.status, self.log(name, namespace=namespace))
        return job

    def log(self, name: str, *, namespace: str = "default", container: str = "") -> list[str]:
        with self.client.logs(name, namespace=namespace, follow=False, container=container) as lines:
            return [line.text for line in lines]


@contextmanager
def stack_of(installation: Installation) -> Iterator[Stack]:
    """Connect to an installation that is up."""
    with Client.connect(kubeconfig=str(installation.home / "kubeconfig")) as client:
        yield Stack(installation, client)


def require_fuse() -> None:
    """Skip the test where this machine cannot mount FUSE without privilege; in CI, as root, that is a failure."""
    missing = {name: why for name, why in missing_features().items() if name in {"userns", "fuse"}}
    why = "; ".join(f"{name}: {sentence}" for name, sentence in missing.items())
    if why and os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(f"CI must be able to mount FUSE: {why}")
    if why:
        pytest.skip(f"NOTHING CAN BE MOUNTED HERE, THE DATA PLANE IS NOT TESTED: {why}")


def eventually(happens: Callable[[], object], what: str, within_s: float = 20.0) -> None:
    """Return as soon as `happens` is true, failing with `what` after the deadline."""
    end = time.monotonic() + within_s
    while not happens():
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        time.sleep(0.1)


def processes_with(text: str) -> list[psutil.Process]:
    """Return processes of this machine that have `text` in their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(text in word for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
    return found


def world_mounts(installation: Installation, kind: str) -> list[str]:
    """Return the mounts of a file system type that any of the installation's processes sees, worlds included."""
    seen: set[str] = set()
    for process in installation.processes():
        try:
            lines = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
        except OSError:
            continue
        seen |= {line for line in lines if f" - {kind}" in line}
    return sorted(seen)


def program(source: str, *arguments: str) -> list[str]:
    return ["python", "-c", source, *arguments]


def mount(claim: str, path: str, *, read_only: bool = True) -> Mapping[str, Any]:
    return {"claim": claim, "path": path, **({"readOnly": True} if read_only else {})}
