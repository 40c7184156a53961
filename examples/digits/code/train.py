"""Train a digit classifier on one worker or on many, with numpy and nothing else.

Every worker reads all files under --data (and prints one SHA-256 over them, so that runs in different places can be
compared), takes its share of the rows, and after each batch averages the gradients with the others: worker 0 listens
on MASTER_PORT at MASTER_ADDR, the others connect. Worker 0 writes the model.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

RANK = int(os.environ.get("RANK") or os.environ.get("HEADRACE_RANK") or 0)
WORLD_SIZE = int(os.environ.get("WORLD_SIZE") or os.environ.get("HEADRACE_WORLD_SIZE") or 1)


class Ring:
    """Averages arrays over all workers through worker 0; a lost worker ends the run with an error."""

    def __init__(self) -> None:
        self.peers: list[socket.socket] = []
        if WORLD_SIZE == 1:
            return
        address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        if RANK == 0:
            with socket.create_server(address, backlog=WORLD_SIZE) as server:
                server.settimeout(60)
                self.peers = [server.accept()[0] for _ in range(WORLD_SIZE - 1)]
        else:
            self.peers = [self._connect(address)]
        for peer in self.peers:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"worker {RANK} of {WORLD_SIZE} joined at {address[0]}:{address[1]}", flush=True)

    @staticmethod
    def _connect(address: tuple[str, int]) -> socket.socket:
        deadline = time.monotonic() + 60
        while True:
            try:
                return socket.create_connection(address, timeout=60)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def mean(self, array: np.ndarray) -> np.ndarray:
        if not self.peers:
            return array
        if RANK == 0:
            total = array + sum(np.frombuffer(_receive(p), dtype=array.dtype).reshape(array.shape) for p in self.peers)
            total /= WORLD_SIZE
            for peer in self.peers:
                _send(peer, total.tobytes())
            return total
        _send(self.peers[0], array.tobytes())
        return np.frombuffer(_receive(self.peers[0]), dtype=array.dtype).reshape(array.shape)


def _send(peer: socket.socket, payload: bytes) -> None:
    peer.sendall(struct.pack("!I", len(payload)) + payload)


def _receive(peer: socket.socket) -> bytes:
    (size,) = struct.unpack("!I", _exactly(peer, 4))
    return _exactly(peer, size)


def _exactly(peer: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        chunk = peer.recv(size - len(parts))
        if not chunk:
            raise ConnectionError("another worker has gone")
        parts += chunk
    return bytes(parts)


def read(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read all files, print one digest over them, and return pixels (rows x 64, 0..1) and labels."""
    started = time.monotonic()
    files = sorted(path for path in data.rglob("*") if path.is_file())
    with ThreadPoolExecutor(16) as pool:
        contents = dict(zip(files, pool.map(Path.read_bytes, files), strict=True))
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(data)}\0{len(contents[path])}\0".encode() + contents[path])
    size = sum(map(len, contents.values()))
    print(f"read {len(files)} files, {size} bytes in {time.monotonic() - started:.1f} s", flush=True)
    print(f"sha256 {digest.hexdigest()}", flush=True)
    labels_file = next(path for path in files if path.name == "labels.csv")
    rows = list(csv.DictReader(io.StringIO(contents[labels_file].decode())))
    images = [Image.open(io.BytesIO(contents[labels_file.parent / row["file"]])) for row in rows]
    pixels = np.stack([np.asarray(image, dtype=np.float64).ravel() for image in images]) / 255
    return pixels, np.array([int(row["label"]) for row in rows])


def train(pixels: np.ndarray, labels: np.ndarray, epochs: int, ring: Ring) -> list[np.ndarray]:
    """Fit a network with one hidden layer by stochastic gradient descent on this worker's rows."""
    start = np.random.default_rng(7)  # the same on every worker: they begin equal and stay equal
    weights = [start.normal(0, 0.2, (64, 64)), np.zeros(64), start.normal(0, 0.2, (64, 10)), np.zeros(10)]
    order = np.random.default_rng(100 + RANK)
    mine = np.arange(RANK, len(labels) - len(labels) % WORLD_SIZE, WORLD_SIZE)
    for epoch in range(epochs):
        loss = 0.0
        for batch in np.array_split(order.permutation(mine), 24):
            x, y = pixels[batch], labels[batch]
            hidden = np.tanh(x @ weights[0] + weights[1])
            scores = hidden @ weights[2] + weights[3]
            chances = np.exp(scores - scores.max(axis=1, keepdims=True))
            chances /= chances.sum(axis=1, keepdims=True)
            loss -= float(np.log(chances[np.arange(len(y)), y] + 1e-12).mean()) / 24
            chances[np.arange(len(y)), y] -= 1
            chances /= len(y)
            back = (chances @ weights[2].T) * (1 - hidden**2)
            gradients = [x.T @ back, back.sum(axis=0), hidden.T @ chances, chances.sum(axis=0)]
            flat = ring.mean(np.concatenate([g.ravel() for g in gradients]))
            for weight in weights:
                weight -= 0.5 * flat[: weight.size].reshape(weight.shape)
                flat = flat[weight.size :]
        if epoch % 10 == 9 or epoch == epochs - 1:
            print(f"epoch {epoch + 1}/{epochs} loss {loss:.4f}", flush=True)
    return weights


def accuracy(weights: list[np.ndarray], pixels: np.ndarray, labels: np.ndarray) -> float:
    hidden = np.tanh(pixels @ weights[0] + weights[1])
    return float(((hidden @ weights[2] + weights[3]).argmax(axis=1) == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=int(os.environ.get("EPOCHS", "40")))
    options = parser.parse_args()
    capabilities = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    print(f"worker {RANK} of {WORLD_SIZE} on {socket.gethostname()}, {capabilities.split()[0]} {capabilities.split()[1]}")
    pixels, labels = read(options.data)
    held_out = np.arange(len(labels)) % 5 == 0
    ring = Ring()
    weights = train(pixels[~held_out], labels[~held_out], options.epochs, ring)
    if RANK == 0:
        score = accuracy(weights, pixels[held_out], labels[held_out])
        options.out.mkdir(parents=True, exist_ok=True)
        np.savez(options.out / "model.npz", *weights)
        (options.out / "metrics.json").write_text(json.dumps({"accuracy": score, "workers": WORLD_SIZE}) + "\n")
        print(f"accuracy {score:.4f} on {int(held_out.sum())} held-out images; model in {options.out}", flush=True)


if __name__ == "__main__":
    main()
