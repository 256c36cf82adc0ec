"""What a setup keeps of nginx in site.toml is what it was told, and what the next one reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifact.configuration import site_toml
from artifact.configuration.site_toml import ProxySection, Settings
from artifact.host.preparing import proxy, settings_file
from artifact.host.preparing.findings import SetupOptions
from artifact.services.proxy import Certificate

CERTIFICATE = Certificate(Path("/etc/ssl/chain.pem"), Path("/etc/ssl/key.pem"))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "name", ["example.com", "example.com:8443", "example.com:443", "*.example.com:8080"]
)
def test_site_toml_tells_what_nginx_was_set_up_with(tmp_path: Path, name: str, tls: bool) -> None:
    certificate = CERTIFICATE if tls else None
    options = SetupOptions(command="", nginx=True, server_name=name, certificate=certificate)
    settled = proxy.settle(ProxySection(), options)
    assert settled.server_name == name
    assert bool(settled.certificate) == tls
    path = tmp_path / "site.toml"
    path.write_text(settings_file.body("shop", Settings(proxy=settled)))
    kept = site_toml.load(path, overridable=[]).proxy
    assert kept == settled
    assert proxy.settle(kept, SetupOptions(command="artifact", nginx=True)) == kept
    assert proxy.settle(kept, SetupOptions(command="artifact")) == kept


def test_an_option_goes_before_what_is_kept_and_leaves_the_rest() -> None:
    kept = ProxySection(server_name="a.example", certificate="/a", certificate_key="/b")
    renamed = proxy.settle(kept, SetupOptions(command="", nginx=True, server_name="b.example"))
    assert renamed == ProxySection(server_name="b.example", certificate="/a", certificate_key="/b")
    plain = proxy.settle(kept, SetupOptions(command="", nginx=True, tls=False))
    assert plain == ProxySection(server_name="a.example")
