"""The configuration: where it comes from, what overrides it, and how its errors name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifact.configuration import artifact_toml
from artifact.configuration.artifact_toml import Config, load
from artifact.errors import ConfigurationError
from artifact.manifest import Health

WHOLE = """
name = "accounting"
[processes.web]
command = "gunicorn accounting.wsgi"
listen = "127.0.0.1:8000"
health = "/healthz"
stop-timeout = 35
"""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("ARTIFACT_"):
            monkeypatch.delenv(name)


def project(directory: Path, text: str = WHOLE) -> Path:
    (directory / "artifact.toml").write_text(text)
    return directory


def refused(directory: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(project(directory, text))
    assert caught.value.code == 2
    return caught.value.message


def test_a_plain_project_needs_only_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manage.py").touch()
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path)
    assert "artifact init" in caught.value.hint
    assert load(tmp_path, name="shop").root == "/srv/shop"
    monkeypatch.setenv("ARTIFACT_NAME", "blog")
    loaded = load(tmp_path)
    assert (loaded.name, loaded.root) == ("blog", "/srv/blog")
    assert loaded.django is not None
    assert load(tmp_path, name="shop").name == "shop"


def test_a_project_without_manage_py_is_not_django(tmp_path: Path) -> None:
    assert load(tmp_path, name="shop").django is None


def test_the_tables_may_stand_in_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.artifact]\nname = "shop"\nroot = 5\n')
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path)
    assert caught.value.message == "pyproject.toml: tool.artifact.root: expected a string, got 5"
    (tmp_path / "pyproject.toml").write_text('[tool.artifact]\nname = "shop"\n')
    assert load(tmp_path).name == "shop"


def test_two_configurations_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.artifact]\nname = "shop"\n')
    assert "configured twice" in refused(tmp_path, 'name = "shop"')


def test_a_pyproject_of_other_tools_is_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert load(project(tmp_path)).name == "accounting"


def test_a_wrong_value_is_named_by_its_key(tmp_path: Path) -> None:
    message = refused(tmp_path, WHOLE.replace("= 35", '= "35s"'))
    assert message == (
        'artifact.toml: processes.web.stop-timeout: expected a number of seconds, got "35s"'
    )


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = """
    name = "Accounting"
    rot = "/srv/x"
    [requirements]
    tools = "poetry"
    files = "requirements.txt"
    [[assets]]
    name = "npm"
    outputs = ["dist/**", 7]
    """
    assert refused(tmp_path, text).splitlines() == [
        'artifact.toml: rot: unknown key, did you mean "root"?',
        'artifact.toml: requirements.files: expected a list of strings, got "requirements.txt"',
        'artifact.toml: requirements.tools: expected "uv" or "pip", got "poetry"',
        "artifact.toml: assets[0].run: is missing: expected a string",
        "artifact.toml: assets[0].outputs[1]: expected a string, got 7",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("name = 'Shop'", "name: expected a small letter, then up to 31 of small letters, digits"),
        ("root = 'srv'", "root: expected an absolute path"),
        ("root = '/srv/../etc'", "root: expected an absolute path"),
        ("root = '/srv/a b'", "root: expected an absolute path"),
        ("[django]\nsettings = 'a-b'", "django.settings: expected a module"),
        ("[django]\nmanage = 'src/manage.py'", "django.manage: there is no file"),
        ("[django]\ncompress = 'yes'", 'django.compress: expected true or false or "auto"'),
        ("[processes.web]\ncommand = 'x'\nlisten = '8000'", 'processes.web.listen: expected "HO'),
        ("[processes.web]\ncommand = 'x'\nlisten = 'a:99999'", "expected a port between 1 and"),
        ("[processes.web]\ncommand = 'x'\nlisten = 'unix:web.sock'", "and an absolute path"),
        ("[processes.web]\ncommand = 'x \"'", "processes.web.command: cannot be split"),
        ("[processes.web]\ncommand = 'x'\nhealth = '/'", "does not listen cannot be asked"),
        (
            "[processes.web]\ncommand = 'x'\nlisten = '127.0.0.1:1'\nhealth = { host = 'a b' }",
            "processes.web.health.host: expected a host like example.com",
        ),
        ("[processes.'we b']\ncommand = 'x'", 'processes."we b": the name of a process'),
        ("[processes.web]\ncommand = 'x'\ninstances = 0", "expected a number from 1 to 1000"),
        ("[processes.web]\ncommand = 'x'\nstop_timeout = 3", 'did you mean "stop-timeout"?'),
        ("[processes.web]\ncommand = 'x'\nstop-timeout = inf", "expected a number of seconds"),
        ("[processes.web]\ncommand = 'x'\nstop-timeout = true", "of seconds, got true"),
        ("[install]\nrestart = 'now'", 'expected "slots", "graceful" or "none", got "now"'),
        ("[install]\nkeep = 0", "install.keep: expected a number from 1, got 0"),
        ("[install]\nshared = ['/media']", "install.shared[0]: expected a path inside"),
        ("[install]\nshared = ['virtualenv/']", "belongs to artifact itself"),
        ("[install]\nshared = ['media', 'media/']", "is listed twice"),
        ("[store]\nurl = 'acme'", "store.url: expected s3://"),
        ("[[assets]]\nname='a'\nrun='x'\noutputs=[]", "assets[0].outputs: expected at least one"),
        ("[[assets]]\nname='a'\nrun='x'\noutputs=['../x']", "assets[0].outputs[0]: expected a p"),
        ("[[assets]]\nname='compress'\nrun='x'\noutputs=['x']", "is the name of a step of [dja"),
        ("processes = 3", "processes: expected a table, got 3"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, line: str, message: str) -> None:
    name = "" if line.startswith("name") else "name = 'shop'\n"
    assert message in refused(tmp_path, name + line)


def test_steps_and_sockets_must_differ(tmp_path: Path) -> None:
    step = "[[assets]]\nname = 'a'\nrun = 'x'\noutputs = ['x']\n"
    assert 'assets[1].name: "a" is the name of an earlier step' in refused(
        tmp_path, f"name = 'shop'\n{step}{step}"
    )
    twin = "\n[processes.api]\ncommand = 'x'\nlisten = '127.0.0.1:8000'\n"
    assert "processes.api.listen: processes.web listens there too" in refused(
        tmp_path, WHOLE + twin
    )


def test_what_may_be_secret_is_not_shown(tmp_path: Path) -> None:
    message = refused(tmp_path, "name = 'shop'\n[django]\nenv = { SECRET_KEY = 8675309 }")
    assert message.endswith("django.env.SECRET_KEY: expected a string, got a whole number")


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    assert "at line 2" in refused(tmp_path, 'name = "shop"\nroot = \n')


def test_variables_override_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ARTIFACT_ROOT": "/opt/accounting",
        "ARTIFACT_STORE_URL": "s3://acme",
        "ARTIFACT_PYTHON_INTERPRETER": "python3.12",
        "ARTIFACT_REQUIREMENTS_FILES": "base.txt, prod.txt",
        "ARTIFACT_PROCESSES_WEB_STOP_TIMEOUT": "50",
        "ARTIFACT_PROCESSES_WEB_HEALTH": "/up",
        "ARTIFACT_DJANGO_ENV_SECRET_KEY": "a,b",
        "ARTIFACT_DJANGO_COLLECTSTATIC": "no",
        "ARTIFACT_DJANGO_COMPRESS": "auto",
        "ARTIFACT_INSTALL_KEEP": "9",
        "ARTIFACT_INSTALL_RESTART": "",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "manage.py").touch()
    loaded = load(project(tmp_path))
    assert loaded.root == "/opt/accounting"
    assert loaded.store.url == "s3://acme"
    assert loaded.python.interpreter == "python3.12"
    assert loaded.requirements.files == ("base.txt", "prod.txt")
    assert artifact_toml.processes(loaded)["web"].stop_timeout == 50
    assert artifact_toml.processes(loaded)["web"].health == Health(path="/up")
    assert loaded.django is not None
    assert loaded.django.env == {"SECRET_KEY": "a,b"}
    assert loaded.django.collectstatic is False
    assert loaded.django.compress == "auto"
    assert (loaded.install.keep, loaded.install.restart) == (9, "slots")


def test_a_wrong_variable_is_named_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACT_PROCESSES_WEB_STOP_TIMEOUT", "35s")
    monkeypatch.setenv("ARTIFACT_PYTHON_INTERPRETR", "python3.12")
    monkeypatch.setenv("ARTIFACT_STORE_CREDENTIALS_FOR_ANOTHER_TOOL", "x")
    near = "ARTIFACT_PYTHON_INTERPRETER"
    assert refused(tmp_path, WHOLE).splitlines() == [
        f"ARTIFACT_PYTHON_INTERPRETR: is no key's variable; did you mean {near}?",
        'ARTIFACT_PROCESSES_WEB_STOP_TIMEOUT: expected a number of seconds, got "35s"',
    ]


def test_a_wrong_option_is_named_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^--name: expected a small letter"):
        load(project(tmp_path, ""), name="Shop")


@pytest.mark.parametrize(
    ("command", "server"),
    [
        ("gunicorn accounting.wsgi --workers 4", "gunicorn"),
        ("/usr/bin/env python -m uvicorn app:app", "uvicorn"),
        ("newrelic-admin run-program gunicorn -k uvicorn.workers.UvicornWorker x", "gunicorn"),
        ("celery -A accounting worker", "celery"),
        ("python manage.py rqworker", "other"),
    ],
)
def test_the_server_is_found_from_the_command(tmp_path: Path, command: str, server: str) -> None:
    text = f"name = 'shop'\n[processes.web]\ncommand = '{command}'\n"
    assert artifact_toml.processes(load(project(tmp_path, text)))["web"].server == server


def test_a_health_check_may_be_spelled_out(tmp_path: Path) -> None:
    health = '{ path = "/up", host = "example.com", timeout = 5, status = [200, 204] }'
    loaded = load(project(tmp_path, WHOLE.replace('"/healthz"', health)))
    assert artifact_toml.processes(loaded)["web"].health == Health(
        path="/up", host="example.com", timeout=5.0, status=(200, 204)
    )
    message = refused(tmp_path, WHOLE.replace('"/healthz"', '{ pth = "/up" }'))
    assert message == 'artifact.toml: processes.web.health.pth: unknown key, did you mean "path"?'
    assert "or a table, got 7" in refused(tmp_path, WHOLE.replace('"/healthz"', "7"))


def test_a_whole_configuration_is_what_it_says(tmp_path: Path) -> None:
    loaded = load(project(tmp_path))
    assert isinstance(loaded, Config)
    web = artifact_toml.processes(loaded)["web"]
    assert (web.server, web.listen, web.stop_timeout) == ("gunicorn", "127.0.0.1:8000", 35.0)
