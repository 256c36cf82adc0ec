"""Keys on a real S3 server: what each documented policy allows, wrong ones, and no leaks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifact import stores
from artifact.cli import run
from artifact.configuration.store_section import StoreSection
from artifact.errors import ArtifactError
from artifact.stores.contract import AccessDenied
from tests.archive import samples
from tests.stores import seaweed
from tests.stores.seaweed import Key, Seaweed

OBJECT = "accounting/artifacts/accounting-{}.tgz"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for version in ("1336", "1337", "1338"):
        found[version] = tmp_path_factory.mktemp(version) / f"accounting-{version}.tgz"
        samples.build(found[version], version=version, code={"name": version.encode()})
    return found


class Person:
    """Somebody with a key, who runs commands."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, said: pytest.CaptureFixture[str], server: Seaweed
    ) -> None:
        self.monkeypatch, self.said, self.server = monkeypatch, said, server

    def is_now(self, key: Key) -> None:
        for name, value in key.variables().items():
            self.monkeypatch.setenv(name, value)
        self.monkeypatch.setenv("ARTIFACT_STORE_URL", f"s3://{seaweed.BUCKET}")
        self.monkeypatch.setenv("ARTIFACT_STORE_ENDPOINT", self.server.endpoint)
        self.monkeypatch.setenv("ARTIFACT_NAME", "accounting")

    def runs(self, *arguments: object) -> tuple[int, str]:
        code = run([str(one) for one in arguments])
        return code, self.said.readouterr().err


@pytest.fixture
def person(
    s3: Seaweed,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[Person]:
    monkeypatch.chdir(tmp_path)
    yield Person(monkeypatch, capsys, s3)
    client = s3.client()
    for one in client.list_objects_v2(Bucket=seaweed.BUCKET, Prefix="accounting/").get(
        "Contents", []
    ):
        client.delete_object(Bucket=seaweed.BUCKET, Key=one["Key"])


def test_each_documented_policy_allows_its_work_and_no_more(
    person: Person, s3: Seaweed, built: dict[str, Path]
) -> None:
    denied = 5
    person.is_now(s3.ci)
    assert person.runs("push", built["1336"])[0] == 0
    code, said = person.runs("push", built["1337"])
    assert code == 0, said
    assert person.runs("ls")[0] == 0
    code, said = person.runs("promote", "1337", "--to", "production")
    assert code == denied
    assert "does not allow accounting/channels/production.json" in said
    assert person.runs("ls", "--prune", "--keep", "1")[0] == denied

    person.is_now(s3.promoter)
    code, said = person.runs("promote", "1337", "--to", "production")
    assert code == 0, said
    assert person.runs("promote", "1337", "--to", "production", "--good")[0] == 0
    assert person.runs("push", built["1338"])[0] == denied
    assert person.runs("ls", "--prune", "--keep", "1")[0] == denied

    person.is_now(s3.host)
    code, said = person.runs("pull", "accounting@production")
    assert code == 0, said
    assert person.runs("inspect", "accounting-1337")[0] == 0
    assert person.runs("promote", "1336", "--to", "production")[0] == denied
    assert person.runs("push", built["1338"])[0] == denied
    assert person.runs("ls")[0] == denied

    person.is_now(s3.admin)
    assert person.runs("ls", "--prune", "--keep", "1")[0] == 0


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (Key("ADMINKEY0123456789", "wrong-secret-0123456789"), "SignatureDoesNotMatch"),
        (Key("NOBODYSKEY", "secret-of-nobody-0123456789"), "InvalidAccessKeyId"),
        (Key("", ""), "there are no credentials"),
    ],
    ids=["wrong secret", "unknown key", "none"],
)
def test_wrong_credentials_are_named_by_the_servers_own_words(
    person: Person, key: Key, said: str, built: dict[str, Path]
) -> None:
    person.is_now(key)
    for command in (("ls",), ("push", built["1336"]), ("promote", "1336", "--to", "x")):
        code, text = person.runs(*command)
        assert code == 5
        assert said in text
        assert "hint:" in text
        assert not key.secret or key.secret not in text


def test_a_bucket_that_does_not_exist_is_a_matter_of_configuration(
    person: Person, s3: Seaweed, monkeypatch: pytest.MonkeyPatch, built: dict[str, Path]
) -> None:
    person.is_now(s3.admin)
    monkeypatch.setenv("ARTIFACT_STORE_URL", "s3://not-there/at/all")
    for command in (("ls",), ("push", built["1336"]), ("pull", "accounting-1336")):
        code, text = person.runs(*command)
        assert code == 2
        assert "there is no bucket not-there" in text


def test_a_presigned_url_needs_no_key_and_expires(
    person: Person, s3: Seaweed, built: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    person.is_now(s3.ci)
    assert person.runs("push", built["1336"])[0] == 0
    for name in s3.ci.variables():
        monkeypatch.delenv(name)
    asked = {"Bucket": seaweed.BUCKET, "Key": OBJECT.format("1336")}
    url = s3.client(s3.host).generate_presigned_url("get_object", Params=asked, ExpiresIn=2)
    made = time.monotonic()
    assert person.runs("inspect", url)[0] == 0
    while time.monotonic() - made < 3.1:
        time.sleep(0.1)
    code, said = person.runs("pull", url)
    assert code == 5
    assert "a presigned URL may have expired" in said
    signature = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["X-Amz-Signature"][0]
    assert signature not in said


def test_a_wrong_region_or_endpoint_says_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    for section in (StoreSection(endpoint="not a url"), StoreSection(region="not a region")):
        with pytest.raises(ArtifactError, match="store") as error:
            stores.open_store("s3://bucket", section).stat("x")
        assert error.value.code == 2
    for address in ("s3://", "s3://key:secret@bucket/x"):
        with pytest.raises(ArtifactError) as error:
            stores.open_store(address, StoreSection())
        assert "secret" not in str(error.value)
    assert issubclass(AccessDenied, ArtifactError)


def test_planted_secrets_are_in_no_output_object_or_process_list(
    s3: Seaweed, built: dict[str, Path], tmp_path: Path
) -> None:
    planted = {
        "ARTIFACT_HTTP_HEADER_X_SHOP": f"planted-{uuid.uuid4().hex}",
        "DEPLOY_TOKEN": f"planted-{uuid.uuid4().hex}",
        "ARTIFACT_PASSWORD_URL": f"https://deploy:planted-{uuid.uuid4().hex}@example.com/",
    }
    secrets = [*planted.values(), s3.admin.secret]
    prefix = uuid.uuid4().hex
    environment = {
        **os.environ,
        **planted,
        **s3.admin.variables(),
        "ARTIFACT_STORE_URL": f"s3://{seaweed.BUCKET}/{prefix}",
        "ARTIFACT_STORE_ENDPOINT": s3.endpoint,
        "ARTIFACT_NAME": "accounting",
    }
    secrets[2] = planted["ARTIFACT_PASSWORD_URL"].split(":")[2].partition("@")[0]
    seen: list[bytes] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.append(path.read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    said = b""
    try:
        script = (
            "import sys; from artifact.cli import run\n"
            "for line in sys.stdin.read().splitlines(): print(run(line.split()), flush=True)"
        )
        commands = [
            f"push -v {built['1336']}",
            "promote 1336 --to production",
            "pull accounting@production",
            "promote 9 --to production",
            f"pull https://deploy:{secrets[2]}@127.0.0.1:1/x.tgz",
            "ls accounting@production --json",
        ]
        child = subprocess.run(
            [sys.executable, "-c", script],
            input="\n".join(commands).encode(),
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        said = child.stdout + child.stderr
    finally:
        over.set()
        watcher.join()
    assert b"accounting-1336" in said
    assert child.stdout.splitlines()[0] == b"accounting/artifacts/accounting-1336.tgz"
    client = s3.client()
    listed = client.list_objects_v2(Bucket=seaweed.BUCKET, Prefix=prefix)["Contents"]
    objects = [
        client.get_object(Bucket=seaweed.BUCKET, Key=one["Key"])["Body"].read() for one in listed
    ]
    assert len(objects) == 2
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for secret in secrets:
        for text in (said, *seen, *objects, *files):
            assert secret.encode() not in text
