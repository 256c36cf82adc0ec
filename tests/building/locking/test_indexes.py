"""pip's configuration holds for both toolchains, and credentials show up nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from artifact import variables
from artifact.building.locking import indexes
from artifact.building.locking.indexes import Options
from artifact.configuration.artifact_toml import Tools
from artifact.errors import ArtifactError, BuildFailed, UsageError
from surroundings.index import Index, sha256
from tests.building.conftest import Project

both_tools = pytest.mark.parametrize("tools", ["uv", "pip"])
PASSWORD = "open-sesame-of-the-index"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    (directory / ".config/pip").mkdir(parents=True)
    (directory / ".pip").mkdir()
    return directory


@pytest.mark.parametrize("explicit", ["", "there.conf", "gone.conf"])
def test_files_and_variables_win_over_each_other_as_in_pip(home: Path, explicit: str) -> None:
    (home / ".pip/pip.conf").write_text("[global]\nindex-url = https://legacy\ntimeout = 11\n")
    (home / ".config/pip/pip.conf").write_text(
        "[global]\nindex_url = https://user\nextra-index-url =\n  https://one\n  https://two\n"
        "[install]\nproxy = install:1\n[wheel]\nproxy = wheel:1\n"
    )
    (home / "there.conf").write_text("[global]\nindex-url = https://explicit\nproxy = global:1\n")
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PIP_RETRIES": "7"}
    if explicit:
        environment["PIP_CONFIG_FILE"] = str(home / explicit)
    script = (
        "from pip._internal.commands.install import InstallCommand\n"
        "from pip._internal.commands import create_command\n"
        "options, _ = create_command('install').parse_args(['x'])\n"
        "print(options.index_url, options.timeout, options.extra_index_urls, options.proxy,"
        " options.retries, sep='|')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    index, timeout, extra, proxy, retries = ran.stdout.strip().split("|")
    found = indexes.read_settings(Options(), environment)
    assert found.options.index_url == index
    assert str(list(found.options.extra_index_urls)) == extra
    assert found.pip.get("timeout", "15") in {timeout, f"{float(timeout):g}"}
    assert found.pip.get("proxy", "") == proxy
    assert found.pip["retries"] == retries


def test_every_setting_that_concerns_getting_packages_reaches_uv(home: Path) -> None:
    (home / "links").mkdir()
    (home / ".config/pip/pip.conf").write_text(
        f"[global]\nindex-url = https://u:p@a.example/simple\n"
        f"extra-index-url = https://b.example file:///gone/simple\n"
        f"find-links = file://{home}/links {home}/gone\ncert = {home}/ca.pem\n"
        "client-cert = /client.pem\nproxy = proxy.example:3128\n"
        "trusted-host = a.example b.example\ntimeout = 77\nretries = 9\n"
        "keyring-provider = subprocess\npre = yes\nuser = yes\n"
    )
    environment = {"HOME": str(home), "SSL_CERT_FILE": "/elsewhere.pem", "UV_HTTP_TIMEOUT": "5"}
    settings = indexes.read_settings(Options(trusted_hosts=("c.example",)), environment)
    found = indexes.for_uv(settings)
    want = {
        "UV_DEFAULT_INDEX": "https://u:p@a.example/simple",
        "UV_INDEX": "https://b.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{home}/links",
        "SSL_CERT_FILE": f"{home}/ca.pem",
        "SSL_CLIENT_CERT": "/client.pem",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "UV_INSECURE_HOST": "a.example b.example c.example",
        "UV_HTTP_RETRIES": "9",
        "UV_KEYRING_PROVIDER": "subprocess",
        "UV_PRERELEASE": "allow",
        "UV_HTTP_TIMEOUT": "5",  # what is said to uv itself
    }
    assert {name: found[name] for name in want} == want
    assert "PIP_USER" not in indexes.for_pip(settings), "where to install is not its business"
    assert "p@a.example" not in repr(settings)


def test_a_configuration_that_pip_cannot_read_is_named(home: Path) -> None:
    (home / ".pip/pip.conf").write_text("index-url = x\n")
    with pytest.raises(UsageError, match=r"\.pip/pip\.conf"):
        indexes.read_settings(Options(), {"HOME": str(home)})


@both_tools
def test_the_best_version_of_all_indexes_is_taken_and_lost_local_ones_are_skipped(
    project: Project, index: Index, tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index.wheel("ledger", "1.0")
    newer = Index(tmp_path / "newer")
    wheel = newer.wheel("ledger", "2.0")
    links = tmp_path / "links"
    links.mkdir()
    newer.wheel("money", "3.0").rename(links / "money-3.0-py3-none-any.whl")
    with newer.running():
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{newer.url} file:///gone/simple")
        monkeypatch.setenv("PIP_FIND_LINKS", f"/gone/wheels {links}")
        project.use(tools=tools)
        project.write("requirements.txt", "ledger\nmoney\n")
        locked = project.lock()
        assert sha256(wheel) in locked.pins[0].hashes
        assert project.install(locked, tools) == {"ledger": "2.0", "money": "3.0"}


@both_tools
def test_an_index_url_in_a_requirements_file_goes_before_the_configuration(
    project: Project, index: Index, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("OUR_INDEX", index.url)
    index.wheel("ledger", "1.0")
    project.use(tools=tools)
    project.write("requirements.txt", "--index-url ${OUR_INDEX}\nledger\n")
    locked = project.lock()
    assert index.url not in locked.text
    assert project.install(locked, tools) == {"ledger": "1.0"}


def test_constraints_that_pip_is_configured_with_hold_and_a_change_resolves_again(
    project: Project, index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for version in ("1.0", "2.0", "3.0"):
        index.wheel("ledger", version)
    project.write("requirements.txt", "ledger\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    for bound, version in (("ledger<3", "2.0"), ("ledger<2", "1.0")):
        (tmp_path / "constraints.txt").write_text(bound)
        assert [pin.version for pin in project.lock().pins] == [version]
    (tmp_path / "constraints.txt").write_text(f"ledger @ git+https://h/p@{'a' * 40}")
    with pytest.raises(UsageError, match="a constraint cannot be one"):
        project.lock()
    monkeypatch.setenv("PIP_CONSTRAINT", "https://example.com/constraints.txt")
    with pytest.raises(UsageError, match="may change unseen"):
        project.lock()


@both_tools
def test_an_index_that_cannot_be_reached_or_refuses_is_told(
    project: Project, index: Index, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.use(tools=tools)
    project.write("requirements.txt", "ledger\n")
    index.password = "another"
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("another", PASSWORD))
    with pytest.raises(BuildFailed) as caught:
        project.lock()
    assert "the index refuses access" in caught.value.message, caught.value.output
    assert PASSWORD not in f"{caught.value.message} {caught.value.output} {project.said}"
    if tools == "uv":  # pip takes it for an index without packages
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        with pytest.raises(BuildFailed, match="an index cannot be reached"):
            project.lock()


@pytest.mark.slow
@both_tools
def test_credentials_are_in_no_lock_no_message_and_no_argument(
    project: Project, index: Index, tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    strace = shutil.which("strace")
    assert strace, "this test needs strace: apt-get install strace"
    index.password = PASSWORD
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    index.wheel("ledger", "1.0")
    index.sdist("rates", "0.5")
    link = index.url_of(index.wheel("money", "1.0")).replace("://", f"://deploy:{PASSWORD}@")
    digest = sha256(index.directory / "files" / "money-1.0-py3-none-any.whl")
    project.write("requirements.in", f"ledger\nrates\nmoney @ {link} --hash={digest}\n")
    project.write(
        "artifact.toml",
        f'name = "x"\nroot = "{project.caches.root}"\n[python]\n'
        f'interpreter = "{project.interpreter.path}"\n[requirements]\ntools = "{tools}"\n',
    )
    script = (
        "import sys\nfrom pathlib import Path\nfrom artifact.configuration import artifact_toml\n"
        "from artifact.building import caches\n"
        "from artifact.building import interpreter\n"
        "from artifact.building.locking import lock, wheelhouse\n"
        "from artifact.building.locking.context import BuildContext\n"
        "from artifact.building.locking.tools import toolchain\n"
        "project = Path.cwd()\nfound = artifact_toml.load(project)\n"
        "where = caches.find_caches(found.root)\n"
        "python = interpreter.find(found.python.interpreter, where)\n"
        "request = lock.LockRequest(project, found.requirements, python, where, print)\n"
        "locked = lock.lock_for(request)\n"
        "print(locked.text, locked)\n"
        "context = BuildContext(python, locked.indexes, {}, where, print)\n"
        "toolchain(found.requirements.tools).install(locked, Path(sys.argv[1]), context)\n"
        "wheelhouse.write_wheelhouse(locked, context, project / 'wheels')\n"
    )
    target = tmp_path / "environment"
    argv = [sys.executable, "-m", "virtualenv", "-q", "--no-download", str(target)]
    subprocess.run(argv, check=True)
    monkeypatch.setenv("ARTIFACT_CACHE", str(project.caches.shared))
    trace = tmp_path / "trace"
    watched = [strace, "-f", "-qq", "-s", "100000", "-e", "trace=execve", "-o", str(trace)]
    said = ""
    lock = [sys.executable, "-m", "artifact", "lock", "--verbose"]
    for command in (lock, [sys.executable, "-c", script, str(target / "bin/python")]):
        ran = subprocess.run(
            [*watched, "-v", *command],
            cwd=project.path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        said += ran.stdout + ran.stderr
        # execve's lines hold the arguments in the first list, the variables in the second.
        calls = [line for line in trace.read_text().splitlines() if "execve(" in line]
        assert any("uv" in call or "pip" in call for call in calls)
        arguments = [call.partition("], [")[0] for call in calls]
        assert not [call for call in arguments if PASSWORD in call]
    assert PASSWORD not in said
    for directory in (project.path, Path(project.caches.root), project.caches.shared, target):
        for path in directory.rglob("*"):
            if path.is_file() and path.name != "requirements.in":
                assert PASSWORD.encode() not in path.read_bytes(), path


def test_git_gets_credentials_by_a_variable(
    project: Project, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_LOGIN", f"deploy:{PASSWORD}")
    index.password = PASSWORD
    where = index.url.partition("@")[2].removesuffix("/simple/")
    link = f"git+http://${{GIT_LOGIN}}@{where}/repository.git@{'a' * 40}"
    project.write("requirements.txt", f"ledger @ {link}\n")
    with pytest.raises(ArtifactError) as caught:
        project.lock()
    assert any("repository.git" in path for path in index.requests), "git asked"
    asked = next(i for i, path in enumerate(index.requests) if "repository.git" in path)
    assert index.authorizations[asked].startswith("Basic ")
    assert PASSWORD not in f"{caught.value.message} {caught.value.output} {project.said}"
    assert PASSWORD not in str(list(project.events))


def test_the_minimal_environment_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 20)
    found = indexes.base(variables.everything())
    assert "AWS_SECRET_ACCESS_KEY" not in found
    assert {"PATH", "LANG", "PYTHONHASHSEED", "SOURCE_DATE_EPOCH"} <= found.keys()
