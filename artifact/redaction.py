"""Keep secrets out of what people and logs get to read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from artifact import variables

MASK = "[redacted]"

_URL_CREDENTIALS = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@'\"]+@")
_SECRET_NAME = re.compile(
    r"(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|AUTH|"
    r"HTTP_HEADER)",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(
    r"(?P<name>\b[\w-]*(?:secret|token|password|passwd|api_?key|access_?key)[\w-]*)"
    r"(?P<between>\s*[=:]\s*)(?P<value>[^\s'\",;]+)",
    re.IGNORECASE,
)
_PRESIGNED = re.compile(r"(?P<name>\b(?:X-Amz-[A-Za-z-]+|Signature)=)[^\s&'\"]+", re.IGNORECASE)
# Shorter values ("1", "no", "test") would mask half the output and protect nobody.
_SHORTEST_SECRET = 6


def names_a_secret(name: str) -> bool:
    """Tell whether a variable of this name holds something that must not be shown."""
    return _SECRET_NAME.search(name) is not None


def strip_credentials(url: str) -> str:
    """Return the URL without user and password."""
    return _URL_CREDENTIALS.sub(r"\g<scheme>", url)


def secret_values(environment: Mapping[str, str]) -> Iterable[str]:
    """Yield the values in an environment that must not be shown, including passwords in URLs."""
    for name, value in environment.items():
        if names_a_secret(name) and len(value) >= _SHORTEST_SECRET:
            yield value
        for match in re.finditer(r"://([^\s/@]+)@", value):
            yield match[1]
            password = match[1].partition(":")[2]
            if len(password) >= _SHORTEST_SECRET:
                yield password


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the text with URL credentials, `NAME_TOKEN=…` and secret variables' values masked.

    `environment` is the child's environment when that differs from this process's own.
    """
    values = set(secret_values(variables.everything()))
    if environment is not None:
        values |= set(secret_values(environment))
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, MASK)
    text = _URL_CREDENTIALS.sub(rf"\g<scheme>{MASK}@", text)
    text = _PRESIGNED.sub(rf"\g<name>{MASK}", text)
    return _ASSIGNMENT.sub(rf"\g<name>\g<between>{MASK}", text)
