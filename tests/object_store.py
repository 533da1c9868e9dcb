"""An S3-compatible object store on this machine, for tests: moto, in a process of its own.

In the tests' own process, Arrow and moto would wait for each other's Python.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a process that uses the store needs in its environment."""

SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until the tests end
"""


@dataclass(frozen=True)
class ObjectStore:
    """A running store; its requests are logged."""

    port: int
    log: Path

    def uri(self, path: str) -> str:
        """Return the URI of a folder; its first part is the bucket, which is made when needed."""
        query = f"endpoint_override=http://127.0.0.1:{self.port}&region=us-east-1"
        return f"s3://{path}?{query}&allow_bucket_creation=true"

    def requests(self, about: str) -> list[str]:
        """Return method and path of every request so far whose path names this."""
        found = re.findall(r"([A-Z]+ /\S*) HTTP/", self.log.read_text())
        return [request for request in found if about in request]


@contextmanager
def running(log: Path) -> Iterator[ObjectStore]:
    """Run a store until the end of the block."""
    with log.open("wb") as errors:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield ObjectStore(int(server.stdout.readline()), log)
        finally:
            server.stdin.close()
            server.wait(timeout=30)
            server.stdout.close()
