"""The public Python API: `AsyncClient`, and `Client` for programs that do not use async.

    from headrace.sdk import Client

    with Client.connect() as client:
        job = client.submit({"spec": {"command": ["python", "train.py"], "code": {"directory": "."}}})
        with client.logs(job.name) as lines:
            for line in lines:
                print(line.worker, line.text)

Objects are `Doc`s: `doc.raw` is the Kubernetes object as JSON. Kinds are in `headrace.spec.kinds`, errors in
`headrace.errors`; both are part of the API.
"""

from headrace.sdk.blocking import Client
from headrace.sdk.client import AsyncClient
from headrace.sdk.logs import LogLine

__all__ = ["AsyncClient", "Client", "LogLine"]
