"""`artifact init`: what it finds in projects as they come, and that its file builds them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifact.cli import run
from artifact.configuration import artifact_toml
from artifact.configuration.artifact_toml import Config

MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "%s")\n'
SAMPLE = Path(__file__).parents[1] / "projects" / "accounting"


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "Shop 2"
    directory.mkdir()
    monkeypatch.chdir(directory)
    for name in ("ARTIFACT_NAME", "ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return directory


def write(top: Path, content: dict[str, str]) -> None:
    for path, text in content.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)


def initialised(top: Path, *arguments: str) -> Config:
    assert run(["init", *arguments]) == 0
    return artifact_toml.load(top)


def plain(top: Path, requirements: str = "django\n", settings: str = "") -> None:
    """Write what `django-admin startproject shop .` writes, as far as it matters here."""
    write(
        top,
        {
            "manage.py": MANAGE % "shop.settings",
            "requirements.txt": requirements,
            "shop/__init__.py": "",
            "shop/wsgi.py": MANAGE % "shop.settings",
            "shop/settings.py": settings or 'DATABASES = {"NAME": BASE_DIR / "db.sqlite3"}\n',
            "shop/urls.py": 'urlpatterns = [path("admin/", admin.site.urls)]\n',
        },
    )


def test_a_plain_django_project_gets_a_name_and_a_server(
    top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain(top)
    loaded = initialised(top)
    said = capsys.readouterr()
    assert loaded.name == "shop-2"
    assert said.out == f"{top / 'artifact.toml'}\n"
    assert "found Django: manage.py, settings shop.settings" in said.err
    assert "artifact build --version 1" in said.err
    assert loaded.processes["web"].command == "gunicorn shop.wsgi --workers 2"
    assert loaded.requirements.files == ("requirements.txt", "requirements-server.txt")
    assert "gunicorn" in (top / "requirements-server.txt").read_text().splitlines()
    assert loaded.install.shared == ("db.sqlite3",)
    assert "the database db.sqlite3 in the site's shared/" in said.err


def test_nothing_that_is_there_is_replaced(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain(top)
    write(top, {"artifact.toml": "mine", "requirements-server.txt": "uvicorn\n"})
    assert run(["init"]) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert (top / "artifact.toml").read_text() == "mine"
    assert initialised(top, "--force", "--name", "till").name == "till"
    assert (top / "requirements-server.txt").read_text() == "uvicorn\n"


def test_a_plan_writes_nothing(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain(top)
    before = sorted(top.rglob("*"))
    assert run(["init", "--plan"]) == 0
    assert 'name = "shop-2"' in capsys.readouterr().out
    assert sorted(top.rglob("*")) == before


def test_a_configuration_in_pyproject_is_not_doubled(
    top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(top, {"pyproject.toml": '[tool.artifact]\nname = "shop"\n'})
    assert run(["init"]) == 2
    assert "[tool.artifact]" in capsys.readouterr().err
    assert not (top / "artifact.toml").exists()


def test_a_wrong_name_is_refused(top: Path) -> None:
    assert run(["init", "--name", "Shop"]) == 2
    assert not (top / "artifact.toml").exists()


def test_a_wagtail_project_is_understood_as_it_comes(top: Path) -> None:
    write(
        top,
        {
            "manage.py": MANAGE % "mysite.settings.dev",
            "requirements.txt": "Django>=5.2\nwagtail>=7\n",
            "mysite/wsgi.py": MANAGE % "mysite.settings.production",
            "mysite/settings/__init__.py": "",
            "mysite/settings/base.py": 'MEDIA_ROOT = BASE_DIR / "media"\n'
            'DATABASES = {"NAME": os.path.join(BASE_DIR, "db.sqlite3")}\n',
            "mysite/settings/production.py": "from .base import *\n"
            "try:\n    from .local import *\nexcept ImportError:\n    pass\n",
        },
    )
    loaded = initialised(top)
    assert loaded.django is not None
    assert loaded.django.settings == "mysite.settings.production"
    # Production settings without a SECRET_KEY: a server must have them in local.py.
    assert loaded.install.shared == ("media/", "db.sqlite3", "mysite/settings/local.py")
    assert loaded.processes["web"].command == "gunicorn mysite.wsgi --workers 2"


def test_the_sample_project_is_understood_without_its_configuration(
    top: Path,
) -> None:
    import shutil

    shutil.copytree(SAMPLE, top, dirs_exist_ok=True)
    (top / "artifact.toml").unlink()
    loaded = initialised(top)
    written = artifact_toml.load(SAMPLE)
    assert loaded.django == written.django
    assert loaded.processes["web"].health == written.processes["web"].health
    assert loaded.processes["worker"].command.startswith("celery --app accounting worker")
    assert set(loaded.install.shared) == {"media/", "db/"}
    assert loaded.requirements.files == ()


def test_what_settings_demand_becomes_placeholders(top: Path) -> None:
    plain(
        top,
        settings='import os\nSECRET_KEY = os.environ["KEY"]\nTOKEN = env("TOKEN")\n'
        'DEBUG = env("DEBUG", default=False)\nURL = config("DATABASE_URL")\n'
        'A = os.environ.get("OPTIONAL")\nB = os.getenv("OTHER_SECRET")\n',
    )
    loaded = initialised(top)
    assert loaded.django is not None
    assert sorted(loaded.django.env) == ["DATABASE_URL", "KEY", "OTHER_SECRET", "TOKEN"]


def test_a_project_below_the_top_is_found(top: Path) -> None:
    write(
        top,
        {
            "src/manage.py": MANAGE % "shop.settings",
            "src/shop/settings.py": "MEDIA_ROOT = 1",
            "src/shop/wsgi.py": "",
            "src/shop/celery.py": "",
            "requirements/base.txt": "django\n",
            "requirements/production.txt": "-r base.txt\ngunicorn==23.0\ncelery\n",
            ".python-version": "3.11.7\n",
        },
    )
    loaded = initialised(top)
    assert loaded.django is not None
    assert loaded.django.manage == "src/manage.py"
    assert loaded.requirements.files == ("requirements/production.txt",)
    assert loaded.python.interpreter == "python3.11"
    assert loaded.processes["web"].command == "gunicorn --chdir src shop.wsgi --workers 2"
    assert loaded.processes["worker"].command.startswith("celery --workdir src --app shop ")
    assert loaded.install.shared == ("src/media/",)


def test_a_procfile_says_what_runs(top: Path) -> None:
    plain(top, "django\ngunicorn\n")
    write(
        top,
        {
            "Procfile": "web: gunicorn shop.wsgi --bind 0.0.0.0:80 --log-file -\n"
            "worker: python manage.py qcluster\nrelease: ./manage.py migrate && echo $X\n"
        },
    )
    loaded = initialised(top)
    assert loaded.processes["web"].command == "gunicorn shop.wsgi --log-file -"
    assert loaded.processes["worker"].command == "python manage.py qcluster"
    assert loaded.requirements.files == ()


@pytest.mark.parametrize(
    ("lock", "run_line"),
    [
        ("package-lock.json", "cd web && npm ci && npm run build"),
        ("yarn.lock", "cd web && yarn install --frozen-lockfile && yarn run build"),
        ("pnpm-lock.yaml", "cd web && pnpm install --frozen-lockfile && pnpm run build"),
    ],
)
def test_an_npm_build_becomes_an_asset_step(top: Path, lock: str, run_line: str) -> None:
    plain(top)
    scripts = {"scripts": {"build": "vite build"}}
    write(top, {"web/package.json": json.dumps(scripts), f"web/{lock}": ""})
    (step,) = initialised(top).assets
    assert (step.name, step.run) == ("frontend", run_line)
    assert (step.inputs, step.outputs) == (("web/**",), ("web/dist/**",))


def test_a_health_path_included_without_a_prefix_is_found(top: Path) -> None:
    plain(top, "gunicorn\ndjango\n")
    write(
        top,
        {
            "shop/urls.py": 'path("api/", include("api.urls")), path("", include("till.urls"))',
            "api/urls.py": 'path("health/", x)',
            "till/urls.py": 'path("healthz/", x)',
        },
    )
    assert initialised(top).processes["web"].health == "/healthz/"


def test_an_empty_directory_says_what_is_missing(
    top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = initialised(top)
    assert "still needed: a requirements.txt" in capsys.readouterr().err
    assert loaded.processes == {}


def test_odd_files_do_not_stop_it(top: Path) -> None:
    write(top, {"package.json": "[1", "pyproject.toml": "= broken", "requirements.txt": "\0"})
    (top / "manage.py").symlink_to("nowhere")
    assert run(["init"]) in (0, 2)
