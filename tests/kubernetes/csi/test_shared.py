"""Plain Datasets on a real node: pods mount their claims, and one client a node serves them all.

Which row of what was tried is which test: docs/volume-driver.md, "What is proved, and where".
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kubernetes import roles
from tests.kubernetes.csi.site import NODE_MOUNTS, SYSTEM, Site
from tests.kubernetes.csi.test_inline import DATA, RCLONE, READER, READS_TO_ITS_END, WRITABLE, says

from headrace.spec.kind import Json

HEALS = {"set": {"mountPath": "/data", "mountPropagation": "HostToContainer"}}


def _reading(site: Site, name: str) -> str:
    site.run(site.pod(name, READER, HEALS))
    says(site, name, "content")
    return name


def _client(site: Site) -> str:
    """Return the name of the one client's pod."""
    [client] = site.clients()
    return client


def _is_over(site: Site) -> None:
    """Wait until nothing is asked for, no client runs, and nothing is left on the node."""
    site.until(lambda: not site.node_mounts(), "nothing is asked for")
    site.until(lambda: not site.clients(), "the client is gone")
    site.until(lambda: not site.shared_notes(), "the driver has forgotten it")


def test_a_pod_reads_by_the_claim_of_a_datasets_name(project: Site) -> None:
    project.plain_dataset("set", RCLONE)
    script = "cat /data/file; cat /data/sub/inner; grep ' /data ' /proc/self/mountinfo; grep CapEff /proc/self/status"
    below = {"set": {"mountPath": "/data", "subPath": "sub"}}
    sub = project.pod("sub", "cat /data/inner", below, init="cat /data/inner")
    project.run(project.pod("p", script, DATA))
    project.run(sub)
    for name in ("p", "sub"):
        assert project.ends(name) == "Succeeded", project.about(name)
    said = project.logs("p")
    assert said.startswith("content\ninner\n")
    assert " - fuse.rclone " in said
    assert "CapEff:\t0000000000000000" in said
    assert project.get("p")["spec"].get("initContainers") is None
    assert [project.logs("sub", each) for each in ("first", "main")] == ["inner\n"] * 2
    uids = [project.uid(name) for name in ("p", "sub")]
    project.until(lambda: not any(project.mounts_of(uid) for uid in uids), "nothing is mounted any more")
    _is_over(project)


def test_pods_share_a_client_that_heals_and_goes_with_the_last_of_them(project: Site) -> None:
    project.plain_dataset("set", RCLONE)
    names = [_reading(project, name) for name in ("one", "two", "three")]
    client = _client(project)
    assert [each["status"]["client"]["name"] for each in project.node_mounts()] == [client]
    [mount] = project.fuse_at("one")
    assert "nosuid,nodev" in mount
    assert mount.split(" ")[5].startswith("ro,"), mount
    project.kill(client, "rclone")
    for name in names:
        project.until(lambda n=name: len(project.fuse_at(n)) == 2, "a new mount on top", name)  # type: ignore[misc]
        says(project, name, "content")
    # A stack of mounts that goes from one pod must not go from the others.
    uid = project.uid("one")
    project.delete("one")
    project.until(lambda: not project.mounts_of(uid), "nothing of it is mounted any more")
    assert len(project.fuse_at("two")) == len(project.fuse_at("three")) == 2
    project.run(project.pod("late", "cat /data/file", DATA))
    assert project.ends("late") == "Succeeded", project.about("late")
    assert _client(project) == client
    # The pod itself is replaced: its mount is another one.
    project.access.call("DELETE", project.path("pods", client) + "?gracePeriodSeconds=0")
    for name in names[1:]:
        project.until(lambda n=name: "content" not in project.logs(n).splitlines()[-1:], "it sees an error", name)  # type: ignore[misc]
    for name in names[1:]:
        says(project, name, "content")
        assert project.status(name, "main")["restartCount"] == 0
    assert _client(project) != client
    for name in names[1:]:
        project.delete(name)
    _is_over(project)


def test_a_driver_that_is_restarted_disturbs_nobody(project: Site) -> None:
    project.plain_dataset("set", RCLONE)
    _reading(project, "p")
    project.restart_driver()
    project.kill(_client(project), "rclone")
    project.run(project.pod("new", "cat /data/file", DATA))
    assert project.ends("new") == "Succeeded", project.about("new")
    says(project, "p", "content")
    assert project.status("p", "main")["restartCount"] == 0
    project.delete("p")
    project.delete("new")
    _is_over(project)


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (("sh", "-c", "echo no such bucket >&2; exit 3"), "no such bucket"),
        (("sh", "-c", "echo waiting for the storage; exec sleep 600"), "was not served within"),
        (("sh", "-c", 'exec silent "$MOUNT_POINT"'), "was not served within"),
    ],
    ids=["ends at once", "never mounts", "mounts and never serves"],
)
def test_no_app_starts_over_what_nobody_serves(project: Site, client: tuple[str, ...], words: str) -> None:
    project.plain_dataset("set", client)
    project.run(project.pod("p", "echo started", {"set": {"mountPath": "/data", "subPath": "sub"}}))
    project.until(lambda: words in project.events("p"), f"the pod's event says: {words}", "p")
    assert "running" not in project.status("p", "main").get("state", {})
    assert project.hanging() == []
    project.delete("p")
    _is_over(project)
    assert project.hanging() == []


def test_readers_and_writers_have_clients_of_their_own(project: Site) -> None:
    # Two clients of /tmp would not see each other's files: it is about rights here.
    project.plain_dataset("set", WRITABLE, writable=True)
    project.run(project.pod("writes", "echo written > /data/new && cat /data/new", DATA))
    only = {"set": {"mountPath": "/data", "readOnly": True}}
    project.run(project.pod("reads", "echo x > /data/new; grep ' /data ' /proc/self/mountinfo; sleep 1", only))
    for name in ("writes", "reads"):
        project.until(lambda n=name: project.phase(n) != "Pending", f"{name} runs", name)  # type: ignore[misc]
    assert project.ends("writes") == "Succeeded", project.about("writes")
    assert project.ends("reads") == "Succeeded", project.about("reads")
    assert project.logs("writes") == "written\n"
    [refusal, mount] = project.logs("reads").splitlines()
    assert "Read-only file system" in refusal
    assert mount.split(" - ")[1].split(" ")[2].startswith("ro,"), "the file system itself is read-only"
    _is_over(project)


def test_a_kubelet_that_starts_again_over_a_dead_mount_hangs_nowhere(project: Site) -> None:
    project.plain_dataset("set", RCLONE)
    _reading(project, "p")
    client = _client(project)
    kubelet = project.stop_kubelet()
    project.kill(client, "rclone")
    project.until(lambda: project.logs_on_node("p")[-1:] != ["content"], "the app sees an error", "")
    project.start_kubelet(kubelet)
    says(project, "p", "content")
    assert project.hanging() == []
    project.delete("p")
    _is_over(project)


def test_claim_and_dataset_in_use_are_held_until_the_last_pod_has_gone(project: Site) -> None:
    project.plain_dataset("set", RCLONE)
    _reading(project, "p")
    dataset = f"/apis/data.fluid.io/v1alpha1/namespaces/{project.namespace}/datasets/set"
    claim = project.path("persistentvolumeclaims", "set")
    volume = f"/api/v1/persistentvolumes/{project.access.call('GET', claim)['spec']['volumeName']}"
    project.access.call("DELETE", claim)
    project.access.call("DELETE", dataset)
    project.until(
        lambda: "It goes when these pods have ended" in json.dumps(project.access.call("GET", dataset)["status"]),
        "the Dataset says who uses it",
    )
    assert project.access.call("GET", claim)["metadata"]["finalizers"]
    project.kill(_client(project), "rclone")
    says(project, "p", "content")
    project.delete("p")
    for path in (claim, volume, dataset):
        roles.gone(project.access, path)
    _is_over(project)


@pytest.fixture
def foreign(project: Site) -> Iterator[str]:
    """A PersistentVolume and claim of the project that name another namespace's Dataset."""
    other = f"victim-{project.namespace}"
    project.access.call("POST", "/api/v1/namespaces", {"metadata": {"name": other}})
    project.plain_dataset("set", RCLONE, namespace=other)
    name = f"forged-{project.namespace}"
    attributes = {"dataset": "set", "namespace": other}
    spec: Json = {
        "accessModes": ["ReadOnlyMany"],
        "capacity": {"storage": "1Gi"},
        "storageClassName": "forged",
        "claimRef": {"namespace": project.namespace, "name": "set"},
        "csi": {"driver": "fuse.headrace.io", "volumeHandle": name, "volumeAttributes": attributes},
    }
    claim = {
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": "forged",
        "volumeName": name,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    meta = {"name": name}
    project.access.call("POST", "/api/v1/persistentvolumes", {"metadata": meta, "spec": spec})
    project.access.call("POST", project.path("persistentvolumeclaims"), {"metadata": {"name": "set"}, "spec": claim})
    yield name
    project.access.call("DELETE", f"/api/v1/namespaces/{other}")
    project.delete_profiles(other)


def test_a_volume_of_another_namespaces_dataset_is_refused(project: Site, foreign: str) -> None:
    project.run(project.pod("p", "echo started", DATA))
    project.until(lambda: "Datasets of its own namespace only" in project.events("p"), "it is refused", "p")
    assert not project.clients()
    project.delete("p")
    project.access.call("DELETE", project.path("persistentvolumeclaims", "set"))
    project.access.call("DELETE", f"/api/v1/persistentvolumes/{foreign}")


def test_a_drained_node_lets_readers_read_to_their_end_and_keeps_nothing(project: Site) -> None:
    project.plain_dataset("set", RCLONE)
    project.run(project.pod("p", READS_TO_ITS_END, HEALS, terminationGracePeriodSeconds=20))
    says(project, "p", "ready")
    follow = project.following("p")
    try:
        done = project.kubectl("drain", project.node, "--ignore-daemonsets", "--force", "--timeout=60s")
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "fluid-fuse" not in done.stdout.replace("ignoring DaemonSet-managed", ""), done.stdout
        assert "read to the end" in follow(), follow()
        _is_over(project)
    finally:
        project.kubectl("uncordon", project.node)


def test_what_a_node_that_is_gone_asked_for_goes_too(project: Site) -> None:
    name = f"ghost-{secrets.token_hex(3)}"
    node = f"/api/v1/nodes/{name}"
    dataset = {"namespace": project.namespace, "name": "set"}
    project.access.call("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    body = {"metadata": {"name": name}, "spec": {"nodeName": name, "dataset": dataset}}
    project.access.call("POST", NODE_MOUNTS, {"apiVersion": "headrace.io/v1alpha1", "kind": "NodeMount", **body})
    path = f"{NODE_MOUNTS}/{name}"
    project.until(lambda: "NotInUse" in json.dumps(project.access.call("GET", path)), "nobody gives it a client")
    project.access.call("DELETE", node)
    roles.gone(project.access, path)


def test_a_driver_asks_for_its_own_node_only(project: Site, tmp_path: Path) -> None:
    driver = project.driver_pod()
    assert driver is not None
    bound = {"kind": "Pod", "apiVersion": "v1", "name": driver["metadata"]["name"], "uid": driver["metadata"]["uid"]}
    path = project.path("serviceaccounts", "headrace-node/token", namespace=SYSTEM)
    request = {"spec": {"boundObjectRef": bound}, "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    token = project.access.call("POST", path, request)["status"]["token"]
    dataset = {"namespace": project.namespace, "name": "none"}
    with project.access.client(token) as client:
        for node, status in ((project.node, 201), ("another", 422)):
            spec = {"nodeName": node, "dataset": dataset}
            meta = {"name": f"{node}-{project.namespace}"}
            body = {"apiVersion": "headrace.io/v1alpha1", "kind": "NodeMount", "metadata": meta, "spec": spec}
            answer = client.post(NODE_MOUNTS, json=body)
            assert answer.status_code == status or (status == 422 and answer.status_code == 403), answer.text
        assert "own node only" in answer.text
        assert client.post(project.path("pods"), json={}).status_code in (400, 403)
        assert client.get(project.path("secrets")).status_code == 403
        assert client.delete(f"{NODE_MOUNTS}/{project.node}-{project.namespace}").is_success
