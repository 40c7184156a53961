"""The controllers as a process of their own on a real API server, with the rights they are installed with.

There is no kubelet in these: what a node would say of pods, the tests say.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.kubernetes import objects, roles
from tests.kubernetes.access import Access
from tests.kubernetes.roles import MERGE, Role, apply, missing, path_of, until

from headrace.clock import SystemClock, format_time
from headrace.data.conditions import CLAIM_DATASET_READY
from headrace.data.wrapper.objects import dataset_ref
from headrace.install.names import CONTROLLER
from headrace.ledger.database import file_url
from headrace.ledger.store import Ledger
from headrace.spec.kind import Json, Ref

HOME = "headrace-system"
FLUID = "/apis/data.fluid.io/v1alpha1"
OURS = "/apis/headrace.io/v1alpha1"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/headrace-controller"


class Bench:
    """An installation's rights, a project, and the ledger; starts controllers."""

    def __init__(self, access: Access, kubeconfig: Path, project: str, directory: Path) -> None:
        self.access = access
        self.project = project
        self.directory = directory
        self.ledger = file_url(directory / "ledger.db")
        self._kubeconfig = kubeconfig

    def controller(self) -> Any:
        return roles.controller(self.directory, self._kubeconfig, self.ledger)

    def get(self, path: str) -> Json:
        return self.access.call("GET", path)

    def label(self, claim: str, profile: str | None) -> None:
        body = {"metadata": {"labels": {"fluid.io/runtime-profile": profile}}}
        self.access.call("PATCH", f"/api/v1/namespaces/{self.project}/persistentvolumeclaims/{claim}", body, MERGE)

    def delete_project(self) -> None:
        """Delete the namespace, with a controller that runs, and wait until it is gone."""
        path = f"/api/v1/namespaces/{self.project}"
        self.access.call("DELETE", path)
        roles.gone(self.access, path)


@pytest.fixture(scope="module")
def kubeconfig(kubernetes: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with roles.installed(kubernetes, HOME):
        yield roles.kubeconfig_of(kubernetes, CONTROLLER, HOME, tmp_path_factory.mktemp("controller"))


@pytest.fixture
def bench(kubernetes: Access, kubeconfig: Path, tmp_path: Path) -> Iterator[Bench]:
    name = f"vision-{secrets.token_hex(3)}"
    roles.project(kubernetes, name, HOME)
    made = Bench(kubernetes, kubeconfig, name, tmp_path)
    try:
        yield made
        roles.check_rights(tmp_path, HOME, name)
    finally:
        if not missing(kubernetes, f"/api/v1/namespaces/{name}"):
            with made.controller():
                made.delete_project()


@pytest.fixture
def controller(bench: Bench) -> Iterator[Role]:
    with bench.controller() as running:
        running.await_ready()
        yield running


def told(claim: Json) -> str:
    return str(condition(claim, CLAIM_DATASET_READY).get("message"))


def condition(body: Json, name: str) -> Json:
    return next((c for c in (body.get("status") or {}).get("conditions") or () if c["type"] == name), {})


def test_a_label_makes_dataset_and_runtime_and_its_removal_takes_them_away(bench: Bench, controller: Role) -> None:
    space, name = bench.project, dataset_ref(Ref(bench.project, "digits")).name
    dataset, runtime = (f"{FLUID}/namespaces/{space}/{kind}/{name}" for kind in ("datasets", "thinruntimes"))
    claim = f"/api/v1/namespaces/{space}/persistentvolumeclaims/digits"
    apply(bench.access, objects.secret(space, "jfs"), objects.volume(space, "digits"), objects.claim(space, "digits"))
    until(lambda: bench.get(claim)["status"].get("phase") == "Bound", "the claim is bound")
    bench.label("digits", "late-profile")
    until(lambda: "no profile late-profile" in told(bench.get(claim)), "the claim says what is missing")

    apply(bench.access, objects.profile("late-profile"))
    until(lambda: not missing(bench.access, dataset) and bench.get(dataset)["status"].get("phase") == "Bound", "Bound")
    owners = [(owner["kind"], owner["name"]) for owner in bench.get(dataset)["metadata"]["ownerReferences"]]
    assert owners == [("PersistentVolumeClaim", "digits")]
    assert bench.get(runtime)["spec"]["profileName"] == "late-profile"
    config = bench.get(f"/api/v1/namespaces/{space}/configmaps/{name}-fuse-conf")["data"]["config.json"]
    assert "juicefs://digits" in config
    assert "hush" not in config
    assert "/etc/fluid/secrets/jfs/password" in config

    bench.label("digits", None)
    until(lambda: missing(bench.access, dataset) and missing(bench.access, runtime), "both are gone")
    assert bench.get(claim)["status"]["phase"] == "Bound"
    bench.access.call("DELETE", path_of(objects.profile("late-profile")))
    bench.access.call("DELETE", path_of(objects.volume(space, "digits")))


def test_a_job_is_placed_run_metered_and_billed_once(bench: Bench, controller: Role) -> None:
    space, pool = bench.project, f"own-{bench.project}"
    job = objects.job(space, "digits", workers=2)
    with node_in(bench, pool):
        apply(bench.access, job)
        pods = [f"/api/v1/namespaces/{space}/pods/digits-1-worker-{i}" for i in range(2)]
        until(lambda: all(not missing(bench.access, pod) for pod in pods), "both workers are made", controller.told)
        for pod in pods:
            assert bench.get(pod)["metadata"]["finalizers"] == ["headrace.io/metered"]
        run_to_the_end(bench, pods)
        until(lambda: bench.get(path_of_job(space))["status"].get("phase") == "Succeeded", "the job succeeded")
        until(lambda: all(not bench.get(pod)["metadata"].get("finalizers") for pod in pods), "both are metered")
    ledger = Ledger(bench.ledger)
    spans = ledger.spans(namespace=space)
    ledger.close()
    assert sorted((span.subject.pod, span.seconds) for span in spans) == [
        ("digits-1-worker-0", 60),
        ("digits-1-worker-1", 60),
    ]


def test_of_two_controllers_one_acts_and_the_other_takes_over_when_it_is_killed(bench: Bench) -> None:
    with bench.controller() as first, bench.controller() as second:
        first.await_ready()
        second.await_ready()
        until(lambda: first.is_leader or second.is_leader, "one leads")
        leader, other = (first, second) if first.is_leader else (second, first)
        make_dataset(bench, "one")
        assert not other.is_leader
        assert reconciles(leader) > 0
        assert reconciles(other) == 0

        (child,) = psutil.Process(leader.process.pid).children()
        os.kill(child.pid, signal.SIGKILL)
        until(lambda: other.is_leader, "the other one leads")
        make_dataset(bench, "two")
        assert reconciles(other) > 0
        assert bench.get(LEASE)["spec"]["leaseTransitions"] >= 1


def test_a_deleted_project_goes_whole(bench: Bench, controller: Role) -> None:
    """Its objects have our finalizers, and the right to take them off is in the namespace itself."""
    space = bench.project
    make_dataset(bench, "one")
    apply(bench.access, objects.profile("any"))
    runtime = {"apiVersion": "data.fluid.io/v1alpha1", "kind": "ThinRuntime", "metadata": {"name": "one"}}
    bench.access.call("POST", f"{FLUID}/namespaces/{space}/thinruntimes", {**runtime, "spec": {"profileName": "any"}})
    for kind in ("datasets", "thinruntimes"):
        path = f"{FLUID}/namespaces/{space}/{kind}/one"
        until(lambda path=path: bench.get(path)["metadata"].get("finalizers"), f"{kind} have a finalizer")  # type: ignore[misc]
    bench.delete_project()
    bench.access.call("DELETE", path_of(objects.profile("any")))


def test_a_namespace_that_is_no_project_is_left_alone_until_it_becomes_one(bench: Bench, controller: Role) -> None:
    """No right is asked for in vain, and nothing needs a restart."""
    space = f"{bench.project}-later"
    apply(bench.access, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    shared = objects.claim(space, "digits", profile="none-yet")
    dataset = {"apiVersion": objects.FLUID, "kind": "Dataset", "metadata": {"name": "waits", "namespace": space}}
    dataset["spec"] = {"mounts": [{"mountPoint": "s3://bucket", "name": "b"}]}
    apply(bench.access, shared, dataset, objects.job(space, "waits"))
    try:
        make_dataset(bench, "beside")  # whoever has judged this one has seen the others before
        paths = [path_of(dataset), path_of_job(space, "waits")]
        assert not any(condition(bench.get(path), "Ready") for path in paths)
        assert [event["error"] for event in controller.events() if space in str(event.get("error"))] == []
        assert 'status="403"' not in controller.ask("/metrics")[1]

        roles.project(bench.access, space, HOME)
        for path in paths:
            until(lambda path=path: (bench.get(path).get("status") or {}).get("conditions"), f"{path} is judged")  # type: ignore[misc]
        until(
            lambda: "no profile none-yet" in told(bench.get(path_of(shared))),
            "the claim says what is missing",
            lambda: (bench.get(path_of(shared)), controller.told()),
        )
    finally:
        path = f"/api/v1/namespaces/{space}"
        roles.removed(bench.access, [path])


def test_whoever_ends_gives_the_lease_back(bench: Bench) -> None:
    with bench.controller() as running:
        running.await_ready()
        until(lambda: running.is_leader, "it leads")
    assert running.process.returncode == 0
    assert not bench.get(LEASE)["spec"].get("holderIdentity")


def test_losing_the_lease_ends_the_process_with_an_error(bench: Bench) -> None:
    with bench.controller() as running:
        running.await_ready()
        until(lambda: running.is_leader, "it leads")
        bench.access.call("PATCH", LEASE, {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 3600}}, MERGE)
        until(lambda: running.process.poll() is not None, "it ended")
    assert running.process.returncode == 1
    assert "was lost" in running.events()[-1]["error"]
    bench.access.call("DELETE", LEASE)


# -- what the tests say in the place of others -----------------------------------------------------------------------------


class node_in:  # noqa: N801 read like a function
    """A pool with one ready node, for as long as the context lasts."""

    def __init__(self, bench: Any, pool: str, **spec: Any) -> None:
        self._access: Access = bench.access
        self._bodies = (objects.pool(pool, **spec), objects.node(f"{pool}-0", pool))

    def __enter__(self) -> None:
        apply(self._access, self._bodies[0])
        self._access.call("POST", "/api/v1/nodes", self._bodies[1])

    def __exit__(self, *_error: object) -> None:
        for body in self._bodies:
            self._access.call("DELETE", path_of(body))


def run_to_the_end(bench: Any, pods: list[str]) -> None:
    """Say of each pod what a kubelet says of one that ran for a minute."""
    now = SystemClock().now().replace(microsecond=0)
    start = format_time(now)
    end = format_time(now + dt.timedelta(seconds=60))
    for pod in pods:
        state = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": start, "finishedAt": end}}
        entry = {"name": "main", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
        status = {"phase": "Succeeded", "startTime": start, "containerStatuses": [entry]}
        bench.access.call("PATCH", f"{pod}/status", {"status": status}, MERGE)


def path_of_job(space: str, name: str = "digits") -> str:
    return f"{OURS}/namespaces/{space}/trainjobs/{name}"


def make_dataset(bench: Bench, name: str) -> None:
    """Make a Dataset without a runtime, and wait until somebody has said that it lacks one."""
    body = {"metadata": {"name": name}, "spec": {"mounts": [{"mountPoint": "s3://bucket", "name": "b"}]}}
    space = f"{FLUID}/namespaces/{bench.project}/datasets"
    bench.access.call("POST", space, {"apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset", **body})
    until(lambda: condition(bench.get(f"{space}/{name}"), "Ready"), "somebody judged it")


def reconciles(controller: Role) -> float:
    lines = controller.ask("/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("headrace_reconciles_total{"))
