"""The site's `site.toml`: the commented example, with what differs from the defaults set."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from artifact.configuration import example
from artifact.configuration.example import SITE_TOML, Table
from artifact.configuration.site_toml import ProxySection, Settings
from artifact.host.preparing import placing
from artifact.host.preparing.lines import Aim, Found, Line
from artifact.host.records.generated import marked
from artifact.host.records.problem import Problem
from artifact.steps import Warned


def find(aim: Aim) -> Iterator[Found]:
    """Say whether the file is there and holds what the options say."""
    path, settings = aim.site.settings, aim.target.settings
    content = marked(body(aim.manifest.name, settings))
    whose = placing.whose(path, content)
    if whose == "same":
        yield Line("settings", f"{path}")
    elif whose != "edited":
        mode = 0o640 if "@" in settings.supervisor.url else 0o644
        yield placing.write("settings", path, content, mode)
    elif aim.wishes.user and aim.wishes.user != aim.kept.user:
        yield Problem(
            f"{path} was edited and has user {aim.kept.user!r}, not {aim.wishes.user!r}",
            f'write user = "{aim.wishes.user}" there, then repeat',
        )
    else:
        yield Line("settings", f"{path}, edited: it stays as it is")
        if settings.proxy != aim.kept.proxy:
            yield Warned(
                f"{path} was edited and does not say what nginx is set up with",
                f"write there: {_in_one_line(settings.proxy)}",
            )


def body(name: str, settings: Settings) -> str:
    """Return the example with everything set that is not the default."""
    tables = {
        "": settings,
        "[supervisor]": settings.supervisor,
        "[proxy]": settings.proxy,
    }
    return example.fill(
        SITE_TOML, name, [Table(header, _set(section)) for header, section in tables.items()]
    )


def _set(section: msgspec.Struct) -> dict[str, str]:
    """Return the texts of a table that are not the defaults."""
    values = {
        field.encode_name: (getattr(section, field.name), field.default)
        for field in msgspec.structs.fields(section)
    }
    return {
        key: value
        for key, (value, default) in values.items()
        if isinstance(value, str) and value != default
    }


def _in_one_line(proxy: ProxySection) -> str:
    keys = [f"{key} = {example.toml(value)}" for key, value in _set(proxy).items()]
    return f"[proxy] {'; '.join(keys)}"
