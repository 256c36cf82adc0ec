"""`artifact build` on the sample project, and what other programs make of its result."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Built
from tests.integration.command import artifact, run
from tests.integration.projects import Checkout

pytestmark = pytest.mark.slow

Tree = dict[str, tuple[str, int, str]]


def inspect(path: Path) -> dict[str, Any]:
    """Return the manifest, read as plainly as anybody could."""
    member = run(["tar", "-xzOf", path, ".artifact/manifest.json"], cwd=path.parent)
    manifest: dict[str, Any] = json.loads(member.stdout)
    return manifest


def trees(path: Path) -> dict[str, str]:
    """Return the digest of every component's tree."""
    return {component["name"]: component["tree"] for component in inspect(path)["components"]}


def tree(root: Path) -> Tree:
    """Return path -> (type, mode, content or target) of everything below a directory."""
    found: Tree = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", 0o777, str(path.readlink()))
        elif path.is_dir():
            found[name] = ("directory", path.stat().st_mode & 0o777, "")
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = ("file", path.stat().st_mode & 0o777, digest)
    return found


@pytest.fixture(scope="module")
def unpacked(accounting: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's artifact as GNU tar unpacks it."""
    directory = tmp_path_factory.mktemp("unpacked")
    run(["tar", "-xzf", accounting.path, "-C", directory], cwd=directory)
    return directory


def test_stdout_is_the_path_and_nothing_else(accounting: Built) -> None:
    assert accounting.stdout == f"{accounting.path}\n"
    assert accounting.path.is_file()
    assert accounting.path.name == "accounting-1337.tgz"


def test_the_plan_says_what_would_be_done_and_does_nothing(
    check_out: Callable[[str], Checkout],
) -> None:
    checkout = check_out("plan")
    planned = checkout.build("--version", "1700", "--plan", "--json")
    document = json.loads(planned.stdout)
    assert document["assets"] == ["compilemessages", "collectstatic", "compress"]
    assert document["environment"]["reused"]
    assert not checkout.output.exists()


def test_the_end_says_what_cost_what(accounting: Built) -> None:
    for word in ("environment", "venv", "assets", "code"):
        assert word in accounting.stderr
    assert "\x1b" not in accounting.stderr, "no control characters without a terminal"


def test_verify_accepts_it(accounting: Built) -> None:
    artifact("verify", accounting.path, cwd=accounting.path.parent)


@pytest.mark.parametrize("program", ["bsdtar", "busybox", "tarfile"])
def test_other_readers_unpack_the_same_tree(
    program: str, accounting: Built, unpacked: Path, tmp_path: Path
) -> None:
    if program == "tarfile":
        with tarfile.open(accounting.path) as archive:
            archive.extractall(tmp_path, filter="fully_trusted")
    else:
        argv = {"bsdtar": ["bsdtar"], "busybox": ["busybox", "tar"]}[program]
        run([*argv, "-xzf", accounting.path, "-C", tmp_path], cwd=tmp_path)
    assert tree(tmp_path) == tree(unpacked)


@pytest.mark.parametrize("program", ["gzip", "pigz"])
def test_gzip_finds_nothing_wrong(program: str, accounting: Built) -> None:
    ran = run([program, "-t", accounting.path], cwd=accounting.path.parent)
    assert ran.stderr == "", "not even trailing garbage"


def test_it_holds_code_assets_and_environment(unpacked: Path) -> None:
    for name in (
        "manage.py",
        "accounting/wsgi.py",
        "ledger/migrations/0003_merge_currency_and_statement.py",
        "ledger/locale/de/LC_MESSAGES/django.mo",
        "staticfiles/staticfiles.json",
        "staticfiles/CACHE/manifest.json",
        "virtualenv/bin/gunicorn",
    ):
        assert (unpacked / name).is_file(), name
    styles = json.loads((unpacked / "staticfiles/staticfiles.json").read_text())["paths"]
    assert (unpacked / "staticfiles" / styles["ledger/page.css"]).is_file()
    assert not (unpacked / ".git").exists()
    assert not (unpacked / "ledger/tests").exists(), ".artifactignore names it"


def test_it_says_what_an_install_needs_to_know(accounting: Built) -> None:
    manifest = inspect(accounting.path)
    assert (manifest["name"], manifest["version"]) == ("accounting", "1337")
    assert manifest["root"] == str(accounting.checkout.root)
    assert manifest["source"]["revision"] == accounting.checkout.git("rev-parse", "HEAD").strip()
    assert manifest["source"]["dirty"] is False
    assert manifest["django"] == "accounting.settings.production"
    assert manifest["static"] == "staticfiles"
    assert set(manifest["processes"]) == {"web", "worker"}
    assert manifest["migrations"]["ledger"][-1] == "0004_plain_account_numbers"
    assert "django" in manifest["environment"]["packages"]
    assert "ofxparse" in manifest["environment"]["packages"], "from an sdist"


def test_the_environment_runs_where_it_was_compiled(accounting: Built) -> None:
    key = inspect(accounting.path)["environment"]["key"]
    python = accounting.checkout.root / "virtualenv" / key / "bin" / "python"
    code = "import lxml.etree, msgpack, ofxparse, django; print(django.__file__)"
    said = run([python, "-c", code], cwd=accounting.path.parent)
    assert said.stdout.startswith(str(python.parents[1]))


@pytest.mark.parametrize("command", ["test", "makemigrations --check --dry-run"])
def test_the_sample_is_a_sound_project(
    command: str, accounting: Built, check_out: Callable[[str], Checkout]
) -> None:
    key = inspect(accounting.path)["environment"]["key"]
    python = accounting.checkout.root / "virtualenv" / key / "bin" / "python"
    run([python, "manage.py", *command.split()], cwd=check_out("sound").path)


def test_the_checkout_stays_clean(accounting: Built) -> None:
    checkout = accounting.checkout
    assert checkout.git("status", "--porcelain", "--ignored", "--untracked-files=all") == ""


def test_a_second_build_reuses_the_environment_and_says_so(
    check_out: Callable[[str], Checkout],
) -> None:
    checkout = check_out("again")
    ran = checkout.build("--version", "1338")
    assert "reused" in ran.stderr


def test_two_checkouts_of_one_commit_give_equal_trees_and_equal_bytes(
    accounting: Built, check_out: Callable[[str], Checkout]
) -> None:
    one, other = check_out("one"), check_out("other")
    # The clone has the commit, and with it the times, of the first.
    shutil.rmtree(other.path)
    one.git("clone", "--quiet", str(one.path), str(other.path))
    first = one.build("--version", "1400", "--reproducible").stdout.strip()
    second = other.build("--version", "1400", "--reproducible").stdout.strip()
    assert first != second
    assert Path(first).read_bytes() == Path(second).read_bytes()
    assert trees(Path(first)) == trees(accounting.path)


def test_an_uncommitted_change_is_warned_about_and_recorded(
    check_out: Callable[[str], Checkout],
) -> None:
    checkout = check_out("dirty")
    with (checkout.path / "ledger/views.py").open("a") as views:
        views.write("# not committed\n")
    ran = checkout.build("--version", "1500")
    assert "uncommitted" in ran.stderr
    assert inspect(Path(ran.stdout.strip()))["source"]["dirty"] is True


def test_settings_that_cannot_be_imported_end_the_build(
    check_out: Callable[[str], Checkout],
) -> None:
    checkout = check_out("broken")
    checkout.write({"accounting/settings/production.py": "import no_such_module\n"})
    ran = checkout.build("--version", "1600", status=3)
    assert ran.stdout == ""
    assert "No module named 'no_such_module'" in ran.stderr
    assert "hint:" in ran.stderr
    assert not list(checkout.output.glob("*")), "no artifact, and nothing of one"


def test_a_secret_of_the_asset_steps_appears_nowhere(check_out: Callable[[str], Checkout]) -> None:
    checkout = check_out("secret")
    settings = checkout.path / "accounting/settings/production.py"
    checkout.write(
        {str(settings.relative_to(checkout.path)): settings.read_text() + "print(SECRET_KEY)\n"}
    )
    secret = "planted-in-the-settings-7c1f"
    ran = checkout.build("--version", "1700", "--verbose", ARTIFACT_DJANGO_ENV_SECRET_KEY=secret)
    assert secret not in ran.stdout + ran.stderr
    assert "[redacted]" in ran.stderr, "the settings did print it"
    path = Path(ran.stdout.strip())
    assert secret.encode() not in path.read_bytes()
    assert secret.encode() not in gzip.decompress(path.read_bytes())
    for kept in checkout.cache.rglob("*"):
        assert not kept.is_file() or secret.encode() not in kept.read_bytes(), kept
