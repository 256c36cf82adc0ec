"""Secrets are masked wherever people can read."""

from __future__ import annotations

import pytest

from artifact import redaction


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://bob:pw@host/simple", "https://[redacted]@host/simple"),
        ("git+https://token@host/x.git@abc", "git+https://[redacted]@host/x.git@abc"),
        ("GITLAB_TOKEN=abc123 next", "GITLAB_TOKEN=[redacted] next"),
        ("password: abc123", "password: [redacted]"),
        ("mail bob@example.com about https://example.com/a@b", None),
        ("nothing to hide", None),
    ],
)
def test_credentials_are_masked_and_the_rest_is_left_alone(text: str, shown: str | None) -> None:
    assert redaction.redact(text, {}) == (shown or text)


def test_the_value_of_a_variable_named_like_a_secret_is_masked_anywhere() -> None:
    environment = {"DJANGO_SECRET_KEY": "s3cr3t-value", "NAME": "accounting"}
    assert redaction.redact("key is s3cr3t-value of accounting", environment) == (
        "key is [redacted] of accounting"
    )


def test_a_password_in_a_variables_url_is_masked_on_its_own() -> None:
    environment = {"PIP_INDEX_URL": "https://ci:sesame-open@pypi.example.com/simple"}
    assert "sesame-open" not in redaction.redact("wrong password sesame-open", environment)


def test_short_values_do_not_mask_half_the_output() -> None:
    assert redaction.redact("1 test of 11", {"USE_TOKEN": "1", "AUTH": "test"}) == "1 test of 11"


def test_a_url_keeps_all_but_its_credentials() -> None:
    assert redaction.strip_credentials("ssh://git@host:22/x.git") == "ssh://host:22/x.git"


def test_what_makes_a_presigned_url_valid_is_masked() -> None:
    url = "https://b.s3.amazonaws.com/a.tgz?X-Amz-Credential=AKIA%2F1&X-Amz-Signature=0f0f&x=1"
    said = redaction.redact(f"cannot open {url}")
    assert "AKIA" not in said
    assert "0f0f" not in said
    assert said.endswith("&x=1")
    assert redaction.names_a_secret("ARTIFACT_HTTP_HEADER_X_SHOP")
