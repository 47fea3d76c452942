"""A pool of Beam's Python workers (environment type EXTERNAL) that listens on the loopback address alone.

Always true here: a worker is a process of this Python. Beam's own `worker_pool_main` listens on every address of the machine and
starts whatever `python` comes first on the PATH.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer, kill_process_gracefully
from apache_beam.utils import thread_pool_executor


def main(port: int) -> None:
    """Serve until told to end; then end the workers too."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    pool = BeamFnExternalWorkerPoolServicer(use_process=True)
    server = grpc.server(thread_pool_executor.shared_unbounded_instance())
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    if not server.add_insecure_port(f"127.0.0.1:{port}"):
        sys.exit(f"port {port} cannot be had")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    server.wait_for_termination()
    for process in list(pool._worker_processes.values()):
        kill_process_gracefully(process)


if __name__ == "__main__":
    main(int(sys.argv[1]))
