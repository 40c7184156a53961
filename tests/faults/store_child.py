"""Writes to a store until it is killed, and says on standard output what was acknowledged.

Lines: `removing NAME` before a deletion is asked for, `saved NAME VERSION` and `removed NAME VERSION` once acknowledged,
`refused` when the disk did not take a change.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
from pathlib import Path

import anyio

from headrace import telemetry
from headrace.engine.store.database import NotSaved
from headrace.engine.store.store import Key, Store


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def worker(store: Store, name: str, seed: int) -> None:
    chance = random.Random(seed)
    alive: list[str] = []
    count = 0
    while True:
        roll = chance.random()
        if not alive or roll < 0.4:
            count += 1
            chosen = f"{name}-{os.getpid()}-{count}"
            alive.append(chosen)
        else:
            chosen = chance.choice(alive)
        key = Key("things", "a", chosen)
        head = store.head(key)
        body = {"metadata": {"name": chosen}, "data": "x" * chance.randrange(2000)}
        if head is not None and roll > 0.8:
            say(f"removing {chosen}")
            alive.remove(chosen)
            stored = await store.write(key, None, expected=head.version)
            say(f"removed {chosen} {stored.version}")
        else:
            stored = await store.write(key, body, expected=head.version if head else 0)
            say(f"saved {chosen} {stored.version}")


async def until_killed(path: Path, seed: int) -> None:
    async with Store(path) as store, anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(worker, store, f"w{number}", seed + number)


async def on_a_small_disk(path: Path) -> None:
    """Write until the disk is full, twice; between, give it room again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with Store(path) as store:
        for round_number in range(2):
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000 * (round_number + 1), resource.RLIM_INFINITY))
            for number in range(1000):
                name = f"r{round_number}-{number}"
                try:
                    await store.write(
                        Key("things", "a", name), {"metadata": {"name": name}, "data": "x" * 3000}, expected=0
                    )
                except NotSaved as error:
                    say(f"refused {error}")
                    break
                say(f"saved {name} {store.version}")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            await store.write(Key("things", "a", f"after-{round_number}"), {"metadata": {}}, expected=0)
            say(f"saved after-{round_number} {store.version}")


if __name__ == "__main__":
    telemetry.configure()
    if sys.argv[2] == "small-disk":
        anyio.run(on_a_small_disk, Path(sys.argv[1]))
    else:
        anyio.run(until_killed, Path(sys.argv[1]), int(sys.argv[2]))
