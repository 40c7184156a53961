"""The webhooks as a process of their own, asked by a real API server over HTTPS with a certificate of our own authority."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kubernetes import objects, roles
from tests.kubernetes.access import Access
from tests.kubernetes.roles import MERGE, Role, apply, path_of, until
from tests.storage import free_ports

from headrace.data.wrapper.objects import dataset_ref
from headrace.install.names import ADMISSION, CONTROLLER, TLS_SECRET, WEBHOOKS
from headrace.install.policies import policies
from headrace.install.rbac import bound
from headrace.install.webhooks import at_url, webhook_configurations
from headrace.ledger.database import file_url
from headrace.spec.kind import Json, Ref
from headrace.spec.names import NODE_POOL_LABEL

HOME = "headrace-system"
FLUID = "/apis/data.fluid.io/v1alpha1"
SUBMITTED_BY = "headrace.io/submitted-by"
PROFILE, CLOUD = "admitted", "admission-cloud"


@dataclass(frozen=True)
class Installation:
    """Controller and admission that run, a project in which the claim `digits` is shared, and another namespace."""

    access: Access
    project: str
    elsewhere: str
    port: int
    admission: Role
    directory: Path
    kubeconfig: Path

    def create(self, body: Json, *, token: str | None = None, query: str = "") -> tuple[int, Json, list[str]]:
        """Send an object; return status, answer and warnings."""
        with self.access.client(token) as client:
            answer = client.post(f"{path_of(body).rpartition('/')[0]}{query}", json=body)
        return answer.status_code, answer.json(), answer.headers.get_list("warning")

    def pods(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.project}/pods" + (f"/{name}" if name else "")

    def second(self) -> Any:
        (port,) = free_ports(1)
        return port, admission(self.directory, self.kubeconfig, port)


def admission(directory: Path, kubeconfig: Path, port: int) -> Any:
    return roles.role("admission", directory, "--kubeconfig", kubeconfig, "--listen", f"127.0.0.1:{port}")


@pytest.fixture(scope="module")
def installation(kubernetes: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory, (port,) = tmp_path_factory.mktemp("admission"), free_ports(1)
    project, elsewhere = (f"{name}-{secrets.token_hex(3)}" for name in ("vision", "else"))
    with ExitStack() as stack:
        stack.enter_context(roles.installed(kubernetes, HOME))
        ours = roles.kubeconfig_of(kubernetes, CONTROLLER, HOME, directory)
        theirs = roles.kubeconfig_of(kubernetes, ADMISSION, HOME, directory)
        controller = stack.enter_context(roles.controller(directory, ours, file_url(directory / "ledger.db")))
        admitting = stack.enter_context(admission(directory, theirs, port))
        controller.await_ready()
        admitting.await_ready()
        hooks = webhook_configurations(HOME, at_url(f"https://127.0.0.1:{port}"))
        pool = objects.pool(CLOUD, kind="serverless", capacity={"cpu": 4}, dataAccess={"mode": "broker"})
        rules = policies()
        shared = [*hooks, *rules, objects.profile(PROFILE), pool, objects.volume(project, "digits")]
        spaces = [f"/api/v1/namespaces/{space}" for space in (project, elsewhere)]
        stack.callback(roles.removed, kubernetes, [*spaces, *map(path_of, shared)])
        apply(kubernetes, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": elsewhere}}, *rules, *hooks)
        until(lambda: all(is_trusting(kubernetes, body) for body in hooks), "the webhooks trust", controller.told)
        roles.project(kubernetes, project, HOME)
        claim = objects.claim(project, "digits", profile=PROFILE)
        apply(kubernetes, objects.secret(project, "jfs"), *shared[len(hooks) + len(rules) :], claim)
        dataset = f"{FLUID}/namespaces/{project}/datasets/{dataset_ref(Ref(project, 'digits')).name}"
        until(lambda: phase(kubernetes, dataset) == "Bound", "the claim is shared", controller.told)
        yield Installation(kubernetes, project, elsewhere, port, admitting, directory, theirs)
        roles.check_rights(directory, HOME, project)


def is_trusting(access: Access, configuration: Json) -> bool:
    hooks = access.call("GET", path_of(configuration))["webhooks"]
    return all(hook["clientConfig"].get("caBundle") for hook in hooks)


def phase(access: Access, path: str) -> str:
    return "" if roles.missing(access, path) else str((access.call("GET", path).get("status") or {}).get("phase"))


DRY, UNASKED = "?dryRun=All", "tests/unasked"
CLOUDY = {"nodeSelector": {NODE_POOL_LABEL: CLOUD}}


@pytest.mark.parametrize("query", ["", "?dryRun=All"])
def test_a_pod_that_comes_into_the_cloud_gets_its_storage_client(installation: Installation, query: str) -> None:
    status, made, _ = installation.create(
        objects.pod(installation.project, "train" + query[1:4].lower(), "digits", **CLOUDY), query=query
    )
    assert status == 201, made
    sidecar, main = made["spec"]["initContainers"][0], made["spec"]["containers"][0]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("fluid-fuse-0", "Always")
    assert "startupProbe" in sidecar
    assert any(mount["mountPath"] == "/digits" and mount["name"] != "c0" for mount in main["volumeMounts"])
    assert any(
        (volume.get("persistentVolumeClaim") or {}).get("claimName") == "digits" for volume in made["spec"]["volumes"]
    )
    assert roles.missing(installation.access, installation.pods("traindry"))


def test_a_pod_that_mounts_nothing_of_ours_is_only_stamped(installation: Installation) -> None:
    status, made, _ = installation.create(objects.pod(installation.project, "plain"))
    assert status == 201, made
    assert "initContainers" not in made["spec"]
    assert made["metadata"]["annotations"] == {SUBMITTED_BY: "admin"}


def test_who_submitted_it_cannot_be_made_up_or_changed(installation: Installation) -> None:
    body = objects.pod(installation.project, "mine")
    body["metadata"]["annotations"] = {SUBMITTED_BY: "somebody-else"}
    _, made, _ = installation.create(body)
    assert made["metadata"]["annotations"] == {SUBMITTED_BY: "admin"}
    with installation.access.client() as client:
        patch = {"metadata": {"annotations": {SUBMITTED_BY: "somebody-else"}}}
        answer = client.patch(installation.pods("mine"), json=patch, headers={"content-type": MERGE})
    assert answer.status_code == 403
    assert "says who submitted it and cannot change" in answer.json()["message"]


def test_what_cannot_be_given_its_data_is_refused_with_the_cure(installation: Installation) -> None:
    """The pod asks for a sidecar and for a node where none is given."""
    body = objects.pod(installation.project, "lost", "digits", nodeSelector={"nobody": "has-it"})
    body["metadata"]["labels"] = {"serverless.fluid.io/inject": "true"}
    status, answer, _ = installation.create(body)
    assert status == 403
    assert "Remove the label, or select a pool" in answer["message"]


def test_nobody_gets_into_a_storage_client(installation: Installation) -> None:
    _, made, _ = installation.create(objects.pod(installation.project, "guarded", "digits", **CLOUDY))
    for way in ("exec", "attach"):
        with installation.access.client() as client:
            answer = client.post(f"{installation.pods('guarded')}/{way}?container=fluid-fuse-0&command=sh&stdout=1")
        assert answer.status_code == 403, answer.text
        assert "holds its storage's secret" in answer.json()["message"]
    debug = {"name": "d", "image": "sh", "targetContainerName": "fluid-fuse-0"}
    with installation.access.client() as client:
        answer = client.patch(
            f"{installation.pods('guarded')}/ephemeralcontainers",
            json={"spec": {"ephemeralContainers": [debug]}},
            headers={"content-type": "application/strategic-merge-patch+json"},
        )
    assert answer.status_code == 403, answer.text
    assert made["spec"]["initContainers"][0]["name"] == "fluid-fuse-0"


def test_the_spelling_of_the_field_is_normalised_with_warnings(installation: Installation) -> None:
    fuse = {"command": ["sh", "-c", "mount"]}
    body = objects.profile("ossfs-profile", fileType="starfs", fuse=fuse, image="registry.test/starfs", imageTag="v1")
    body["spec"]["resources"] = {"requests": {"cpu": "500m"}}
    status, made, warnings = installation.create(body, query="?dryRun=All")
    assert status == 201, made
    assert made["spec"]["fileSystemType"] == "starfs"
    assert made["spec"]["fuse"] | fuse == made["spec"]["fuse"]
    assert (made["spec"]["fuse"]["image"], made["spec"]["fuse"]["imageTag"]) == ("registry.test/starfs", "v1")
    assert not {"fileType", "image", "imageTag", "resources"} & made["spec"].keys()
    assert any("spec.fileType is read as spec.fileSystemType" in warning for warning in warnings)


def test_what_no_schema_can_say_is_refused_with_every_cause(installation: Installation) -> None:
    body = objects.job(installation.project, "wrong", workers=0, expectedDuration="soon")
    status, answer, _ = installation.create(body)
    assert status == 422, answer
    assert {"spec.workers", "spec.expectedDuration"} <= {cause["field"] for cause in answer["details"]["causes"]}


def test_a_kind_of_fluids_that_is_not_run_says_what_to_use(installation: Installation) -> None:
    meta = {"name": "x", "namespace": installation.project}
    status, answer, _ = installation.create({"apiVersion": objects.FLUID, "kind": "AlluxioRuntime", "metadata": meta})
    assert status == 422
    assert "use ThinRuntime" in answer["message"]


def test_outside_of_projects_it_is_said_that_nothing_is_done(installation: Installation) -> None:
    space = installation.elsewhere
    cure = f"headrace install --project {space}"
    dataset = {"apiVersion": objects.FLUID, "kind": "Dataset", "metadata": {"name": "idle", "namespace": space}}
    dataset["spec"] = {"mounts": [{"mountPoint": "s3://bucket", "name": "b"}]}
    shared = objects.claim(space, "shared", profile=PROFILE)
    for body in (objects.job(space, "idle"), dataset, shared):
        assert until_warned(installation, body, cure), body["kind"]
    status, _, warnings = installation.create(objects.claim(space, "plain"))
    assert (status, warnings) == (201, [])
    path = path_of(objects.claim(space, "plain"))
    with installation.access.client() as client:
        for value, is_warned in ((PROFILE, True), ("another", False)):
            patch = {"metadata": {"labels": {"fluid.io/runtime-profile": value}}}
            answer = client.patch(path, json=patch, headers={"content-type": MERGE})
            assert answer.status_code == 200
            assert (cure in " ".join(answer.headers.get_list("warning"))) == is_warned
    _, _, warnings = installation.create(objects.claim(installation.project, "shared", profile=PROFILE), query=DRY)
    assert not [warning for warning in warnings if "no project" in warning]
    _, made, _ = installation.create(objects.pod(space, "theirs"))
    assert "annotations" not in made["metadata"]


def until_warned(installation: Installation, body: Json, text: str) -> bool:
    """A policy is in force a moment after it is there."""
    return until(lambda: any(text in each for each in installation.create(body, query=DRY)[2]), "it is warned")


def test_no_other_webhook_says_afterwards_who_submitted_a_pod(installation: Installation) -> None:
    """A pod that ours are not asked about is as good as one that another webhook changes after them."""
    space, access = installation.project, installation.access
    body = objects.pod(space, "forged")
    body["metadata"] |= {"annotations": {SUBMITTED_BY: "somebody-else"}, "labels": {UNASKED: ""}}
    hook = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{WEBHOOKS}"
    before = access.call("GET", hook)["webhooks"]
    spared = {"matchExpressions": [{"key": UNASKED, "operator": "DoesNotExist"}]}
    access.call("PATCH", hook, {"webhooks": [{**before[0], "objectSelector": spared}, *before[1:]]}, MERGE)
    ann = {"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}
    apply(access, {**bound("ann", "edit", "", "", namespace=space), "subjects": [ann]})

    def as_ann() -> tuple[int, str]:
        with access.client() as client:
            answer = client.post(f"{installation.pods()}{DRY}", json=body, headers={"impersonate-user": "ann"})
        return answer.status_code, answer.text

    try:
        until(lambda: "somebody else here" in as_ann()[1], "it is refused", as_ann)
        assert as_ann()[0] == 403
        body["metadata"]["annotations"] = {SUBMITTED_BY: "ann"}
        assert as_ann()[0] == 201
    finally:
        access.call("PATCH", hook, {"webhooks": before}, MERGE)


def test_deleting_what_is_used_warns(installation: Installation) -> None:
    with installation.access.client() as client:
        answer = client.delete(f"{FLUID}/thinruntimeprofiles/{PROFILE}?dryRun=All")
    assert answer.status_code == 200, answer.text
    assert "is in use" in answer.headers["warning"]


def test_a_new_certificate_is_served_without_a_restart_by_every_replica(installation: Installation) -> None:
    port, running = installation.second()
    with running as second:
        second.await_ready()
        before = shown(installation.port)
        assert shown(port) == before
        installation.access.call("DELETE", f"/api/v1/namespaces/{HOME}/secrets/{TLS_SECRET}")
        until(lambda: shown(installation.port) != before, "the first one shows another")
        until(lambda: shown(port) == shown(installation.port), "the second one shows the same")
    status, made, _ = installation.create(objects.pod(installation.project, "afterwards"))
    assert (status, SUBMITTED_BY in made["metadata"]["annotations"]) == (201, True)


def shown(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=10)


def test_figures_tell_how_was_answered(installation: Installation) -> None:
    installation.create(objects.pod(installation.project, "counted"))
    figures = installation.admission.ask("/metrics")[1]
    assert 'headrace_admission_answers_total{outcome="patched",webhook="mutate"}' in figures


def test_we_are_asked_once_about_a_pod_whose_client_gets_no_token_of_the_users(installation: Installation) -> None:
    """The token goes into every container, and what the API server changes after us it asks us about again."""
    before = answers(installation)
    _, made, _ = installation.create(objects.pod(installation.project, "once", "digits", **CLOUDY))
    [sidecar], [main] = made["spec"]["initContainers"], made["spec"]["containers"]
    assert token_volume(main).startswith("kube-api-access-")
    assert token_volume(sidecar) == "fluid-fuse-0-tmp"
    assert answers(installation) == before + 1


def answers(installation: Installation) -> float:
    lines = installation.admission.ask("/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("headrace_admission_answers_total{"))


def token_volume(container: Json) -> str:
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    [name] = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == place]
    return str(name)


def test_without_us_projects_are_closed_and_the_rest_of_the_cluster_goes_on(kubernetes: Access) -> None:
    """Nobody listens there, as when every replica is down."""
    space, other = (f"{name}-{secrets.token_hex(3)}" for name in ("closed", "open"))
    (port,) = free_ports(1)
    hooks = webhook_configurations(HOME, at_url(f"https://127.0.0.1:{port}"))
    label = {"headrace.io/project": ""}
    apply(kubernetes, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": label}})
    apply(kubernetes, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    for name in (space, other):
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        until(lambda account=account: not roles.missing(kubernetes, account), "there is an account")  # type: ignore[misc]
    try:
        for hook in hooks:
            hook["metadata"]["name"] = f"{space}-down"
        apply(kubernetes, *hooks)
        asking = objects.pod(other, "asking")
        asking["metadata"]["labels"] = {"serverless.fluid.io/inject": "true"}
        until(lambda: dry_run(kubernetes, objects.pod(space, "p")) == 500, "a pod in a project is refused")
        assert dry_run(kubernetes, objects.pod(other, "p")) == 201
        assert dry_run(kubernetes, asking) == 500
        assert dry_run(kubernetes, objects.job(other, "j")) == 500
        assert (
            dry_run(
                kubernetes, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": space}}
            )
            == 201
        )
    finally:
        for body in hooks:
            kubernetes.call("DELETE", path_of(body))
        for name in (space, other):
            kubernetes.call("DELETE", f"/api/v1/namespaces/{name}")


def dry_run(access: Access, body: Json) -> int:
    with access.client() as client:
        return client.post(f"{path_of(body).rpartition('/')[0]}?dryRun=All", json=body).status_code


def test_kubectl_shows_people_the_warnings_and_the_refusals(installation: Installation) -> None:
    kubectl = [str(Path(sys.executable).parent / "kubectl"), "--kubeconfig", str(installation.access.kubeconfig)]
    body = objects.job(installation.project, "wrong", workers=0)
    done = subprocess.run([*kubectl, "apply", "-f", "-"], input=json.dumps(body), capture_output=True, text=True)
    assert done.returncode != 0
    assert "spec.workers" in done.stderr
