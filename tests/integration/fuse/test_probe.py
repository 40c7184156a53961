"""What the probe finds where something is missing, and that its sentences name the cure."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.fuse import conftest

from headrace.fuse.probe import FEATURES, probe

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.fuse

_PROBE = (sys.executable, "-m", "headrace.fuse.probe")
_ROOT_ONLY = pytest.mark.skipif(not conftest.IS_ROOT, reason="only root can take something away from a machine")


def _found(argv: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found) == {*FEATURES, "reasons"}
    assert set(found["reasons"]) == {name for name in FEATURES if not found[name]}
    return found


@pytest.mark.root
@_ROOT_ONLY
def test_as_an_ordinary_user_with_everything_there() -> None:
    found = _found(conftest.opened_up(_PROBE))
    assert found["user_namespaces"]
    assert found["fuse_in_namespace"]
    assert found["proc_mount"]


@pytest.mark.root
@_ROOT_ONLY
def test_root_finds_what_its_pods_will_have_although_the_device_is_closed_to_others() -> None:
    assert probe().fuse_in_namespace


@pytest.mark.root
@_ROOT_ONLY
def test_a_closed_device_is_told_with_its_cure() -> None:
    found = _found(conftest.opened_up(_PROBE, device_mode=0o600))
    assert found["user_namespaces"]
    assert not found["fuse_in_namespace"]
    assert "sudo chmod 0666 /dev/fuse" in found["reasons"]["fuse_in_namespace"]


@pytest.mark.root
@_ROOT_ONLY
def test_forbidden_namespaces_are_told_with_their_cure_and_take_the_rest_along() -> None:
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --no-new-privs --bounding-set=-all "$0" "$@"'
    nest = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", forbid]
    found = _found(conftest.opened_up([*nest, *_PROBE]))
    assert not any(found[name] for name in ("user_namespaces", "fuse_in_namespace", "proc_mount", "overlay"))
    assert "user.max_user_namespaces=15000" in found["reasons"]["user_namespaces"]
    assert found["reasons"]["fuse_in_namespace"] == found["reasons"]["user_namespaces"]


@pytest.mark.root
@_ROOT_ONLY
def test_a_masked_proc_is_told() -> None:
    mask = 'mount -t tmpfs -o ro tmpfs /proc/acpi 2>/dev/null || mount -t tmpfs -o ro tmpfs /proc/bus; exec "$0" "$@"'
    masked = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mask]
    found = _found([*masked, *conftest.opened_up(_PROBE)])
    assert found["user_namespaces"]
    assert not found["proc_mount"]
    assert "systempaths=unconfined" in found["reasons"]["proc_mount"]


def test_a_probe_that_cannot_run_is_an_answer_too() -> None:
    found = probe(deadline_s=0.001)
    assert not found.user_namespaces
    assert set(found.reasons) == set(FEATURES)
