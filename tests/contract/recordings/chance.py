"""Sequences that nobody thought of: appliers, updaters and patchers at one object, drawn by a fixed seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.contract.recordings.making import (
    Json,
    apply,
    condition,
    config_map,
    create,
    patch,
    widget,
    widget_status,
)
from tests.contract.recordings.steps import Step

_LENGTH = 10
_OFTEN = 0.45


def by_chance(seed: int) -> list[Step]:
    """Return one sequence; the same for the same seed."""
    drawn = _Drawn(random.Random(seed))
    make = drawn.widget if seed % 3 else drawn.config_map
    return [drawn.step(make()) for _ in range(_LENGTH)]


class _Drawn:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def step(self, body: Json) -> Step:
        roll = self._chance.random()
        forced = "force=true" if self._is(0.4) else ""
        if roll < 0.6:
            return apply(body, self._chance.choice(["one", "two", "three"]), forced)
        if roll < 0.8:
            return patch(body, self._change(body), agent=self._chance.choice(["p/1", "q/1"]))
        if roll < 0.9 and body["kind"] == "Widget":
            status = widget_status(condition(self._chance.choice("AB"), self._text()), replicas=self._number())
            if self._is(0.6):
                return apply(status, self._chance.choice(["one", "operator"]), forced, "status")
            return patch(body, {"status": status["status"]}, "status")
        if roll < 0.95:
            return create(body)
        return patch(body, {"metadata": {"managedFields": [{}]}})

    def widget(self) -> Json:
        draws: dict[str, Callable[[], Any]] = {
            "text": self._text,
            "replicas": self._number,
            "items": self._items,
            "set": lambda: self._some("abcd"),
            "list": lambda: [{"name": name} for name in self._some("ab")],
            "map": lambda: {name: self._text() for name in self._some("abc")},
            "whole": lambda: {name: self._text() for name in self._some("ab")},
            "free": lambda: self._chance.choice([{}, {"a": 1}, {"a": {"b": 1}}, {"a": [1]}, {"a": {"c": 2}, "d": "x"}]),
        }
        return widget(self._metadata(), **{name: draw() for name, draw in draws.items() if self._is(_OFTEN)})

    def config_map(self) -> Json:
        return config_map(self._metadata(), **{name: self._text() for name in self._some("abcd")})

    def _metadata(self) -> Json:
        found: Json = {}
        if self._is(0.3):
            found["labels"] = {name: self._text() for name in self._some("lm")}
        if self._is(0.2):
            found["finalizers"] = [f"example.org/{name}" for name in self._some("abc")]
        return found

    def _change(self, body: Json) -> Json:
        change: Json = {name: dict(body[name]) for name in ("spec", "data") if name in body}
        for inner in change.values():
            if self._is(0.5):
                inner[self._chance.choice(list(inner))] = None
        if self._is(0.4) and "labels" in body["metadata"]:
            change["metadata"] = {"labels": body["metadata"]["labels"]}
        return change

    def _items(self) -> list[Json]:
        items = []
        for name in self._some("abc"):
            more: Json = {"zone": self._chance.choice("ab")} if self._is(0.4) else {}
            if self._is(0.7):
                more["value"] = self._chance.choice([1, "x"])
            items.append({"name": name, **more})
        return items

    def _some(self, names: str) -> list[str]:
        return self._chance.sample(names, self._chance.randint(0, len(names)))

    def _text(self) -> str:
        return self._chance.choice(["1", "2", ""])

    def _number(self) -> int:
        return self._chance.choice([0, 1, 2])

    def _is(self, likely: float) -> bool:
        return self._chance.random() < likely


BY_CHANCE: dict[str, Any] = {f"by chance {seed}": by_chance(seed) for seed in range(1, 16)}
