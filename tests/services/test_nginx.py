"""nginx: the server block, its place, and what nginx itself says of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from artifact.errors import Refused, UsageError
from artifact.manifest import Process
from artifact.services.nginx import Nginx
from artifact.services.proxy import Certificate
from artifact.site import Site
from surroundings.waiting import free_port
from tests.host import prepared
from tests.test_manifest import example

SITE = Site(Path("/srv/accounting"))
WEB = Process(command="gunicorn a:b", listen="127.0.0.1:8000")


def block(server_name: str = "example.com", site: Site = SITE, **processes: Process) -> str:
    chosen = processes or {"web": WEB}
    return Nginx().block(site, msgspec.structs.replace(example(), processes=chosen), server_name)


@pytest.mark.parametrize("debian", [True, False], ids=["sites-available", "conf.d"])
@pytest.mark.parametrize(
    "process",
    [
        Process(command="gunicorn a:b", listen="127.0.0.1:8000", server="gunicorn"),
        Process(command="gunicorn a:b", listen=":8000", server="gunicorn"),
        Process(command="uvicorn a:b", listen="[::1]:8000", server="uvicorn"),
        Process(command="uvicorn a:b", listen="unix:/run/accounting/web.sock", server="uvicorn"),
    ],
    ids=["tcp", "any", "tcp6", "unix"],
)
def test_nginx_accepts_every_kind_of_block(tmp_path: Path, process: Process, debian: bool) -> None:
    made = prepared.Nginx(tmp_path / "nginx")
    made.write(debian=debian)
    place = Nginx(made.directory).place("accounting")
    place.file.write_text(block(f"example.com:{free_port()}", web=process))
    if place.link:
        place.link.symlink_to(place.file)
    Nginx(made.directory).test()
    place.file.write_text(place.file.read_text().replace("proxy_pass", "proxy_fail"))
    with pytest.raises(Refused, match="proxy_fail") as error:
        Nginx(made.directory).test()
    assert f"nginx -t -c {made.main}" in error.value.hint
    assert error.value.output


def test_the_block_names_host_port_and_upstream() -> None:
    text = block("www.example.com:8443")
    assert "listen 8443;" in text
    assert "server_name www.example.com;" in text
    assert "server 127.0.0.1:8000 " in text
    assert "listen 80;" in block()


def test_with_a_certificate_tls_is_served_and_plain_requests_are_sent_there() -> None:
    certificate = Certificate(Path("/etc/ssl/chain.pem"), Path("/etc/ssl/key.pem"))
    served = msgspec.structs.replace(example(), processes={"web": WEB})
    text = Nginx().block(SITE, served, "example.com", certificate)
    assert "listen 443 ssl;" in text
    assert "listen 80;" in text
    assert "return 301 https://$host$request_uri;" in text
    assert "ssl_certificate /etc/ssl/chain.pem;" in text
    own = Nginx().block(SITE, served, "example.com:8443", certificate)
    assert "listen 8443 ssl;" in own
    assert "listen 80;" not in own, "whoever names a port has another one in front"
    unsafe = Certificate(Path("/etc/ssl/a;b.pem"), Path("/etc/ssl/key.pem"))
    with pytest.raises(UsageError, match="safely"):
        Nginx().block(SITE, served, "example.com", unsafe)


@pytest.mark.parametrize("name", ["", "a b", "x;}", "a:b", "a:1:2", "$host", "-"])
def test_what_is_no_server_name_never_reaches_the_configuration(name: str) -> None:
    with pytest.raises(UsageError, match="no server name"):
        block(name)


def test_a_root_that_nginx_would_read_as_syntax_is_refused() -> None:
    with pytest.raises(UsageError, match="safely"):
        block(site=Site(Path("/srv/a; b")))


def test_of_several_that_listen_web_is_meant() -> None:
    api = Process(command="x", listen="127.0.0.1:9000")
    web = Process(command="x", listen="127.0.0.1:8000")
    assert "127.0.0.1:8000" in block(api=api, web=web)
    assert "127.0.0.1:9000" in block(api=api)
    with pytest.raises(UsageError, match="several: admin, api"):
        block(admin=web, api=api)
    with pytest.raises(UsageError, match="has none"):
        block(worker=Process(command="x"))


def test_a_directory_that_is_not_nginxs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is no") as error:
        Nginx(tmp_path).place("accounting")
    assert "--nginx-dir" in error.value.hint
