"""Project (b): an environment of about 300 MB and 2,000 code and asset files, always the same ones.

The files are what a Django application of that size holds – modules, templates, styles, scripts,
images – and compress as such files do.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.workshop import Workshop

TITLE = "300 MB of environment, 2,000 code and asset files"
ANSWERS = "/healthz"
MODULE = "portal/urls.py"
_REQUIREMENTS = """\
django~=5.2.0
wagtail~=7.0.0
numpy~=2.2
pandas~=2.2
pillow~=11.3
lxml~=6.0
cryptography~=45.0
celery~=5.5
boto3~=1.40
gunicorn~=23.0
"""
_SETTINGS = """\
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "of-a-benchmark"
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.staticfiles",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "collected"
STATICFILES_DIRS = [BASE_DIR / "assets"]
USE_TZ = True
"""
_URLS = """\
import numpy
import pandas
from django.http import HttpRequest, HttpResponse
from django.urls import path


def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"numpy {numpy.__version__}, pandas {pandas.__version__}")


urlpatterns = [path("healthz", healthz)]
"""
_WSGI = """\
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
application = get_wsgi_application()
"""
_MANAGE = """\
import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
"""
_FIXED = {
    "requirements.txt": _REQUIREMENTS,
    "manage.py": _MANAGE,
    "portal/__init__.py": "",
    "portal/settings.py": _SETTINGS,
    "portal/urls.py": _URLS,
    "portal/wsgi.py": _WSGI,
}
_PYTHON, _TEMPLATES, _STYLES, _SCRIPTS, _IMAGES = 1000, 250, 200, 300, 244
_VOCABULARY = (
    "account address amount approve archive assign balance batch booking branch budget cancel cash "
    "category charge check client collect comment company confirm contact contract create credit "
    "currency customer date debit decline default delete deliver deposit discount document draft "
    "due email employee entry estimate event expense export fee filter final group history "
    "index interest invoice item journal label ledger line list member merge message month "
    "net note number offer open order owner paid partner payment period person phone plan post "
    "price print process product profile project quantity quarter rate receipt record refund "
    "region reject remind report request reverse review role round sale schedule search section "
    "send service settle share sheet ship status stock store submit subtotal summary supplier tax "
    "team term text title total transfer type unit update upload user value vendor verify year"
)
_WORDS = _VOCABULARY.split()


def make(directory: Path, _shop: Workshop) -> None:
    """Write all files; the same bytes every time."""
    for path, text in _FIXED.items():
        _write(directory / path, text.encode())
    numbers = random.Random(20130307)
    for path, content in _generated(numbers):
        _write(directory / path, content)


def _generated(numbers: random.Random) -> Iterator[tuple[str, bytes]]:
    kinds: list[tuple[int, str, str, Callable[[random.Random], bytes]]] = [
        (_PYTHON, "apps/{0}/{1}_{2}.py", "py", _python),
        (_TEMPLATES, "apps/{0}/templates/{1}_{2}.html", "html", _template),
        (_STYLES, "assets/{0}/{1}_{2}.css", "css", _style),
        (_SCRIPTS, "assets/{0}/{1}_{2}.js", "js", _script),
        (_IMAGES, "assets/{0}/{1}_{2}.png", "png", _image),
    ]
    for count, pattern, _, content in kinds:
        for number in range(count):
            section = _WORDS[number % 40]
            yield pattern.format(section, numbers.choice(_WORDS), number), content(numbers)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _words(numbers: random.Random, least: int, most: int) -> str:
    return " ".join(numbers.choices(_WORDS, k=numbers.randint(least, most)))


def _python(numbers: random.Random) -> bytes:
    lines = [f'"""{_words(numbers, 4, 9).capitalize()}."""', "", "from decimal import Decimal", ""]
    for _ in range(numbers.randint(1, 4)):
        name = "".join(word.capitalize() for word in numbers.sample(_WORDS, 2))
        lines += ["", f"class {name}:", f'    """{_words(numbers, 5, 12).capitalize()}."""', ""]
        for _ in range(numbers.randint(2, 4)):
            lines += _method(numbers)
    return "\n".join(lines).encode()


def _method(numbers: random.Random) -> list[str]:
    first, second, third = numbers.sample(_WORDS, 3)
    lines = [
        f"    def {first}_{second}(self, {third}: Decimal, *, limit: int = 10) -> list[Decimal]:"
    ]
    lines.append(f'        """{_words(numbers, 6, 14).capitalize()}."""')
    lines.append("        found: list[Decimal] = []")
    for _ in range(numbers.randint(1, 4)):
        word, other = numbers.sample(_WORDS, 2)
        number = numbers.randint(1, 400)
        lines += [
            f"        {word}_{other} = {third} * {number} - len(found)",
            f"        if {word}_{other} > {numbers.randint(1, 900)}:",
            f"            found.append({word}_{other})  # {_words(numbers, 3, 8)}",
        ]
    return [*lines, "        return found[:limit]", ""]


def _template(numbers: random.Random) -> bytes:
    lines = ["{% extends 'base.html' %}", "{% block content %}"]
    for _ in range(numbers.randint(20, 60)):
        name, field = numbers.sample(_WORDS, 2)
        lines += [
            f'  <div class="{name}-{field} row">',
            f"    <h3>{_words(numbers, 2, 5).title()}</h3>",
            f"    <p>{{{{ {name}.{field}|default:'' }}}} {_words(numbers, 5, 15)}</p>",
            "  </div>",
        ]
    return "\n".join([*lines, "{% endblock %}", ""]).encode()


def _style(numbers: random.Random) -> bytes:
    lines = []
    for _ in range(numbers.randint(40, 120)):
        first, second = numbers.sample(_WORDS, 2)
        lines += [
            f".{first}-{second} > .{numbers.choice(_WORDS)} {{",
            f"  margin: {numbers.randint(0, 40)}px {numbers.randint(0, 40)}px;",
            f"  color: #{numbers.randrange(1 << 24):06x};",
            f"  width: {numbers.randint(1, 100)}%;",
            "}",
        ]
    return "\n".join(lines).encode()


def _script(numbers: random.Random) -> bytes:
    lines = ['"use strict";', ""]
    for _ in range(numbers.randint(10, 60)):
        first, second, third = numbers.sample(_WORDS, 3)
        lines += [
            f"// {_words(numbers, 4, 10)}",
            f"export function {first}{second.capitalize()}({third}, options = {{}}) {{",
            f"  const {second} = options.{first} ?? {numbers.randint(0, 500)};",
            f"  if ({third}.{second} > {second}) {{",
            f'    return {third}.filter((one) => one.{second} !== "{_words(numbers, 1, 3)}");',
            "  }",
            f"  return {third}.{first}.map((one) => one.{second} + {numbers.randint(1, 90)});",
            "}",
            "",
        ]
    return "\n".join(lines).encode()


def _image(numbers: random.Random) -> bytes:
    """Return a PNG of a gradient with noise: as little compressible as a photograph."""
    side = numbers.randint(40, 140)
    noise = numbers.randbytes(side * side * 3)
    rows = bytearray()
    for y in range(side):
        rows.append(0)
        at = y * side * 3
        rows += bytes((y + (byte & 63)) & 255 for byte in noise[at : at + side * 3])
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(rows), 6)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )
