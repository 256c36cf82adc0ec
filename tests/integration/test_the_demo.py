"""`scripts/demo` from its first line to its last, and what it leaves serving when it is kept."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifact import files
from tests.integration.command import clean_environment, run

DEMO = Path(__file__).parents[2] / "scripts" / "demo"
LONGEST_SECONDS = 180.0

pytestmark = pytest.mark.slow


@pytest.fixture
def home(shared_directory: Path) -> Iterator[Path]:
    """The demo's cache directory, for one test at a time; the environment stays."""
    directory = shared_directory / "demo"
    directory.mkdir(exist_ok=True)
    with files.locked(shared_directory / "demo.lock", doing="running the demo", wait=240):
        yield directory
        demo(directory, "--stop")


def demo(home: Path, *arguments: str, status: int = 0) -> str:
    """Run the demo and return what it printed."""
    env = clean_environment(XDG_CACHE_HOME=str(home), **_uv_cache())
    ran = run([DEMO, *arguments], cwd=home, env=env, status=status, timeout=LONGEST_SECONDS)
    return ran.stdout + ran.stderr


def get(url: str, **headers: str) -> str:
    """Return a page."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def test_the_demo_loses_no_request_and_keeps_serving_when_asked(home: Path) -> None:
    said = demo(home, "--keep")
    assert "reused" in said
    found = re.search(r"(\d+) requests in .*: 0 failed", said)
    assert found is not None, said
    assert int(found[1]) > 100
    url = re.search(r"keeps serving: (http://\S+?)/ ", said)
    assert url is not None, said

    site = home / "artifact-demo" / "site"
    assert json.loads(get(f"{url[1]}/version"))["version"] == "1338"
    page = get(f"{url[1]}/", **{"Accept-Language": "de"})
    assert "Kontoauszug hochladen" in page, "compilemessages ran"
    style = re.search(r'href="(/static/CACHE/css/[^"]+)"', page)
    assert style is not None, "compress ran"
    assert "--accent:#b83280" in get(url[1] + style[1])
    late = Path(json.loads(get(f"{url[1]}/lazy"))["module"])
    assert late == site / "releases/1338/ledger/reports.py"

    refused = demo(home, status=1)
    assert f"already serves at {url[1]}" in refused
    assert "--stop" in refused
    a_statement_is_booked_by_the_worker(url[1])

    demo(home, "--stop")
    with pytest.raises(OSError, match="refused"):
        get(f"{url[1]}/version")
    nothing_is_left_but_the_environment(home)


def test_the_demo_cleans_up_when_it_is_interrupted(home: Path) -> None:
    child = subprocess.Popen(
        [DEMO],
        env=clean_environment(XDG_CACHE_HOME=str(home), **_uv_cache()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("   five visitors"):
            child.send_signal(signal.SIGINT)
            break
    output, _ = child.communicate(timeout=LONGEST_SECONDS)
    assert child.returncode == 130, output
    nothing_is_left_but_the_environment(home)


def a_statement_is_booked_by_the_worker(url: str) -> None:
    """Upload a bank statement as a browser does, and wait until Celery has booked it."""
    cookies = urllib.request.HTTPCookieProcessor()
    browser = urllib.request.build_opener(cookies)
    with browser.open(f"{url}/") as answer:
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', answer.read().decode())
    assert token is not None
    statement = DEMO.parents[1] / "tests/projects/accounting/ledger/tests/statement.ofx"
    body = (
        '--limit\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n'
        f"{token[1]}\r\n--limit\r\n"
        'Content-Disposition: form-data; name="file"; filename="january.ofx"\r\n\r\n'
        f"{statement.read_text()}\r\n--limit--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=limit"}
    browser.open(urllib.request.Request(f"{url}/statements/", body.encode(), kind)).close()
    deadline = time.monotonic() + 30
    while "Telephone" not in get(f"{url}/report.xml"):
        assert time.monotonic() < deadline, "the worker does not book the statement"
        time.sleep(0.1)


def nothing_is_left_but_the_environment(home: Path) -> None:
    place = home / "artifact-demo"
    assert {path.name for path in place.iterdir()} <= {"lock", "site"}
    assert [path.name for path in (place / "site").iterdir()] == ["virtualenv"]
    assert [process for process in Path("/proc").glob("[0-9]*") if _is_of(place, process)] == []


def _is_of(place: Path, process: Path) -> bool:
    """Tell whether a process works below the place, or was started with something of it."""
    try:
        mentioned = str(place).encode() in (process / "cmdline").read_bytes()
        return mentioned or (process / "cwd").readlink().is_relative_to(place)
    except OSError:
        return False


def _uv_cache() -> dict[str, str]:
    """Downloads may come from the user's cache though XDG_CACHE_HOME is elsewhere."""
    return {
        "UV_CACHE_DIR": str(Path.home() / ".cache" / "uv"),
        "PIP_CACHE_DIR": str(Path.home() / ".cache" / "pip"),
    }
