"""Engines on one machine: job servers for Spark and Flink, a Spark cluster, Beam's own local job service.

    python infra/engines.py start spark --state spark.json     # prints the options for `forebear scan`
    python infra/engines.py stop --state spark.json

Always true here: servers are told to listen on the loopback address, on ports that were free (Beam's Java job server heeds the port
alone and listens on every address: see README.md); what was started is in the state file by process id and start time, and only
that is ended. Standard library only; Java and Maven for Spark and Flink.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
MAIN = {
    "spark": "org.apache.beam.runners.spark.SparkJobServerDriver",
    "flink": "org.apache.beam.runners.flink.FlinkJobServerDriver",
}
# Spark reaches into these since before Java had modules (SPARK-36796 has the list).
OPENED = [
    f"java.base/{package}"
    for package in (
        "java.io", "java.lang", "java.lang.invoke", "java.lang.reflect", "java.net", "java.nio",
        "java.util", "java.util.concurrent", "java.util.concurrent.atomic",
        "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar",
    )
]  # fmt: skip
JAVA_OPTIONS = [f"--add-opens={package}=ALL-UNNAMED" for package in OPENED]
WAIT_SECONDS = 120


class EngineError(Exception):
    """An engine cannot be had or did not start; the message says what is missing."""


@dataclass
class State:
    """What was started, and how a scan reaches it."""

    engine: str
    folder: str
    options: list[str] = field(default_factory=list)
    processes: list[dict[str, object]] = field(default_factory=list)


def missing(engine: str) -> list[str]:
    """Programs that an engine needs and this machine lacks."""
    return [name for name in {"loopback": ()}.get(engine, ("java", "mvn")) if shutil.which(name) is None]


def class_path(engine: str, cache: Path) -> list[str]:
    """The jars that an engine's pom.xml names, from Maven's repository on this machine or the network."""
    pom = HERE / engine / "pom.xml"
    kept = cache / f"{engine}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}.classpath"
    if kept.exists() and all(Path(jar).exists() for jar in kept.read_text().split(os.pathsep)):
        return kept.read_text().split(os.pathsep)
    if lacking := missing(engine):
        raise EngineError(f"{engine} needs {' and '.join(lacking)} on the PATH")
    cache.mkdir(parents=True, exist_ok=True)
    built = kept.with_suffix(f".{os.getpid()}")
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:build-classpath", f"-Dmdep.outputFile={built}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"Maven could not resolve {pom}: {(done.stdout + done.stderr).strip()[-800:]}")
    built.replace(kept)
    return kept.read_text().split(os.pathsep)


def job_server_jar(engine: str, cache: Path) -> Path:
    """A jar that names the class path in its manifest: what `--spark_job_server_jar` and `--flink_job_server_jar` take."""
    jars = [Path(jar).as_uri() for jar in class_path(engine, cache)]
    manifest = [
        "Manifest-Version: 1.0",
        f"Main-Class: {MAIN[engine]}",
        f"Add-Opens: {' '.join(OPENED)}",
        f"Class-Path: {' '.join(jars)}",
    ]
    # A line of a manifest holds 72 bytes at most; the next begins with a blank (JAR specification, "Notes on Manifest").
    lines = [part for line in manifest for part in (line[:70], *(f" {line[at : at + 69]}" for at in range(70, len(line), 69)))]
    target = cache / f"{engine}-job-server.jar"
    with tempfile.NamedTemporaryFile(dir=cache, delete=False) as handle, zipfile.ZipFile(handle, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "\r\n".join(lines) + "\r\n\r\n")
    Path(handle.name).replace(target)
    return target


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def started_at(pid: int) -> str | None:
    """When a process began (clock ticks since boot, proc(5) field 22), so that an id used again is not mistaken.

    Returns:
        None where the process is gone.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class Starting:
    """Processes of one engine, each in a session of its own and logging into the state's folder."""

    def __init__(self, state: State) -> None:
        self.state = state

    def run(self, name: str, command: Sequence[str], *, port: int, env: dict[str, str] | None = None) -> None:
        """Start a server and wait until it answers on its port."""
        log = Path(self.state.folder) / f"{name}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                list(command), stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                cwd=self.state.folder, env={**os.environ, **(env or {})},
            )  # fmt: skip
        self.state.processes.append({"name": name, "pid": process.pid, "started": started_at(process.pid), "port": port})
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                return
            time.sleep(0.2)
        raise EngineError(f"{name} did not answer on port {port}: {log.read_text()[-1500:]}")


def start_loopback(starting: Starting, cache: Path) -> None:
    """Beam's own portable job service."""
    del cache
    port = free_port()
    module = "apache_beam.runners.portability.local_job_service_main"
    starting.run("job-service", [sys.executable, "-m", module, f"--job_port={port}"], port=port)
    _portable(starting.state, port)


def start_spark(starting: Starting, cache: Path) -> None:
    """A job server with a Spark of two threads inside."""
    _job_server(starting, cache, "spark", ["--spark-master-url", "local[2]"], options=["-Dspark.ui.enabled=false"])


def start_flink(starting: Starting, cache: Path) -> None:
    """A job server with a Flink inside."""
    _job_server(starting, cache, "flink", ["--flink-master", "[local]"])


def start_spark_cluster(starting: Starting, cache: Path) -> None:
    """A master, two workers of one core each, a pool of Python workers, and a job server that submits to them."""
    home = _spark_home(Path(starting.state.folder), class_path("spark", cache))
    env = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": HOST, "SPARK_SCALA_VERSION": "2.12", "SPARK_WORKER_DIR": str(home / "work")}
    java = ["java", *JAVA_OPTIONS, "-Xmx512m", "-cp", f"{home}/jars/*"]
    port = free_port()
    place = ["--host", HOST, "--port"]
    master = [*java, "org.apache.spark.deploy.master.Master", *place, str(port), "--webui-port", str(free_port())]
    starting.run("master", master, port=port, env=env)
    url = f"spark://{HOST}:{port}"
    for n in (1, 2):
        own = free_port()
        resources = ["--cores", "1", "--memory", "1g", "--webui-port", str(free_port())]
        worker = [*java, "org.apache.spark.deploy.worker.Worker", *place, str(own), *resources, url]
        starting.run(f"worker-{n}", worker, port=own, env=env)
    pool = free_port()
    starting.run("python-workers", [sys.executable, str(HERE / "worker_pool.py"), str(pool)], port=pool)
    settings = {
        "spark.driver.bindAddress": HOST,
        "spark.driver.host": HOST,
        "spark.executor.cores": "1",
        "spark.executor.extraJavaOptions": " ".join(JAVA_OPTIONS),
        "spark.executor.memory": "1g",
        "spark.ui.enabled": "false",
    }
    options = [f"-D{name}={value}" for name, value in settings.items()]
    _job_server(starting, cache, "spark", ["--spark-master-url", url], options=options, env=env)
    starting.state.options[-1:] = [
        "--environment_type=EXTERNAL",
        f"--environment_config={HOST}:{pool}",
        # Executors have every class from their SPARK_HOME: without it the driver sends them all 180 jars for each scan.
        f"--files_to_stage={job_server_jar('spark', cache)}",
    ]


ENGINES: dict[str, Callable[[Starting, Path], None]] = {
    "flink": start_flink,
    "loopback": start_loopback,
    "spark": start_spark,
    "spark-cluster": start_spark_cluster,
}


def _spark_home(folder: Path, jars: Sequence[str]) -> Path:
    """A folder that Spark takes for its installation: executors find their class path in its `jars/` and die without."""
    home = folder / "spark"
    (home / "jars").mkdir(parents=True)
    for n, jar in enumerate(jars):
        (home / "jars" / f"{n:03d}-{Path(jar).name}").symlink_to(jar)
    return home


def _job_server(
    starting: Starting,
    cache: Path,
    engine: str,
    arguments: Sequence[str],
    *,
    options: Sequence[str] = (),
    env: dict[str, str] | None = None,
) -> None:
    port = free_port()
    ports = ["--job-host", HOST, "--job-port", str(port), "--artifact-port", "0", "--expansion-port", "0"]
    artifacts = ["--artifacts-dir", str(Path(starting.state.folder) / "artifacts")]
    command = ["java", "-Xmx1g", *options, "-jar", str(job_server_jar(engine, cache)), *ports, *artifacts, *arguments]
    starting.run("job-server", command, port=port, env=env)
    _portable(starting.state, port)


def _portable(state: State, port: int) -> None:
    state.options += [f"--job_endpoint={HOST}:{port}", "--environment_type=LOOPBACK"]


def start(engine: str, state_file: Path, cache: Path) -> State:
    """Start an engine; what was started is in the state file whatever happens.

    Raises:
        EngineError: A program is missing, or a server did not start (then all of the engine is stopped again).
    """
    if state_file.exists():
        raise EngineError(f"{state_file} is there: stop that engine first")
    folder = tempfile.mkdtemp(prefix=f"forebear-{engine}-")
    state = State(engine, folder)
    try:
        ENGINES[engine](Starting(state), cache)
    except BaseException:
        end(state)
        raise
    state_file.write_text(json.dumps(asdict(state), indent=1))
    return state


def end(state: State) -> None:
    """End what was started, in reverse order, with all that it started itself."""
    for process in reversed(state.processes):
        pid = int(str(process["pid"]))
        if started_at(pid) != process["started"]:
            continue  # gone, or another process that was given its id
        for sent, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, sent)
            until = time.monotonic() + seconds
            while started_at(pid) == process["started"] and time.monotonic() < until:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                time.sleep(0.1)
            if started_at(pid) != process["started"]:
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # executors that outlived their worker: of the same session, so ours
    shutil.rmtree(state.folder, ignore_errors=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=caches / "forebear-engines", help="where class paths and jars are kept")
    commands = parser.add_subparsers(dest="command", required=True)
    jar = commands.add_parser("jar", help="build the jar that Beam's --spark_job_server_jar or --flink_job_server_jar takes")
    jar.add_argument("engine", choices=sorted(MAIN))
    for name in ("start", "stop"):
        command = commands.add_parser(name)
        if name == "start":
            command.add_argument("engine", choices=sorted(ENGINES))
        command.add_argument("--state", type=Path, required=True, help="where it is written what runs")
    asked = parser.parse_args()
    try:
        if asked.command == "jar":
            print(job_server_jar(asked.engine, asked.cache))
        elif asked.command == "start":
            print("--runner PortableRunner --", *start(asked.engine, asked.state, asked.cache).options)
        else:
            end(State(**json.loads(asked.state.read_text())))
            asked.state.unlink()
    except (EngineError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
