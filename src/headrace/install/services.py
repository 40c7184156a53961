"""How our servers are reached: by the API server, by workers that fetch their code, by Prometheus."""

from __future__ import annotations

from headrace.install.names import ADMISSION, CODE_PORT, CONTROLLER
from headrace.install.workloads import MONITORING_PORT, selector
from headrace.spec.kind import Json


def services(home: str) -> list[Json]:
    """Return the Services. Metrics have Services of their own, because those of the servers leave out who is not ready."""
    return [
        _service(CONTROLLER, home, CONTROLLER, {"reads": (443, "reads"), "code": (CODE_PORT, "code")}),
        _service(ADMISSION, home, ADMISSION, {"webhooks": (443, "webhooks")}),
        *(_metrics(name, home) for name in (CONTROLLER, ADMISSION)),
    ]


def _metrics(part: str, home: str) -> Json:
    service = _service(f"{part}-metrics", home, part, {"monitoring": (MONITORING_PORT, "monitoring")})
    service["spec"] |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    service["metadata"]["annotations"] = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(MONITORING_PORT),
        "prometheus.io/path": "/metrics",
    }
    return service


def _service(name: str, home: str, part: str, ports: dict[str, tuple[int, str]]) -> Json:
    entries = [{"name": key, "port": port, "targetPort": to, "protocol": "TCP"} for key, (port, to) in ports.items()]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": home},
        "spec": {"selector": selector(part), "ports": entries},
    }
