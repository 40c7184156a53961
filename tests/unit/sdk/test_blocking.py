"""Client has AsyncClient's methods, and they work from ordinary code."""

from __future__ import annotations

import inspect
import threading

import pytest

from headrace.cluster.fake import FakeCluster
from headrace.errors import NotFound, Unavailable
from headrace.sdk import AsyncClient, Client, LogLine
from headrace.sdk.client import READS
from headrace.spec.kind import Ref
from headrace.spec.kinds import CONFIG_MAP, POD, TRAIN_JOB

from .conftest import ENDED, pod

OTHER = {"cluster", "connect", "over", "upload_code", "worker_pod"}


def public(of: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(of).items()
        if not name.startswith("_") and name not in OTHER and inspect.isfunction(member)
    }


def test_every_method_is_there_with_the_same_parameters() -> None:
    wanted, found = public(AsyncClient), public(Client)
    assert set(found) == set(wanted)
    for name, signature in wanted.items():
        ours = found[name]
        assert list(ours.parameters.values()) == list(signature.parameters.values()), name
    assert inspect.signature(Client.connect).parameters == inspect.signature(AsyncClient.connect).parameters


def test_objects() -> None:
    with Client.over(FakeCluster(), namespace="vision") as client:
        outcome, doc = client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
        assert (outcome, doc.namespace) == ("created", "vision")
        assert [found.name for found in client.list(CONFIG_MAP)] == ["c"]
        assert client.set_metadata(CONFIG_MAP, "c", labels={"a": "b"}).labels == {"a": "b"}
        assert client.wait(CONFIG_MAP, "c", lambda found: found is not None, timeout_s=5) is not None
        client.delete(CONFIG_MAP, "c", wait_s=5)
        with pytest.raises(NotFound):
            client.get(CONFIG_MAP, "c")


def test_jobs_and_money() -> None:
    fake = FakeCluster()
    fake.script_request("GET", f"{READS}/usage", {"total": "1"})
    with Client.over(fake) as client:
        job = client.submit({"metadata": {"name": "digits"}, "spec": {"command": ["true"]}})
        assert client.stop(job.name).spec["suspend"] is True
        assert client.usage(job="digits") == {"total": "1"}
        with pytest.raises(Unavailable, match="computed reads"):
            client.why("digits")


def test_changes_are_a_plain_iterator_that_may_be_left_at_any_time() -> None:
    with Client.over(FakeCluster()) as client:
        client.submit({"metadata": {"name": "digits"}, "spec": {"command": ["true"]}})
        with client.changes(TRAIN_JOB, Ref("default", "digits")) as states:
            first = next(states)
        assert first is not None


def test_lines_are_a_plain_iterator_to_the_end() -> None:
    fake = FakeCluster()
    ref = Ref("default", "digits-1-worker-0")
    fake.seed(TRAIN_JOB, {"metadata": {"name": "digits", "namespace": "default"}, "status": {"phase": "Succeeded"}})
    fake.seed(POD, pod(0, state=ENDED))
    fake.script_logs(ref, [b"2026-01-01T00:00:00Z a\n", b"2026-01-01T00:00:01Z b\n"], container="main")
    with Client.over(fake) as client:
        for follow in (False, True):
            with client.logs("digits", follow=follow) as lines:
                assert [line.text for line in lines] == ["a", "b"]
        with pytest.raises(NotFound), client.logs("nothing") as lines:
            list(lines)


def test_a_failing_stream_raises_its_own_error_behind_what_it_gave() -> None:
    fake = FakeCluster()
    fake.seed(TRAIN_JOB, {"metadata": {"name": "digits", "namespace": "default"}, "status": {"phase": "Succeeded"}})
    fake.seed(POD, pod(0, state=ENDED), pod(1, state=ENDED))
    fake.script_logs(Ref("default", "digits-1-worker-1"), [b"2026-01-01T00:00:00Z b\n"], container="main")
    fake.fail_next("logs", Unavailable("The node is gone."))
    seen: list[LogLine] = []
    with Client.over(fake) as client, client.logs("digits", follow=False) as lines:
        with pytest.raises(Unavailable, match="node is gone"):
            seen.extend(lines)
    assert seen == [("worker-1", "b")]


def test_threads_may_share_a_client() -> None:
    with Client.over(FakeCluster()) as client:

        def make(number: int) -> None:
            client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}})

        threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(client.list(CONFIG_MAP)) == 8
