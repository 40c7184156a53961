"""A sidecar without privilege on a real kubelet: what starts, what is seen, how it heals, and what is left.

The rows are those of docs/design.md, section 5 (recovery, injection): each was seen to go wrong in some other design. Which
is which test: docs/volume-driver.md, "What is proved, and where".
"""

from __future__ import annotations

import pytest
from tests.kubernetes.csi.site import DEADLINE_S, SERVED_WITHIN_S, Site

from headrace.data.client import ResolvedDataset
from headrace.spec.kind import Json

RCLONE = ("sh", "-c", 'exec rclone mount --config /dev/null --allow-non-empty :local:/srv "$MOUNT_POINT"')
WRITABLE = ("sh", "-c", 'mkdir -p /tmp/s; exec rclone mount --config /dev/null --allow-non-empty :local:/tmp/s "$MOUNT_POINT"')  # fmt: skip
JUICEFS = (
    "sh",
    "-c",
    (
        "test -e /tmp/meta || juicefs format --storage file --bucket /tmp/o/ sqlite3:///tmp/meta vol || exit 1; "
        "exec juicefs --no-agent mount --no-usage-report --hide-internal --cache-dir /tmp/c --metrics 127.0.0.1:0 "
        'sqlite3:///tmp/meta "$MOUNT_POINT"'
    ),
)
# Opens a file again and again and says each outcome that differs from the one before.
READER = """
while :; do
  now=$(cat /data/file 2>&1); test "$now" = "$last" || echo "$now"; last="$now"; sleep 0.2 2>/dev/null || sleep 1
done
"""
# Ends two seconds after it is told to: its client must outlive it.
READS_TO_ITS_END = (
    'trap "sleep 2; cat /data/file && echo read to the end; exit 0" TERM; echo ready; while :; do sleep 0.2; done'
)
DATA = {"set": {"mountPath": "/data"}}


def says(site: Site, pod: str, word: str) -> None:
    site.until(lambda: word in site.logs(pod).splitlines()[-1:], f"{pod} says {word}", pod)


def reading(site: Site, dataset: ResolvedDataset, name: str = "p") -> str:
    site.run(site.pod(name, READER, DATA, dataset))
    says(site, name, "content")
    return name


@pytest.mark.parametrize("command", [RCLONE], ids=["rclone"])
def test_an_app_reads_what_an_unprivileged_client_serves(site: Site, command: tuple[str, ...]) -> None:
    dataset = site.dataset("set", command)
    script = "cat /data/file; cat /data/sub/inner; grep ' /data ' /proc/self/mountinfo; grep CapEff /proc/self/status"
    site.run(site.pod("p", script, DATA, dataset))
    assert site.ends("p") == "Succeeded", site.events("p")
    said = site.logs("p")
    assert said.startswith("content\ninner\n")
    assert " - fuse.rclone " in said
    assert "CapEff:\t0000000000000000" in said
    uid = site.uid("p")
    site.until(lambda: not site.mounts_of(uid), "nothing is mounted any more")
    assert site.status("p", "fluid-fuse-0")["restartCount"] == 0


def test_sub_paths_several_containers_and_init_containers_see_it(site: Site) -> None:
    dataset = site.dataset("set", RCLONE)
    pod = site.pod(
        "p", "cat /data/inner", {"set": {"mountPath": "/data", "subPath": "sub"}}, dataset, init="cat /data/inner"
    )
    pod["spec"]["containers"].append({**pod["spec"]["containers"][0], "name": "second"})
    site.run(pod)
    assert site.ends("p") == "Succeeded", site.events("p")
    assert [site.logs("p", each) for each in ("first", "main", "second")] == ["inner\n"] * 3


def test_a_read_only_dataset_is_read_only_whatever_its_client_asks(site: Site) -> None:
    dataset = site.dataset("set", WRITABLE)
    pod = site.pod("p", "echo x > /data/new", DATA, dataset)
    sidecar = pod["spec"]["initContainers"][0]
    sidecar["env"] = [each for each in sidecar["env"] if each["name"] != "MOUNT_OPTIONS"]
    for container in pod["spec"]["containers"]:
        for mount in container["volumeMounts"]:
            mount.pop("readOnly", None)
    site.run(pod)
    assert site.ends("p") == "Failed"
    assert "Read-only file system" in site.logs("p")


@pytest.mark.parametrize("command", [WRITABLE, JUICEFS], ids=["rclone", "juicefs"])
def test_what_is_written_can_be_read_and_a_pod_may_ask_for_less(site: Site, command: tuple[str, ...]) -> None:
    dataset = site.dataset("set", command, writable=True)
    site.run(site.pod("writes", "echo written > /data/new && cat /data/new", DATA, dataset))
    assert site.ends("writes") == "Succeeded", (site.events("writes"), site.logs("writes"))
    assert site.logs("writes") == "written\n"
    only = {"set": {"mountPath": "/data", "readOnly": True}}
    site.run(site.pod("reads", "ls /data && echo x > /data/new", only, dataset))
    assert site.ends("reads") == "Failed"
    assert "Read-only file system" in site.logs("reads")


@pytest.mark.parametrize(
    "client",
    [("sleep", "600"), ("false",), ("sh", "-c", 'exec silent "$MOUNT_POINT"')],
    ids=["never mounts", "ends at once", "mounts and never serves"],
)
def test_no_app_starts_over_what_nobody_serves_and_the_pod_can_be_deleted(site: Site, client: tuple[str, ...]) -> None:
    dataset = site.dataset("set", client)
    site.run(site.pod("p", "echo started", {"set": {"mountPath": "/data", "subPath": "sub"}}, dataset))
    sidecar = site.until(lambda: site.status("p", "fluid-fuse-0"), "the kubelet knows the client", "p")
    if client[0] == "sh":
        site.until(lambda: "mounted" in site.logs("p", "fluid-fuse-0"), "the client has its mount", "p")
        assert len(site.fuse_mounts("p")) == 1
    elif client[0] == "false":
        site.until(lambda: site.status("p", "fluid-fuse-0")["restartCount"] > 0, "the client ends", "p")
    else:
        site.until(lambda: "running" in site.status("p", "fluid-fuse-0")["state"], "the client runs", "p")
    assert not sidecar.get("started")
    assert "running" not in site.status("p", "main")["state"]
    assert site.status("p", "main")["restartCount"] == 0
    assert site.hanging() == []
    uid = site.uid("p")
    site.delete("p")
    assert site.hanging() == []
    site.until(lambda: not site.mounts_of(uid), "nothing is mounted any more")


def test_who_passes_by_the_probe_waits_no_longer_than_the_deadline(site: Site) -> None:
    dataset = site.dataset("set", ("sh", "-c", 'exec silent "$MOUNT_POINT"'))
    pod = site.pod("p", "cat /data/file", {"set": {"mountPath": "/data", "subPath": "sub"}}, dataset)
    for probe in ("startupProbe", "livenessProbe"):
        del pod["spec"]["initContainers"][0][probe]
    # Nothing else would hold the app back until there is a mount to wait in.
    look = {"name": "fluid-fuse-0-data", "mountPath": "/look", "mountPropagation": "HostToContainer"}
    script = "until grep -q ' /look/ds ' /proc/self/mountinfo; do sleep 1; done"
    main = pod["spec"]["containers"][0]
    first = {**main, "name": "first", "command": ["sh", "-c", script], "volumeMounts": [look]}
    pod["spec"]["initContainers"].append(first)
    site.run(pod)
    site.until(site.hanging, "the kubelet waits in the mount: its sub-path is looked at", "p")
    site.until(lambda: not site.hanging(), "the connection was ended", "p", deadline_s=4 * SERVED_WITHIN_S)
    assert "running" not in site.status("p", "main").get("state", {})
    site.delete("p")
    assert site.hanging() == []


def test_a_kubelet_that_starts_again_over_a_dead_mount_hangs_nowhere(site: Site) -> None:
    dataset = site.dataset("set", RCLONE)
    reading(site, dataset)
    kubelet = site.stop_kubelet()
    site.kill("p", "rclone")
    site.until(lambda: site.logs_on_node("p")[-1:] != ["content"], "the app sees an error", "")
    site.start_kubelet(kubelet)
    site.until(lambda: len(site.fuse_mounts("p")) == 2, "the client was started again", "p")
    says(site, "p", "content")
    assert site.hanging() == []
    site.delete("p")


def test_a_killed_client_heals_for_a_running_app_and_the_other_pod_notices_nothing(site: Site) -> None:
    dataset = site.dataset("set", RCLONE)
    reading(site, dataset, "one")
    reading(site, dataset, "other")
    [mount] = site.fuse_mounts("one")
    assert "nosuid,nodev" in mount
    for times in (1, 2):
        site.kill("one", "rclone")
        site.until(lambda n=times: len(site.fuse_mounts("one")) == n + 1, "a new client mounts on top", "one")  # type: ignore[misc]
        says(site, "one", "content")
    said = site.logs("one").splitlines()
    assert len(said) >= 3
    assert all("not connected" in line or "abort" in line for line in said if line != "content"), said
    assert site.logs("other") == "content\n"
    assert len(site.fuse_mounts("other")) == 1
    assert site.status("one", "fluid-fuse-0")["restartCount"] == 2
    assert site.status("one", "main")["restartCount"] == 0


def test_juicefs_killed_whole_heals_too(site: Site) -> None:
    dataset = site.dataset("set", JUICEFS, writable=True)
    site.run(site.pod("p", f"echo content > /data/file; {READER}", DATA, dataset))
    says(site, "p", "content")
    site.kill("p", "juicefs")
    site.until(lambda: len(site.fuse_mounts("p")) == 2, "a new client mounts on top", "p")
    says(site, "p", "content")
    assert site.status("p", "main")["restartCount"] == 0


def test_pods_that_come_together_get_each_its_own_and_leave_nothing(site: Site) -> None:
    dataset = site.dataset("set", RCLONE)
    before = site.driver_directory()
    names = [f"p{number}" for number in range(8)]
    for name in names:
        site.run(site.pod(name, "cat /data/file", DATA, dataset))
    for name in names:
        assert site.ends(name) == "Succeeded", (site.events(name), site.driver_logs())
        assert site.logs(name) == "content\n"
    uids = [site.uid(name) for name in names]
    site.until(lambda: not any(site.mounts_of(uid) for uid in uids), "nothing is mounted any more")
    site.until(lambda: site.driver_directory() == before, "the driver has forgotten them")


def test_a_driver_that_is_restarted_disturbs_no_reader_and_clients_wait_for_it(site: Site) -> None:
    dataset = site.dataset("set", RCLONE)
    reading(site, dataset)
    site.restart_driver()
    site.kill("p", "rclone")
    site.run(site.pod("new", "cat /data/file", DATA, dataset))
    site.until(lambda: len(site.fuse_mounts("p")) == 2, "the client got its mount from the new driver", "p")
    says(site, "p", "content")
    assert site.ends("new") == "Succeeded", site.events("new")
    assert site.logs("p").splitlines()[0] == "content"


def test_other_users_read_and_a_group_writes_where_the_client_grants_it(site: Site) -> None:
    command = WRITABLE[2].replace("--config", "--gid 2000 --umask 002 --config")
    dataset = site.dataset("set", ("sh", "-c", command), writable=True)
    script = "echo x > /data/new && cat /data/new; ls -ln /data/new | tr -s ' ' | cut -d' ' -f3,4"
    for name, groups in (("member", [2000]), ("stranger", [3000])):
        user = {"runAsUser": 1000, "runAsGroup": 1000, "supplementalGroups": groups, "fsGroup": groups[0]}
        pod = site.pod(name, script, DATA, dataset, securityContext=user)
        del pod["spec"]["containers"][0]["securityContext"]["runAsUser"]
        site.run(pod)
        assert site.ends(name) == "Succeeded", (site.events(name), site.logs(name))
    assert site.logs("member") == "x\n65534 2000\n"
    assert "Permission denied" in site.logs("stranger")


def test_an_app_that_is_evicted_reads_to_its_end(site: Site) -> None:
    dataset = site.dataset("set", RCLONE)
    site.run(site.pod("p", READS_TO_ITS_END, DATA, dataset, terminationGracePeriodSeconds=20))
    says(site, "p", "ready")
    said = site.following("p")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": site.namespace}}
    site.access.call("POST", site.path("pods", "p/eviction"), eviction)
    assert said().endswith("content\nread to the end\n"), said()


def test_nothing_is_left_of_a_deleted_pod(site: Site) -> None:
    before = site.driver_directory()
    dataset = site.dataset("set", RCLONE)
    reading(site, dataset)
    uid = site.uid("p")
    assert len(site.driver_directory()) == len(before) + 3
    site.delete("p")
    site.until(lambda: not site.mounts_of(uid), "nothing is mounted any more")
    site.until(lambda: site.driver_directory() == before, "the driver has forgotten the pod")
    site.until(
        lambda: uid not in site.on_node("ls", "/var/lib/kubelet/pods").split(), "the kubelet removed its directory"
    )


def _inline(site: Site, name: str, **attributes: str) -> Json:
    return {"name": name, "csi": {"driver": "fuse.headrace.io", "volumeAttributes": attributes}}


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        (
            {"dataset": "set", "csi.storage.k8s.io/pod.namespace": "victim"},
            "also sets csi.storage.k8s.io/pod.namespace",
        ),
        ({"dataset": "set", "mountOptions": "suid,dev"}, "also sets mountOptions"),
        ({"dataset": "set", "namespace": "victim"}, "also sets namespace"),
        ({"dataset": "none"}, "its namespace has none of this name"),
        ({"dataset": "../victim/set"}, "its namespace has none of this name"),
        ({}, "needs the attributes dataset"),
    ],
)
def test_forged_attributes_and_foreign_datasets_are_refused_in_a_sentence(
    site: Site, victim: str, attributes: dict[str, str], says: str
) -> None:
    site.dataset("set", RCLONE)
    attributes = {key: value.replace("victim", victim) for key, value in attributes.items()}
    pod = site.pod("p", "echo started", {})
    pod["spec"]["volumes"] = [_inline(site, "v", role="data", **attributes)]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/data"}]
    site.run(pod)
    site.until(lambda: says in site.events("p"), f"the pod's event says: {says}", "p", deadline_s=DEADLINE_S)
    assert "running" not in site.status("p", "main").get("state", {})
    site.delete("p")


@pytest.fixture
def victim(site: Site) -> str:
    """A namespace with a Dataset `set` and `secret` that the test's own may not have."""
    other = Site(site.access, site.own, site.node, "default")
    name = f"victim-{site.namespace}"
    site.access.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    other.dataset("set", RCLONE, namespace=name)
    return name


def test_a_dataset_of_another_namespace_is_not_there(site: Site, victim: str) -> None:
    pod = site.pod("p", "echo started", {})
    pod["spec"]["volumes"] = [_inline(site, "v", role="data", dataset="set")]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/data"}]
    site.run(pod)
    site.until(lambda: "asks for Dataset set, and its namespace has none" in site.events("p"), "it is refused", "p")
    site.delete("p")
