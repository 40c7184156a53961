"""The driver installed once in the run's own cluster, and a restricted namespace for each test."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kubernetes import roles
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.csi.driver_image import driver_image
from tests.kubernetes.csi.site import SYSTEM, Site, client_image, install_driver
from tests.kubernetes.fixtures import unavailable, wait
from tests.native import compiled

from headrace.install.names import CONTROLLER
from headrace.ledger.database import file_url

HOME = "headrace-system"


@pytest.fixture(scope="session")
def driver(
    own_kubernetes: OwnCluster | None,
    kubernetes: Access,
    kubernetes_node: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    """A node with the driver ready; its namespace is the driver's own."""
    if own_kubernetes is None:
        unavailable(
            "The driver is tested on a cluster of this machine's own: images are imported, the node looked into."
        )
    place: Path = tmp_path_factory.mktemp("csi")
    for archive in (client_image(place), driver_image(place, compiled(place / "programs"))):
        own_kubernetes.import_image(archive)
        archive.unlink()
    install_driver(kubernetes)
    site = Site(kubernetes, own_kubernetes, kubernetes_node, SYSTEM)
    if site.driver_pod():  # of a cluster that is kept: it runs the code of the run before
        site.restart_driver()
    try:
        site.until(site.driver_pod, "the driver is ready")
        node = f"/apis/storage.k8s.io/v1/csinodes/{kubernetes_node}"
        site.until(
            lambda: [each["name"] for each in kubernetes.call("GET", node)["spec"].get("drivers") or ()],
            "the kubelet has the driver",
        )
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.driver_logs()}\n{site.kubectl('get', 'events', '-A').stdout}") from error
    return site


def make_namespace(access: Access) -> str:
    """Make a namespace that pods may be created in, held to Pod Security *restricted*."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made = access.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "csi-", "labels": labels}})
    name = str(made["metadata"]["name"])
    with access.client() as client:
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait(lambda: client.get(account).is_success, f"{name} has its service account")
    return name


@pytest.fixture
def site(driver: Site) -> Iterator[Site]:
    """A restricted namespace; when its pods are gone, nothing of them may be left on the node."""
    name = make_namespace(driver.access)
    here = Site(driver.access, driver.own, driver.node, name)
    pods: list[str] = []
    try:
        yield here
        pods = [pod["metadata"]["uid"] for pod in driver.access.call("GET", here.path("pods"))["items"]]
    finally:
        driver.access.call("DELETE", f"/api/v1/namespaces/{name}")
        here.delete_profiles(name)
        here.delete_volumes()
    end = time.monotonic() + 60
    while left := [line for uid in pods for line in here.mounts_of(uid)]:
        assert time.monotonic() < end, left
        time.sleep(0.2)


@pytest.fixture(scope="module")
def controllers(driver: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The driver's node, and Headrace's controllers with the rights that they are installed with."""
    place = tmp_path_factory.mktemp("controllers")
    with roles.installed(driver.access, HOME):
        kubeconfig = roles.kubeconfig_of(driver.access, CONTROLLER, HOME, place)
        with roles.controller(place, kubeconfig, file_url(place / "ledger.db")) as running:
            running.await_ready()
            yield driver


@pytest.fixture
def project(controllers: Site) -> Iterator[Site]:
    """A restricted project; with its end nothing of it may be left, on the node or in the cluster."""
    driver = controllers
    name = f"project-{secrets.token_hex(3)}"
    roles.project(driver.access, name, HOME)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    driver.access.call("PATCH", f"/api/v1/namespaces/{name}", {"metadata": {"labels": labels}}, roles.MERGE)
    here = Site(driver.access, driver.own, driver.node, name)
    yield here
    driver.access.call("DELETE", f"/api/v1/namespaces/{name}")
    roles.gone(driver.access, f"/api/v1/namespaces/{name}")
    here.delete_profiles(name)
    here.until(lambda: not here.shared_left(), "nothing of the namespace is left")
