"""Where packages come from: pip's configuration, read once and told to both toolchains.

uv does not read pip's configuration. So it is read here, as pip reads it (files, `PIP_*`
variables, requirement files), and handed on as variables: to uv translated, to pip as it is, so
that both look in the same places. Variables, never arguments: URLs hold credentials, and every
user of a machine can read every command line.
https://pip.pypa.io/en/stable/topics/configuration/ · https://docs.astral.sh/uv/reference/environment/
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from artifact import redaction
from artifact.errors import UsageError

PYPI = "https://pypi.org/simple"

# What pip's configuration may not decide here: where to install, and what our own calls say.
_NOT_HANDED_ON = frozenset(
    {
        "break-system-packages", "compile", "constraint", "dry-run", "editable", "force-reinstall",
        "group", "help", "ignore-installed", "ignore-requires-python", "log", "no-clean",
        "no-compile", "no-deps", "no-warn-script-location", "prefix", "python", "quiet", "report",
        "require-hashes", "require-venv", "require-virtualenv", "requirement", "root", "src",
        "target", "upgrade", "upgrade-strategy", "user", "verbose", "version", "wheel-dir",
    }
)  # fmt: skip
# What people may tell uv directly; it goes before what is translated from pip's configuration.
_FOR_UV_ITSELF = (
    "UV_CACHE_DIR", "UV_NO_CACHE", "UV_OFFLINE", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES",
    "UV_HTTP_CONNECT_TIMEOUT", "UV_HTTP_PROXY", "UV_HTTPS_PROXY", "UV_NO_PROXY", "UV_CONCURRENT_",
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_KEYRING_PROVIDER",
    "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_EXCLUDE_NEWER", "UV_AZURE_",
)  # fmt: skip
_NETWORK = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "NETRC", "GIT_SSL_CAINFO", "GIT_SSH_COMMAND", "SSH_AUTH_SOCK",
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_ASKPASS",
    "PYTHON_KEYRING_BACKEND", "DBUS_SESSION_BUS_ADDRESS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """The global options of requirement files."""

    index_url: str | None = field(default=None, repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    trusted_hosts: tuple[str, ...] = ()
    no_index: bool = False
    pre: bool = False
    prefer_binary: bool = False
    require_hashes: bool = False
    no_binary: tuple[str, ...] = ()
    """Normalised names, or ":all:"."""
    only_binary: tuple[str, ...] = ()

    def joined(self, later: Options) -> Options:
        """Return these and later ones together, which decide where there can be only one value."""
        both: dict[str, Any] = {}
        for one in fields(self):
            first, second = getattr(self, one.name), getattr(later, one.name)
            both[one.name] = (*first, *second) if isinstance(first, tuple) else second or first
        for name in ("no_binary", "only_binary"):
            both[name] = tuple(sorted(set(both[name])))
        return Options(**both)


@dataclass(frozen=True, slots=True)
class Indexes:
    """Where to look and how to get there."""

    options: Options = field(repr=False)
    """pip's configuration and the requirement files' options together."""
    pip: Mapping[str, str] = field(repr=False)
    """Every other setting of pip's configuration: name without `--` to value."""
    environment: Mapping[str, str] = field(repr=False)
    """The variables of this process that concern getting packages."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What decides which kind of file is taken; part of the environment's key."""
        found = [f"no-binary={name}" for name in self.options.no_binary]
        found += [f"only-binary={name}" for name in self.options.only_binary]
        found += ["prefer-binary"] if self.options.prefer_binary else []
        return tuple(sorted(found))


def read_settings(options: Options, environment: Mapping[str, str]) -> Indexes:
    """Return what pip would use for requirement files with these options.

    Raises:
        UsageError: a configuration file of pip's is malformed.
    """
    found = configuration(environment)
    configured = Options(
        index_url=found.pop("index-url", None),
        extra_index_urls=_words(found, "extra-index-url"),
        find_links=_words(found, "find-links"),
        trusted_hosts=_words(found, "trusted-host"),
        no_index=_is_set(found, "no-index"),
        pre=_is_set(found, "pre"),
        prefer_binary=_is_set(found, "prefer-binary"),
        no_binary=_names(found, "no-binary"),
        only_binary=_names(found, "only-binary"),
    )
    rest = {name: value for name, value in found.items() if name not in _NOT_HANDED_ON}
    names = (*_FOR_UV_ITSELF, *_NETWORK)
    kept = {name: value for name, value in environment.items() if name.startswith(names)}
    return Indexes(configured.joined(options), rest, kept)


def nowhere() -> Indexes:
    """Return settings that look at no index at all."""
    return Indexes(Options(no_index=True), {}, {})


def configuration(environment: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings for `pip install`, from its files and `PIP_*` variables.

    Raises:
        UsageError: a file is malformed.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in _files(environment):
        for section, values in _sections(path).items():
            if section in sections:
                sections[section].update(values)
    named = {
        name[4:].lower().replace("_", "-"): value
        for name, value in environment.items()
        if name.startswith("PIP_") and name not in {"PIP_CONFIG_FILE", "PIP_VERSION", "PIP_HELP"}
    }
    merged = {**sections["global"], **sections["install"], **named}
    if "default-timeout" in merged:  # an old name that CI images still set
        merged["timeout"] = merged.pop("default-timeout")
    return {name: value for name, value in merged.items() if value}


def constraint_files(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the constraint files that pip is configured with (`PIP_CONSTRAINT`).

    Raises:
        UsageError: one is on another machine, or a configuration file is malformed.
    """
    found = tuple(configuration(environment).get("constraint", "").split())
    for path in found:
        if "://" in path:
            raise UsageError(
                f"pip is configured with the constraints {redaction.redact(path)}, "
                "and what they hold may change unseen",
                hint="download them, and name the copy: `pip config set global.constraint FILE`",
            )
    return found


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield pip's configuration files, the strongest last."""
    explicit = environment.get("PIP_CONFIG_FILE", "")
    if explicit == os.devnull:
        return
    home = Path(environment.get("HOME") or Path.home())
    for directory in reversed((environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")):
        yield Path(directory) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    if not (explicit and Path(explicit).exists()):
        yield home / ".pip" / "pip.conf"
        yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if explicit:
        yield Path(explicit)


def _sections(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        with path.open(encoding="utf-8") as stream:
            parser.read_file(stream)
    except OSError:
        return {}
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = redaction.redact(str(error).splitlines()[0])
        raise UsageError(
            f"{path}, a configuration file of pip, cannot be read: {reason}",
            hint="`pip config list` must work",
        ) from error
    return {
        section: {
            name.lower().lstrip("-").replace("_", "-"): " ".join(value.split())
            for name, value in parser.items(section)
        }
        for section in parser.sections()
    }


def _words(found: dict[str, str], name: str) -> tuple[str, ...]:
    return tuple(found.pop(name, "").split())


def _names(found: dict[str, str], name: str) -> tuple[str, ...]:
    """Return names of `--no-binary` and the like; configuration separates them by commas."""
    listed = found.pop(name, "").replace(",", " ").split()
    return tuple(name for name in listed if name != ":none:")


def _is_set(found: dict[str, str], name: str) -> bool:
    return found.pop(name, "").strip().lower() in {"1", "true", "yes", "on", "y", "t"}


def base(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables every installer and every build of an sdist gets, and no others.

    What a build can see decides what it builds; the rest of the environment must not.
    """
    names = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    found = {name: environment[name] for name in names if name in environment}
    return {
        **found,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "GIT_TERMINAL_PROMPT": "0",
        # 1980-01-01: zip archives, so wheels, know no earlier day.
        "SOURCE_DATE_EPOCH": "315532800",
    }


def for_pip(indexes: Indexes) -> dict[str, str]:
    """Return the variables that make pip look where it is configured to look.

    The files are not read again: a helper's own virtualenv would have another "site" file.
    """
    options = indexes.options
    variables = {
        **{name: v for name, v in indexes.environment.items() if not name.startswith("UV_")},
        **{f"PIP_{name.upper().replace('-', '_')}": v for name, v in indexes.pip.items()},
        "PIP_CONFIG_FILE": os.devnull,
        # What a build needs is thrown away after it. (PIP_NO_COMPILE=1 would mean the opposite.)
        "PIP_COMPILE": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_PROGRESS_BAR": "off",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    lists = {
        "PIP_EXTRA_INDEX_URL": options.extra_index_urls,
        "PIP_FIND_LINKS": options.find_links,
        "PIP_TRUSTED_HOST": options.trusted_hosts,
    }
    variables |= {name: " ".join(words) for name, words in lists.items() if words}
    if options.index_url:
        variables["PIP_INDEX_URL"] = options.index_url
    flags = {
        "NO_INDEX": options.no_index,
        "PRE": options.pre,
        "PREFER_BINARY": options.prefer_binary,
    }
    variables |= {f"PIP_{name}": "1" for name, wanted in flags.items() if wanted}
    return variables


def for_uv(indexes: Indexes) -> dict[str, str]:
    """Return the variables that make uv look where pip is configured to look.

    Raises:
        UsageError: uv has no word for a setting that cannot be left out.
    """
    options = indexes.options
    lists = {
        "UV_INDEX": [url for url in options.extra_index_urls if _is_there(url)],
        "UV_FIND_LINKS": [_as_path(link) for link in options.find_links if _is_there(link)],
        "UV_INSECURE_HOST": list(options.trusted_hosts),
    }
    variables = {
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        **{
            name: ("," if name == "UV_FIND_LINKS" else " ").join(words)
            for name, words in lists.items()
            if words
        },
        **_patience(indexes.pip),
    }
    if options.extra_index_urls:
        # pip takes the best version of all indexes; uv's default is the first index that has any.
        # With one index the default tells more: best-match says "not found" for "unauthorized".
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if options.index_url:
        variables["UV_DEFAULT_INDEX"] = options.index_url
    if options.pre:
        variables["UV_PRERELEASE"] = "allow"
    if "UV_INDEX_URL" in indexes.environment:
        variables.pop("UV_DEFAULT_INDEX", None)
    if "UV_EXTRA_INDEX_URL" in indexes.environment:
        variables.pop("UV_INDEX", None)
    # What people tell uv itself goes first, but pip's certificates and proxy go before the
    # variables that every program reads, as they do in pip.
    return {**variables, **indexes.environment, **_reach(indexes)}


def _patience(pip: Mapping[str, str]) -> dict[str, str]:
    found = {"UV_HTTP_TIMEOUT": pip.get("timeout", ""), "UV_HTTP_RETRIES": pip.get("retries", "")}
    if pip.get("keyring-provider") in {"import", "subprocess"}:
        found["UV_KEYRING_PROVIDER"] = "subprocess"
    return {name: value for name, value in found.items() if value}


def _reach(indexes: Indexes) -> dict[str, str]:
    """Translate certificates and proxies."""
    pip, environment = indexes.pip, indexes.environment
    found: dict[str, str] = {}
    bundle = pip.get("cert") or environment.get("REQUESTS_CA_BUNDLE")
    bundle = bundle or environment.get("CURL_CA_BUNDLE")
    if bundle:
        found["SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"] = bundle
    elif not {"UV_NATIVE_TLS", "UV_SYSTEM_CERTS"} & environment.keys():
        # pip trusts what the system trusts since 24.2; uv has a list of its own.
        found["UV_SYSTEM_CERTS"] = "1"
    if client := pip.get("client-cert"):
        found["SSL_CLIENT_CERT"] = client
    if proxy := pip.get("proxy"):
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        found |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy)
    return found


def uv_flags(options: Options) -> list[str]:
    """Return the settings for which uv has no variable."""
    return ["--no-index"] if options.no_index else []


def _as_path(link: str) -> str:
    # uv splits the list at spaces and commas, and takes plain paths.
    return unquote(urlsplit(link).path) if link.startswith("file:") else link


def _is_there(link: str) -> bool:
    """Tell whether a link may be used: pip warns of a local directory that is gone, uv fails."""
    if link.startswith("file:") or "://" not in link:
        return Path(_as_path(link)).expanduser().exists()
    return True


def credentials(url: str) -> tuple[str, str] | None:
    """Return user and password of a URL."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return unquote(parts.username), unquote(parts.password or "")
