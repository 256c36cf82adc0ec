"""The site's `site.toml`: the commented example, with what differs from the defaults set."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from artifact.configuration import example
from artifact.configuration.example import SITE_TOML, Table
from artifact.configuration.site_toml import ProxySection, Settings
from artifact.host.preparing import generated_files
from artifact.host.preparing.findings import Goal, Part, SetupFinding
from artifact.host.preparing.generated_files import marked
from artifact.host.records.problem import Problem
from artifact.steps import Warned


def check_settings(goal: Goal) -> Iterator[SetupFinding]:
    """Say whether the file is there and holds what the options say."""
    path, settings = goal.site.settings, goal.target.settings
    content = marked(body(goal.manifest.name, settings))
    owner = generated_files.ownership(path, content)
    if owner == "same":
        yield Part("settings", f"{path}")
    elif owner != "edited":
        mode = 0o640 if "@" in settings.supervisor.url else 0o644
        yield generated_files.write("settings", path, content, mode)
    elif goal.options.user and goal.options.user != goal.kept.user:
        yield Problem(
            f"{path} was edited and has user {goal.kept.user!r}, not {goal.options.user!r}",
            f'write user = "{goal.options.user}" there, then repeat',
        )
    else:
        yield Part("settings", f"{path}, edited: it stays as it is")
        if settings.proxy != goal.kept.proxy:
            yield Warned(
                f"{path} was edited and does not say what nginx is set up with",
                f"write there: {_in_one_line(settings.proxy)}",
            )


def body(name: str, settings: Settings) -> str:
    """Return the example with everything set that is not the default."""
    tables = {"": settings, "[supervisor]": settings.supervisor, "[proxy]": settings.proxy}
    filled = [
        Table(header, values) for header, section in tables.items() if (values := _set(section))
    ]
    return example.fill(SITE_TOML, name, filled)


def _set(section: msgspec.Struct) -> dict[str, str]:
    """Return the texts of a table that are not the defaults."""
    defaults = msgspec.to_builtins(type(section)())
    return {
        key: value
        for key, value in msgspec.to_builtins(section).items()
        if isinstance(value, str) and value != defaults[key]
    }


def _in_one_line(proxy: ProxySection) -> str:
    keys = [f"{key} = {example.toml(value)}" for key, value in _set(proxy).items()]
    return f"[proxy] {'; '.join(keys)}"
