"""Headrace on a real API server, measured: injection, Datasets to Bound, a storm of others' pods; embedded beside.

The API server is the one that KUBECONFIG names, else one made for the run, as for tests. Our processes run beside it with
the rights they are installed with. Peers: the same API server in the same run where it does not ask us, and Fluid as it
was measured on such a machine. Prints a table and writes bench/results/kubernetes.json.

    .venv/bin/python -m bench.kubernetes [--objects 500] [--pods 1000] [--storm 10000] [--only injection,datasets]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.clusters import datasets, injection, sites, storm
from bench.clusters.figures import Row
from bench.clusters.sites import Site
from tests.interruption import interruptible

RESULTS = Path(__file__).parent / "results" / "kubernetes.json"
PARTS = ("injection", "datasets", "claims", "storm", "embedded")


def measures(given: argparse.Namespace, site: Site, directory: Path) -> dict[str, Callable[[], Iterable[Row]]]:
    """Return what is measured at a site, by part."""
    found: dict[str, Callable[[], Iterable[Row]]] = {
        "injection": lambda: injection.measure(site, given.pods, given.rounds, directory / "least"),
        "datasets": lambda: datasets.pairs(site, given.objects),
        "claims": lambda: datasets.claims(site, given.objects),
    }
    return {**found, "storm": lambda: storm.measure(site, given.storm)} if site.is_real else found


def run(given: argparse.Namespace, directory: Path) -> Iterator[tuple[str, Row]]:
    """Yield every row with the name of its site, as they are found."""
    parts = given.only.split(",")
    if wrong := set(parts) - {*PARTS}:
        raise SystemExit(f"There is no part {', '.join(sorted(wrong))}; there are: {', '.join(PARTS)}.")
    if [*set(parts) - {"embedded"}]:
        with sites.own_cluster(directory) as (access, processes):
            with sites.real(access, processes, directory / "roles") as site:
                yield from _at(site, given, parts, directory)
    if "embedded" in parts:
        wanted = [part for part in parts if part != "embedded"] or ["injection", "datasets", "claims"]
        with sites.embedded(directory) as site:
            yield from _at(site, given, wanted, directory)


def _at(site: Site, given: argparse.Namespace, parts: list[str], directory: Path) -> Iterator[tuple[str, Row]]:
    for part, measure in measures(given, site, directory).items():
        if part in parts:
            for row in measure():
                print(f"  {site.name}, {row.name}: {row.value:.3f} {row.unit}", file=sys.stderr, flush=True)
                yield site.name, row


def report(found: list[tuple[str, Row]], load: tuple[float, ...], given: argparse.Namespace) -> None:
    """Print the table, sites beside each other, and write the same as JSON."""
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"{machine} · load {load[0]:.1f} before, {os.getloadavg()[0]:.1f} after\n")
    places = list(dict.fromkeys(site for site, _ in found))
    values = {(site, row.name): row for site, row in found}
    names = list(dict.fromkeys(row.name for _, row in found))
    width = max(map(len, names))
    print(f"{'what':<{width}}" + "".join(f"{place:>16}" for place in places) + "            goal  Fluid")
    for name in names:
        rows = [values.get((place, name)) for place in places]
        row = next(filter(None, rows))
        cells = "".join(f"{_cell(found):>16}" for found in rows)
        print(f"{name:<{width}}{cells}{row.goal:>16}  {row.peer}".rstrip())
    RESULTS.parent.mkdir(exist_ok=True)
    results = [{"site": site, **row._asdict()} for site, row in found]
    body = {"machine": machine, "load": load[0], "asked": vars(given), "results": results}
    RESULTS.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")


def _cell(row: Row | None) -> str:
    return f"{row.value:,.1f} {row.unit}".strip() if row is not None else "–"


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    directory.chmod(0o755)  # started by root, an embedded engine runs as nobody
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure Headrace on a real API server, and embedded beside.")
    parser.add_argument("--objects", type=int, default=500, help="Datasets, and labelled claims")
    parser.add_argument("--pods", type=int, default=1000, help="dry runs of each shape of pod")
    parser.add_argument("--rounds", type=int, default=3, help="of eight clients")
    parser.add_argument("--storm", type=int, default=10_000, help="pods of others")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    given = parser.parse_args()
    load = os.getloadavg()
    with interruptible(), _directory() as directory:
        report(list(run(given, directory)), load, given)


if __name__ == "__main__":
    main()
