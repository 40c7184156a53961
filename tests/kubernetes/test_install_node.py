"""A whole installation on a real node: one command, and a pod of a project reads what a labelled claim says.

The image is what the Containerfile makes. On a cluster of its own, because an installation is the whole cluster's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.kubernetes import objects as written
from tests.kubernetes.access import Access
from tests.kubernetes.cluster import images
from tests.kubernetes.cluster.temporary import temporary
from tests.kubernetes.containerfile import containerfile_image
from tests.kubernetes.csi.driver_image import IMAGE
from tests.kubernetes.csi.site import RESTRICTED, Site, client_image
from tests.kubernetes.fixtures import made_or_skipped, ready_nodes
from tests.kubernetes.roles import MERGE, apply, gone, until
from tests.kubernetes.test_install import HOME, Cluster

from headrace.data.wrapper.objects import dataset_ref
from headrace.spec.kind import Json, Ref

PROJECT, POOL, PROFILE = "vision", "brokered", "starfs-profile"
FLUID = f"/apis/{written.FLUID}/namespaces/{PROJECT}"
LEDGER_PLACE = "/var/lib/kubelet/ledger"
SERVES = ["sh", "-c", 'exec rclone mount --config /dev/null --allow-non-empty :local:/srv "$MOUNT_POINT"']


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A node with everything installed and ready."""
    place: Path = tmp_path_factory.mktemp("installed")
    with temporary(place / "cluster", calls_pods=True) as own:
        made_or_skipped(own.start)
        node = made_or_skipped(own.add_node)
        access = Access(own.kubeconfig)
        until(lambda: node in ready_nodes(access), "the node is Ready")
        image = made_or_skipped(lambda: containerfile_image(place, IMAGE))
        for archive in (client_image(place), image):
            own.import_image(archive)
            archive.unlink()
        Site(access, own, node, HOME).on_node("mkdir", "-m", "0777", LEDGER_PLACE)
        apply(access, ledger_volume())
        made = Cluster(access, image=IMAGE)
        label = {"metadata": {"labels": {"node-restriction.kubernetes.io/headrace-pool": POOL}}}
        access.call("PATCH", f"/api/v1/nodes/{node}", label, MERGE)
        server = urlsplit(access.url)
        reached = ("--api-server", f"{server.hostname}:{server.port}")
        done = made.install(*reached, "--project", PROJECT, "--timeout", "3m")
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}\n{about(Site(access, own, node, HOME))}"
        yield made
        leaves_nothing_that_waits(made)


def leaves_nothing_that_waits(cluster: Cluster) -> None:
    """Take everything out of a cluster in which it works; what the user has then can be deleted without it."""
    cluster.installed("--uninstall")
    space = f"/api/v1/namespaces/{PROJECT}"
    cluster.access.call("DELETE", space)
    gone(cluster.access, space)
    cluster.installed("--uninstall", "--purge")
    until(lambda: not cluster.there(), "nothing is left", cluster.there)


def ledger_volume() -> Json:
    """The volume that a storage class would make."""
    spec: Json = {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": HOME, "name": "headrace-ledger"},
        "hostPath": {"path": LEDGER_PLACE},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "ledger"}, "spec": spec}


def about(site: Site) -> str:
    """Return what a person would look at."""
    words = [("get", "pods", "-A", "-o", "wide"), ("get", "events", "-A")]
    words += [("logs", "-n", HOME, f"deployment/headrace-{part}", "--tail=30") for part in ("controller", "admission")]
    return "\n".join(site.kubectl(*each).stdout[-4000:] for each in words)


def test_a_claim_that_is_labelled_is_read_by_a_pod_of_the_project(cluster: Cluster) -> None:
    access = cluster.access
    client = {"image": "headrace.test/client", "imageTag": "1", "command": SERVES}
    profile = written.profile(PROFILE, fileSystemType="rclone", fuse=client)
    pool = written.pool(
        POOL, nodes={"selector": {"node-restriction.kubernetes.io/headrace-pool": POOL}}, dataAccess={"mode": "broker"}
    )
    volume, claim = written.volume(PROJECT, "digits"), written.claim(PROJECT, "digits", profile=PROFILE)
    apply(access, profile, pool, written.secret(PROJECT, "jfs"), volume, claim)
    dataset = f"{FLUID}/datasets/{dataset_ref(Ref(PROJECT, 'digits')).name}"

    def phase() -> str:
        with access.client() as client:
            answer = client.get(dataset)
        return str((answer.json().get("status") or {}).get("phase")) if answer.is_success else ""

    until(lambda: phase() == "Bound", "the claim has its Dataset, which is Bound", phase)
    until(
        lambda: is_verified(access.call("GET", dataset)), "its mount is verified", lambda: access.call("GET", dataset)
    )
    pod = written.pod(
        PROJECT,
        "reader",
        "digits",
        nodeSelector={"node-restriction.kubernetes.io/headrace-pool": POOL},
        restartPolicy="Never",
        terminationGracePeriodSeconds=1,
    )
    [main] = pod["spec"]["containers"]
    reads = ["sh", "-c", "cat /digits/file; until test -e /tmp/end; do sleep 0.1; done"]
    main |= {"image": images.BUSYBOX, "command": reads, "securityContext": RESTRICTED}
    made = access.call("POST", f"/api/v1/namespaces/{PROJECT}/pods", pod)
    assert made["spec"]["initContainers"][0]["name"] == "fluid-fuse-0"
    path = f"/api/v1/namespaces/{PROJECT}/pods/reader"

    def status() -> Json:
        found: Json = access.call("GET", path)["status"]
        return found

    def told() -> str:
        events = access.call("GET", f"/api/v1/namespaces/{PROJECT}/events")["items"]
        return json.dumps(status(), indent=1) + "\n".join(event["message"] for event in events)

    def said() -> str:
        with access.client() as http:
            return http.get(f"{path}/log?container=main").text

    until(lambda: said() == "content\n", "it has read through its client", told)
    claims = f"/api/v1/namespaces/{PROJECT}/persistentvolumeclaims/digits"
    access.call("DELETE", claims)
    until(lambda: access.call("GET", claims)["metadata"].get("deletionTimestamp"), "the claim is to go")
    assert access.call("GET", claims)["metadata"]["finalizers"], "nothing holds it, and it is in use"
    access.call("DELETE", path)
    gone(access, path)
    gone(access, claims)


def is_verified(dataset: Json) -> bool:
    conditions = (dataset.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "MountVerified" and c["status"] == "True" for c in conditions)


def test_the_command_line_is_answered_by_the_installation(cluster: Cluster) -> None:
    names = {entry["name"] for entry in cluster.access.call("GET", "/apis/reads.headrace.io/v1alpha1")["resources"]}
    assert "trainjobs/waiting" in names


def test_again_changes_nothing_while_everything_runs(cluster: Cluster) -> None:
    """What the running controllers have written, such as whom to trust, is nobody's to take back."""
    server = urlsplit(cluster.access.url)
    said = cluster.installed("--api-server", f"{server.hostname}:{server.port}", "--project", PROJECT)
    assert " 0 changed." in said, said
