"""Start-up and latency of the embedded engine: medians of 20, beside the figures of docs/design.md, section 9.

Only public commands and the SDK, on an installation of its own in a temporary directory. Peers in the same run: a bare
`python -c` for the start of user code, a bare `juicefs mount` for a verified mount. Prints a table and writes
bench/results/startup.json.

    .venv/bin/python bench/startup.py [--rounds 20] [--only up,line,pod,label,memory]

User code prints the clock of the machine, which is ours too, so a first line counts when it was printed, not when it was
seen. The package is compiled first, as installers do: a clone started by root never is, for nobody may not write to it.
`trio`, which only our tests need, is hidden from what is measured, because the HTTP client imports it where it is.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

import headrace
from headrace.errors import NotFound
from headrace.sdk import Client
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME_CLAIM, POD
from headrace.spec.names import RUNTIME_PROFILE_LABEL
from storage import BIN, Volume, bare_mount_s, volume

RESULTS = Path(__file__).parent / "results" / "startup.json"
STAMP = ["python", "-c", "import time; print(time.time_ns(), flush=True)"]
SETTLE_S = 2.0


class Row(NamedTuple):
    """One line of the table: samples in seconds, or MiB."""

    name: str
    unit: str
    target: str
    samples: list[float]


class Installation:
    """One Headrace in a directory."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        hidden = directory / "hidden"
        hidden.mkdir()
        (hidden / "trio.py").write_text("raise ImportError('hidden from a benchmark')\n")
        path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        self.env = {**os.environ, "HEADRACE_HOME": str(self.home), "PATH": path, "PYTHONPATH": str(hidden)}
        self.env.pop("HEADRACE_NAMESPACE", None)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [str(BIN / "headrace"), *words], env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"headrace {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def up(self) -> None:
        self.run("up", "--own-cpu", "8", "--own-memory", "8Gi")

    def memory_mib(self) -> float:
        """Return the proportional set sizes of all processes and their children, as the kernel shares them out."""
        pids = [row["pid"] for row in json.loads(self.run("status", "-o", "json")) if row["pid"]]
        family = {
            child.pid: child for pid in pids for child in (psutil.Process(pid), *psutil.Process(pid).children(True))
        }
        return sum(float(process.memory_full_info().pss) for process in family.values()) / 2**20


def timed(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def bare_python() -> None:
    subprocess.run([sys.executable, *STAMP[1:]], check=True, stdout=subprocess.DEVNULL)


def first_line_of_command(installation: Installation) -> float:
    """Return seconds from starting `headrace run` to the first line of user code."""
    began_ns = time.time_ns()
    printed = re.search(r"\[worker-0\] (\d+)", installation.run("run", "--memory", "64Mi", "--", *STAMP))
    assert printed is not None
    return (int(printed[1]) - began_ns) / 1e9


def first_line_of_job(client: Client) -> float:
    """Return seconds from submitting a job with the SDK to the first line of user code."""
    began_ns = time.time_ns()
    job = client.submit({"spec": {"command": STAMP, "resources": {"memory": "64Mi"}}})
    with client.logs(job.name) as lines:
        return (int(next(lines).text) - began_ns) / 1e9


def pod_start(client: Client, number: int) -> float:
    """Return seconds from binding a pod to a node (it is created bound) to its first line."""
    name = f"bench-{number}"
    container = {"name": "main", "image": "host", "command": STAMP, "terminationMessagePolicy": "FallbackToLogsOnError"}
    script = ["sh", "-c", "date +%s%N >/dev/termination-log"]
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": "own",
            "restartPolicy": "Never",
            "containers": [{**container, "command": script}],
        },
    }
    began_ns = time.time_ns()
    client.apply(body)
    ended = client.wait(POD, name, lambda doc: doc is not None and doc.status.get("phase") == "Succeeded", timeout_s=60)
    assert ended is not None
    said = ended.status["containerStatuses"][0]["state"]["terminated"]["message"]
    client.delete(POD, name, wait_s=60)
    return (int(said) - began_ns) / 1e9


def label_to_verified(client: Client) -> float:
    """Return seconds from labelling a claim until a probe mount has listed it in both pools; unlabels it again."""
    began = time.monotonic()
    client.connect_dataset("bench", "juicefs")
    dataset = client.wait_for_dataset("bench", timeout_s=120)
    took = time.monotonic() - began
    client.set_metadata(PERSISTENT_VOLUME_CLAIM, "bench", labels={RUNTIME_PROFILE_LABEL: None})
    client.wait(DATASET, dataset.name, lambda doc: doc is None, timeout_s=120)
    for pod in client.list(POD, labels="headrace.io/probe"):
        try:
            client.delete(POD, pod.name, wait_s=120)
        except NotFound:
            continue
    return took


def measure(rounds: int, parts: set[str], directory: Path) -> list[Row]:
    installation = Installation(directory)
    os.environ["HEADRACE_HOME"] = str(installation.home)
    rows: list[Row] = []

    def add(name: str, target: str, samples: list[float], unit: str = "s") -> None:
        rows.append(Row(name, unit, target, samples))
        print(f"  {name}: {statistics.median(samples):.3f} {unit}", file=sys.stderr, flush=True)

    try:
        ups, memories = [], []
        for _ in range(rounds if parts & {"up", "memory"} else 0):
            installation.run("down", "--purge")
            ups.append(timed(installation.up))
            time.sleep(SETTLE_S)
            memories.append(installation.memory_mib())
        if "up" in parts:
            add("up to ready, a new state directory", "< 2 s", ups)
        if "memory" in parts:
            add("memory of all processes, idle (PSS)", "< 150 MiB", memories, "MiB")
        installation.up()
        with Client.connect() as client:
            if "line" in parts:
                client.submit({"metadata": {"name": "warm"}, "spec": {"command": ["true"]}})
                add("submit (SDK) to first line", "< 0.5 s", [first_line_of_job(client) for _ in range(rounds)])
                add("headrace run to first line", "–", [first_line_of_command(installation) for _ in range(rounds)])
                add("  peer: python -c", "–", [timed(bare_python) for _ in range(rounds)])
            if "pod" in parts:
                add("pod bound to first line", "–", [pod_start(client, number) for number in range(rounds)])
            if "label" in parts:
                with volume(directory) as made:
                    _labels(client, made, rounds, directory, add)
    finally:
        subprocess.run(
            [str(BIN / "headrace"), "down", "--purge"], env=installation.env, check=False, capture_output=True
        )
    return rows


def _labels(client: Client, made: Volume, rounds: int, directory: Path, add: Callable[..., None]) -> None:
    for body in made.objects():
        client.apply(body)
    label_to_verified(client)
    target = "< 1.5 s (two pools; Fluid: Bound ≈ 2 s, unverified)"
    add("label to MountVerified", target, [label_to_verified(client) for _ in range(rounds)])
    mounts = [bare_mount_s(made.meta, directory) for _ in range(rounds)]
    known = [took for took in mounts if took is not None]
    if known:
        add("  peer: juicefs mount to first listing", "–", known)


def report(rows: list[Row], rounds: int) -> None:
    load = os.getloadavg()[0]
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    user = "root (runs as nobody)" if os.geteuid() == 0 else "an ordinary user"
    print(f"medians of {rounds} · {machine} · {user} · load {load:.1f}\n")
    print(f"{'what':<40}{'median':>12}   {'range':<22}figure to reach")
    for row in rows:
        spread = f"{min(row.samples):.3f} – {max(row.samples):.3f}"
        print(f"{row.name:<40}{statistics.median(row.samples):>8.3f} {row.unit:<3}   {spread:<22}{row.target}")
    RESULTS.parent.mkdir(exist_ok=True)
    found = {
        row.name.strip(): {
            "unit": row.unit,
            "median": statistics.median(row.samples),
            "target": row.target,
            "samples": row.samples,
        }
        for row in rows
    }
    body = {"rounds": rounds, "machine": machine, "user": user, "load": load, "results": found}
    RESULTS.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure start-up and latency of the embedded engine.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="up,memory,line,pod,label", help="Parts, with commas.")
    given = parser.parse_args()
    for place in headrace.__path__:
        compileall.compile_dir(place, quiet=1)
    directory = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    directory.chmod(0o755)  # started by root, everything runs as nobody
    try:
        report(measure(given.rounds, set(given.only.split(",")), directory), given.rounds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
