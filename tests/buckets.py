"""A real S3 server (MinIO) on loopback for tests: started and stopped by its process id, skipped loudly where Go cannot build it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

__all__ = ["MinIO", "minio_program"]

MODULE = "github.com/minio/minio@latest"


def minio_program() -> str:
    """Where the server's program is: $MINIO, the search path, or a build of it, kept for later."""
    named = os.environ.get("MINIO") or shutil.which("minio")
    if named:
        return named
    kept = Path(tempfile.gettempdir()) / "forebear-minio" / "bin" / "minio"
    if not kept.exists():
        if not shutil.which("go"):
            pytest.skip("SKIPPED: no MinIO and no Go to build it with; tests of real buckets did not run")
        environment = {**os.environ, "GOBIN": str(kept.parent)}
        done = subprocess.run(["go", "install", MODULE], env=environment, capture_output=True, text=True, timeout=1500)
        if done.returncode:
            pytest.skip(f"SKIPPED: MinIO could not be built: {done.stderr.strip()[-200:]}")
    return str(kept)


class MinIO:
    """A server over a folder of its own, with one bucket `bucket`.

    Args:
        folder: Where it keeps its data; a folder in it is a bucket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data" / "bucket").mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.program = minio_program()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "minioadmin",
            "AWS_SECRET_ACCESS_KEY": "minioadmin",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [self.program, "server", "--address", f"127.0.0.1:{self.port}", "--quiet", str(self.folder / "data")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "MINIO_BROWSER": "off"})
        for _ in range(150):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/minio/health/ready", timeout=2).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
            else:
                return
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        """Kill it: requests under way are lost."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)
            self.process = None
