"""`headrace install` and a real API server: every object is accepted, again changes nothing, and out means out.

On a cluster of its own, because an installation is the whole cluster's.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kubernetes import objects as written
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.temporary import temporary
from tests.kubernetes.fixtures import made_or_skipped
from tests.kubernetes.roles import APPLY, MERGE, apply, gone, missing, path_of, until

from headrace.install.installation import Installation
from headrace.install.kinds import INSTALLED_KINDS
from headrace.install.objects import kind_of, objects, ref_of
from headrace.spec.kind import Json

INSTALLATION = Installation(image="registry.test/headrace:1")
BODIES = objects(INSTALLATION)
HOME = INSTALLATION.namespace
ACCOUNTS = "system:serviceaccount"


class Cluster:
    """A cluster of this module's own, and the command."""

    def __init__(self, access: Access, image: str = INSTALLATION.image) -> None:
        self.access = access
        self._image = image

    def install(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / "headrace"
        given = ("install", "--kubeconfig", str(self.access.kubeconfig), "--image", self._image)
        environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
        return subprocess.run(
            [str(program), *given, *words], capture_output=True, text=True, env={**environment, "NO_COLOR": "1"}
        )

    def installed(self, *words: str) -> str:
        done = self.install(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def there(self) -> set[str]:
        """Return everything that carries our label."""
        found = set()
        for kind in INSTALLED_KINDS:
            items = self.access.call("GET", f"{kind.path()}?labelSelector=app.kubernetes.io/managed-by=headrace")[
                "items"
            ]
            found |= {f"{kind.resource} {item['metadata']['name']}" for item in items}
        return found

    def token(self, space: str, role: str, *, kind: str = "ClusterRole") -> str:
        """Return a token of the default account of a namespace, with a role there, such as Kubernetes' own `edit`."""
        rbac = "rbac.authorization.k8s.io"
        subject = {"kind": "ServiceAccount", "name": "default", "namespace": space}
        body = {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": space},
            "subjects": [subject],
            "roleRef": {"apiGroup": rbac, "kind": kind, "name": role},
        }
        apply(self.access, body)
        asked: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = f"/api/v1/namespaces/{space}/serviceaccounts/default/token"
        return str(self.access.call("POST", path, asked)["status"]["token"])

    def may(self, user: str, verb: str, group: str, resource: str, space: str = "") -> bool:
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": space}
        spec = {"user": user, "groups": ["system:authenticated"], "resourceAttributes": attributes}
        api = "authorization.k8s.io/v1"
        body: Json = {"apiVersion": api, "kind": "SubjectAccessReview", "spec": spec}
        return bool(self.access.call("POST", f"/apis/{api}/subjectaccessreviews", body)["status"]["allowed"])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with temporary(tmp_path_factory.mktemp("install") / "cluster") as own:
        made_or_skipped(own.start)
        yield Cluster(Access(own.kubeconfig))


@pytest.fixture
def cluster(bare: Cluster) -> Cluster:
    """With everything installed, by whichever test comes first."""
    bare.installed("--no-wait")
    return bare


@pytest.fixture
def space(cluster: Cluster) -> Iterator[str]:
    """A namespace whose pods ask our webhooks about nothing."""
    name = f"space-{secrets.token_hex(3)}"
    apply(cluster.access, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await_account(cluster, name)
    yield name
    cluster.access.call("DELETE", f"/api/v1/namespaces/{name}")


def test_a_dry_run_asks_about_everything_and_makes_nothing(bare: Cluster) -> None:
    bare.installed("--uninstall", "--purge")
    gone(bare.access, f"/api/v1/namespaces/{HOME}")
    until(lambda: not bare.there(), "nothing is there", bare.there)
    said = bare.installed("--dry-run")
    assert f"{len(BODIES)} objects, {len(BODIES)} changed (dry run)." in said
    assert not bare.there()


def await_account(cluster: Cluster, space: str) -> None:
    """Return once a namespace takes pods: before, its service account is missing."""
    account = f"/api/v1/namespaces/{space}/serviceaccounts/default"
    until(lambda: not missing(cluster.access, account), f"{space} has its account")


def test_again_changes_nothing(cluster: Cluster) -> None:
    def versions() -> dict[str, tuple[object, ...]]:
        """Return when we last changed each object, and its generation; versions are also those of others' statuses."""
        found = {}
        for body in BODIES:
            meta = cluster.access.call("GET", path(body))["metadata"]
            ours = [entry["time"] for entry in meta["managedFields"] if entry["manager"] == "headrace"]
            assert ours, meta["managedFields"]
            found[f"{body['kind']} {ref_of(body)}"] = (meta.get("generation"), *ours)
        return found

    before = versions()
    time.sleep(1.1)  # times are whole seconds
    said = cluster.installed("--no-wait")
    assert f"{len(BODIES)} objects, 0 changed." in said, said
    assert versions() == before


def path(body: Json) -> str:
    ref = ref_of(body)
    return kind_of(body).path(ref.namespace, ref.name)


def test_what_somebody_else_has_set_is_named_and_taken_only_by_force(cluster: Cluster) -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "headrace-admission", "namespace": HOME},
        "spec": {"replicas": 5},
    }
    cluster.access.call("PATCH", f"{path_of(deployment)}?fieldManager=somebody&force=true", deployment, APPLY)
    refused = cluster.install("--no-wait")
    assert refused.returncode == 73, refused.stdout + refused.stderr
    assert f"deployment/{HOME}/headrace-admission" in refused.stderr
    assert "somebody" in refused.stderr
    assert ".spec.replicas" in refused.stderr
    assert cluster.access.call("GET", path_of(deployment))["spec"]["replicas"] == 5
    cluster.installed("--no-wait", "--force")
    assert cluster.access.call("GET", path_of(deployment))["spec"]["replicas"] == 2


def test_all_but_the_volume_driver_passes_pod_security_restricted(cluster: Cluster) -> None:
    """Pods as the workloads make them, into the namespaces as they are labelled there."""
    for space in (HOME, INSTALLATION.node_namespace):
        await_account(cluster, space)
    for body in BODIES:
        if body["kind"] not in {"Deployment", "DaemonSet"}:
            continue
        for space in (HOME, INSTALLATION.node_namespace):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "tried", "namespace": space},
                "spec": {**body["spec"]["template"]["spec"], "serviceAccountName": "default"},
            }
            with cluster.access.client() as client:
                answer = client.post(f"/api/v1/namespaces/{space}/pods?dryRun=All", json=pod)
            is_allowed = space != HOME or body["kind"] == "Deployment"
            assert answer.is_success == is_allowed, answer.text
            if not is_allowed:
                assert "violates PodSecurity" in answer.text


DRY_RUN = "?dryRun=All"
"""Policies are not in force at once: what is let in before must leave nothing that would not be news afterwards."""
CLIENT = {"name": "fluid-fuse-0", "image": "registry.test/client:1", "restartPolicy": "Always"}


def test_nobody_but_an_administrator_gets_into_a_storage_client(cluster: Cluster, space: str) -> None:
    pods = f"/api/v1/namespaces/{space}/pods"
    cluster.access.call("POST", pods, written.pod(space, "p", initContainers=[CLIENT]))
    alone = {key: value for key, value in CLIENT.items() if key != "restartPolicy"}
    cluster.access.call("POST", pods, written.pod(space, "fluid-fuse-digits-abc", containers=[alone]))
    token = cluster.token(space, "edit")
    refusal = "holds its storage's secret"

    def enter(way: str, container: str, token: str | None, pod: str = "p") -> str:
        named = f"container={container}&" if container else ""
        with cluster.access.client(token) as client:
            answer = client.post(f"{pods}/{pod}/{way}?{named}command=sh&stdout=1")
        return str(answer.json()["message"])

    for way in ("exec", "attach"):
        until(lambda way=way: refusal in enter(way, "fluid-fuse-0", token), "the policy holds")  # type: ignore[misc]
        assert refusal not in enter(way, "main", token)
        assert refusal not in enter(way, "fluid-fuse-0", None)
        # A pod that serves a node has one container, which need not be named.
        assert refusal in enter(way, "", token, "fluid-fuse-digits-abc")
        assert refusal not in enter(way, "", None, "fluid-fuse-digits-abc")


def test_nobody_but_an_administrator_debugs_a_storage_client(cluster: Cluster, space: str) -> None:
    body = written.pod(space, "p", initContainers=[CLIENT])
    body["spec"]["volumes"].append({"name": "fluid-fuse-0-secret", "emptyDir": {}})
    cluster.access.call("POST", f"/api/v1/namespaces/{space}/pods", body)
    rule = {"apiGroups": [""], "resources": ["pods", "pods/ephemeralcontainers"], "verbs": ["get", "patch"]}
    meta = {"name": "debugger", "namespace": space}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": [rule]}
    apply(cluster.access, role)
    token = cluster.token(space, "debugger", kind="Role")

    def debug(name: str, token: str | None, **more: object) -> str:
        """Return why not; empty when it was let in."""
        container = {"name": name, "image": "registry.test/debug:1", **more}
        with cluster.access.client(token) as client:
            answer = client.patch(
                f"/api/v1/namespaces/{space}/pods/p/ephemeralcontainers{DRY_RUN}",
                json={"spec": {"ephemeralContainers": [container]}},
                headers={"content-type": "application/strategic-merge-patch+json"},
            )
        return "" if answer.is_success else answer.text

    refusal = "may not join a dataset's client"
    mount = [{"name": "fluid-fuse-0-secret", "mountPath": "/secret"}]
    for more in ({"targetContainerName": "fluid-fuse-0"}, {"volumeMounts": mount}):
        until(lambda more=more: refusal in debug("d", token, **more), "it is refused")  # type: ignore[misc]
    assert debug("d", token, targetContainerName="main") == ""
    assert debug("e", None, targetContainerName="fluid-fuse-0") == ""


def test_what_holds_a_shared_claim_cannot_be_taken_off_by_its_owner(cluster: Cluster, space: str) -> None:
    claims = f"/api/v1/namespaces/{space}/persistentvolumeclaims"
    for name, profile in (("shared", "some"), ("private", "")):
        cluster.access.call("POST", claims, written.claim(space, name, profile=profile))
    token = cluster.token(space, "edit")

    def let_go(name: str, token: str | None) -> int:
        with cluster.access.client(token) as client:
            patch = {"metadata": {"finalizers": None}}
            answer = client.patch(f"{claims}/{name}{DRY_RUN}", json=patch, headers={"content-type": MERGE})
        return answer.status_code

    until(lambda: cluster.access.call("GET", f"{claims}/shared")["metadata"].get("finalizers"), "is held")
    until(lambda: let_go("shared", token) == 403, "the policy holds")
    assert let_go("private", token) == 200
    assert let_go("shared", None) == 200


def test_users_may_do_with_jobs_what_they_may_do_with_deployments(cluster: Cluster, space: str) -> None:
    cluster.token(space, "edit")
    user = f"{ACCOUNTS}:{space}:default"
    until(lambda: cluster.may(user, "create", "headrace.io", "trainjobs", space), "the role is aggregated")
    assert cluster.may(user, "delete", "data.fluid.io", "datasets", space)
    assert not cluster.may(user, "create", "headrace.io", "trainjobs", "default")
    assert cluster.may(user, "list", "headrace.io", "pools")
    assert not cluster.may(user, "create", "headrace.io", "pools")
    assert not cluster.may(user, "bypass", "headrace.io", "policies", space)


def test_a_project_is_made_and_stays_one(cluster: Cluster) -> None:
    name = f"vision-{secrets.token_hex(3)}"
    cluster.installed("--no-wait", "--project", name)
    said = cluster.installed("--no-wait", "--project", name)
    assert " 0 changed." in said, said
    assert "headrace.io/project" in cluster.access.call("GET", f"/api/v1/namespaces/{name}")["metadata"]["labels"]
    controller = f"{ACCOUNTS}:{HOME}:headrace-controller"
    assert cluster.may(controller, "list", "", "secrets", name)
    assert not cluster.may(controller, "list", "", "secrets")


def test_out_means_out_but_for_user_data(cluster: Cluster) -> None:
    """The webhooks that nobody serves here are gone first, so the user's objects can be written afterwards."""
    project, dataset = f"vision-{secrets.token_hex(3)}", f"kept-{secrets.token_hex(3)}"
    cluster.installed("--no-wait", "--project", project)
    cluster.installed("--uninstall")
    cluster.installed("--no-wait", "--project", project)
    webhooks = "/apis/admissionregistration.k8s.io/v1"
    for kind in ("mutating", "validating"):
        cluster.access.call("DELETE", f"{webhooks}/{kind}webhookconfigurations/headrace")
    datasets = f"/apis/data.fluid.io/v1alpha1/namespaces/{project}/datasets"
    meta = {"name": dataset, "namespace": project, "finalizers": ["fluid-dataset-controller-finalizer"]}
    body: Json = {"apiVersion": written.FLUID, "kind": "Dataset", "metadata": meta, "spec": {}}
    until(lambda: created(cluster, datasets, body), "the webhooks are forgotten")
    said = cluster.installed("--uninstall")
    assert "datasets.data.fluid.io (1)" in said
    assert "persistentvolumeclaim/headrace-ledger" in said
    kept = {
        "customresourcedefinitions.apiextensions.k8s.io datasets.data.fluid.io",
        f"namespaces {HOME}",
        "persistentvolumeclaims headrace-ledger",
    }
    until(lambda: cluster.there() == kept, "only user data is left", cluster.there)
    cluster.access.call("DELETE", f"{datasets}/{dataset}")
    gone(cluster.access, f"{datasets}/{dataset}")
    cluster.access.call("DELETE", f"/api/v1/namespaces/{project}")
    gone(cluster.access, f"/api/v1/namespaces/{project}")
    cluster.installed("--uninstall", "--purge")
    until(lambda: not cluster.there(), "nothing is left", cluster.there)
    assert cluster.installed("--uninstall") == ""


def created(cluster: Cluster, collection: str, body: Json) -> bool:
    with cluster.access.client() as client:
        return client.post(collection, json=body).is_success


def test_a_database_that_is_not_told_of_is_said_first(bare: Cluster) -> None:
    done = bare.install("--database-secret", "nowhere", "--no-wait")
    assert done.returncode == 66
    assert "kubectl create secret generic nowhere" in done.stderr
