"""Start-up and latency of the embedded engine: medians of 20, beside the figures of docs/design.md section 9.

Only public commands and the SDK, on an installation of its own in a temporary directory. Peers in the same run: a bare
`python -c` for the start of user code, a bare `juicefs mount`-less pod for the start of a pod. Prints a table and writes
bench/results/startup.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

from headrace.sdk import AsyncClient
from headrace.spec.kinds import PERSISTENT_VOLUME_CLAIM, POD
from headrace.units import human_bytes

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "digits"


class Installation:
    """One Headrace in a directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {**os.environ, "HEADRACE_HOME": str(home), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *words: str) -> str:
        done = subprocess.run([str(BIN / "headrace"), *words], env=self.env, capture_output=True, text=True, check=True)
        return done.stdout

    def up(self) -> float:
        began = time.monotonic()
        self.run("up", "--own-cpu", "4", "--own-memory", "8Gi")
        return time.monotonic() - began


def timed(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def bare_python() -> None:
    subprocess.run([sys.executable, "-c", "print('hello')"], check=True, stdout=subprocess.DEVNULL)


async def first_line(client: AsyncClient, number: int) -> float:
    """Return seconds from submitting a job to the first line of its code."""
    job = {
        "metadata": {"name": f"line-{number}"},
        "spec": {"command": ["echo", "hello"], "resources": {"memory": "64Mi"}},
    }
    began = time.monotonic()
    await client.submit(job)
    async with client.logs(f"line-{number}") as lines:
        async for _ in lines:
            return time.monotonic() - began
    raise AssertionError("the job printed nothing")


async def pod_start(client: AsyncClient, number: int) -> float:
    """Return seconds from creating a pod bound to a node until the server says that its container runs or ran."""
    name = f"pod-{number}"
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": "own",
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "host", "command": ["sleep", "1"]}],
        },
    }
    began = time.monotonic()
    await client.cluster.create(POD, body)
    await client.wait(
        POD, name, lambda doc: doc is not None and doc.status.get("phase") in {"Running", "Succeeded"}, timeout_s=30
    )
    return time.monotonic() - began


async def label_to_verified(client: AsyncClient) -> float:
    """Return seconds from labelling a claim until a probe mount has listed it in both pools; unlabels it again."""
    began = time.monotonic()
    await client.connect_dataset("digits", "juicefs")
    await client.wait_for_dataset("digits", timeout_s=60)
    took = time.monotonic() - began
    labels = {"fluid.io/runtime-profile": None}
    await client.set_metadata(PERSISTENT_VOLUME_CLAIM, "digits", labels=labels)
    while await client.list(POD, labels="headrace.io/probe"):  # noqa: ASYNC110 - pods go one by one; no single event
        await anyio.sleep(0.2)
    return took


@contextmanager
def storage(directory: Path) -> Iterator[None]:
    """Run the demo's storage: etcd for names, an S3 server for blocks, a JuiceFS volume with a few files."""
    urls = {"client": "http://127.0.0.1:23790", "peer": "http://127.0.0.1:23791"}
    etcd = [str(BIN / "etcd"), "--data-dir", str(directory / "etcd"), "--unsafe-no-fsync", "--log-level", "error"]
    etcd += ["--listen-client-urls", urls["client"], "--advertise-client-urls", urls["client"]]
    etcd += ["--listen-peer-urls", urls["peer"], "--initial-advertise-peer-urls", urls["peer"]]
    etcd += ["--initial-cluster", f"default={urls['peer']}"]
    blocks = directory / "blocks" / "digits"
    blocks.mkdir(parents=True)
    s3 = [
        str(BIN / "rclone"),
        "serve",
        "s3",
        str(blocks.parent),
        "--addr",
        "127.0.0.1:23792",
        "--auth-key",
        "demo-key,demo-secret",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    servers = [subprocess.Popen(command, **quiet) for command in (etcd, s3)]  # type: ignore[call-overload]
    try:
        health = [str(BIN / "etcdctl"), "--endpoints", "127.0.0.1:23790", "--dial-timeout", "10s", "endpoint", "health"]
        subprocess.run(health, check=True, **quiet)  # type: ignore[call-overload]
        meta = "etcd://127.0.0.1:23790/digits"
        keys = {**os.environ, "ACCESS_KEY": "demo-key", "SECRET_KEY": "demo-secret"}
        form = [
            "format",
            "--storage",
            "s3",
            "--bucket",
            "http://127.0.0.1:23792/digits",
            "--trash-days",
            "0",
            meta,
            "digits",
        ]
        subprocess.run([str(BIN / "juicefs"), *form], env=keys, check=True, **quiet)  # type: ignore[call-overload]
        fill = [str(BIN / "juicefs"), "sync", f"{EXAMPLE}/code/", "jfs://META/digits/"]
        subprocess.run(fill, env={**keys, "META": meta}, check=True, **quiet)  # type: ignore[call-overload]
        yield
    finally:
        for server in servers:
            server.terminate()
            server.wait()


async def latencies(rounds: int) -> dict[str, list[float]]:
    async with AsyncClient.connect() as client:
        await first_line(client, 999)  # warm
        lines = [await first_line(client, number) for number in range(rounds)]
        pods = [await pod_start(client, number) for number in range(rounds)]
        labels = [await label_to_verified(client) for _ in range(rounds)]
    return {"submit to first line": lines, "pod created to running": pods, "label to MountVerified": labels}


def memory_mib(installation: Installation) -> float:
    rows = json.loads(installation.run("status", "-o", "json"))
    return sum(float(row["memory"].split()[0]) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    directory = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    directory.chmod(0o755)
    installation = Installation(directory / "home")
    os.environ["HEADRACE_HOME"] = str(installation.home)
    samples: dict[str, list[float]] = {"up to ready": []}
    try:
        for _ in range(rounds):
            samples["up to ready"].append(installation.up())
            installation.run("down", "--purge")
        installation.up()
        time.sleep(5)
        memory = memory_mib(installation)
        with storage(directory):
            for file in ("storage.yaml", "claim.yaml"):
                installation.run("apply", "-f", str(EXAMPLE / file))
            samples |= anyio.run(latencies, rounds)
            installation.run("down")
        samples["peer: bare python"] = [timed(bare_python) for _ in range(rounds)]
    finally:
        subprocess.run([str(BIN / "headrace"), "down"], env=installation.env, check=False, capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)
    report(samples, memory, rounds)


TARGETS = {
    "up to ready": "< 2 s",
    "submit to first line": "< 0.5 s",
    "label to MountVerified": "< 1.5 s (two pools; Fluid: Bound ≈ 2 s, unverified)",
    "memory, all processes": "< 150 MiB",
}


def report(samples: dict[str, list[float]], memory: float, rounds: int) -> None:
    print(f"medians of {rounds}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    rows = [(name, f"{statistics.median(s):.3f} s", f"{min(s):.3f} – {max(s):.3f} s") for name, s in samples.items()]
    rows.append(("memory, all processes", human_bytes(memory * 2**20) + f" ({memory:.0f} MiB)", "PSS, idle"))
    print(f"{'what':<26}{'median':<24}{'range':<22}figure to reach")
    for name, median, spread in rows:
        print(f"{name:<26}{median:<24}{spread:<22}{TARGETS.get(name, '–')}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    body = {"rounds": rounds, "load": os.getloadavg()[0], "seconds": samples, "memory_mib": memory}
    (results / "startup.json").write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
