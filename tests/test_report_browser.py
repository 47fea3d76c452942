"""The report in a real browser: no error on its console, no request but for itself, and none of axe-core's rules broken.

Skipped, and said so, where there is no chromium; axe-core comes from the npm registry and is skipped where it cannot be had.
"""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from certified import NAME, release

from forebear.tracer.audit.session import Session
from forebear.tracer.certify.report.model import model_report
from forebear.tracer.certify.report.scan import scan_report

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium to test the report in one")

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--virtual-time-budget=10000",
    "--enable-logging=stderr", "--window-size=1280,1600",
]  # fmt: skip


def chromium(url: str, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    released = release(tmp_path_factory.mktemp("report"))
    session = Session.open(released.ledger)
    return {"model": model_report(session, NAME, ledger="ledger"), "run": scan_report(session, released.world.run, ledger="ledger")}


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's script."""
    folder = Path(tempfile.gettempdir()) / "forebear-axe-core"
    script = folder / "node_modules/axe-core/axe.min.js"
    if not script.exists():
        if (npm := shutil.which("npm")) is None:
            pytest.skip("NO npm: axe-core's rules were not run")
        folder.mkdir(exist_ok=True)
        install = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", "--silent", "axe-core@4"]
        done = subprocess.run(install, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0 or not script.exists():
            pytest.skip(f"NO axe-core: its rules were not run ({done.stderr.strip()[:200]})")
    return script.read_text("utf-8")


class Handler(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []
    page = b""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200 if self.path == "/report.html" else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("OneTest", (Handler,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}/report.html", handler
        found.shutdown()


@pytest.mark.parametrize("kind", ["model", "run"])
def test_it_makes_no_request_and_logs_no_error(kind: str, pages: dict[str, str], server: tuple[str, type[Handler]], tmp_path: Path) -> None:
    url, handler = server
    handler.page = pages[kind].encode()
    done = chromium(url, tmp_path / "profile", "--dump-dom")
    assert handler.asked == ["/report.html"]
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    assert '<main id="content"' in done.stdout


def test_the_console_is_heard(server: tuple[str, type[Handler]], tmp_path: Path) -> None:
    """The test above could not see an error otherwise."""
    url, handler = server
    handler.page = b"<!doctype html><script>console.error('heard'); fetch('/other')</script>"
    done = chromium(url, tmp_path / "profile", "--dump-dom")
    assert "CONSOLE" in done.stderr and "/other" in handler.asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["model", "run"])
def test_it_breaks_none_of_axes_rules(kind: str, scheme: str, pages: dict[str, str], axe: str, tmp_path: Path) -> None:
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", pages[kind])
    if scheme == "dark":
        page = page.replace("@media(prefers-color-scheme:dark)", "@media all", 1)
    run = "axe.run(document).then(r => { document.title = 'axe'; const p = document.createElement('pre'); p.id = 'axe-result'; "
    run += "p.textContent = JSON.stringify(r.violations.map(v => [v.id, v.nodes.map(n => n.html)])); document.body.replaceChildren(p) })"
    path = tmp_path / "report.html"
    path.write_text(page.replace("</body>", f"<script>{axe}</script><script>{run}</script></body>"), encoding="utf-8")
    dom = chromium(path.as_uri(), tmp_path / "profile", "--dump-dom").stdout
    found = re.search(r'<pre id="axe-result">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, "axe did not finish"
    assert json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")) == []


def test_on_paper_it_is_a_few_pages(pages: dict[str, str], tmp_path: Path) -> None:
    path, out = tmp_path / "report.html", tmp_path / "report.pdf"
    path.write_text(pages["model"], encoding="utf-8")
    chromium(path.as_uri(), tmp_path / "profile", f"--print-to-pdf={out}", "--no-pdf-header-footer")
    data = out.read_bytes()
    assert data.startswith(b"%PDF") and 1 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 6
