"""Every change that decides an environment's content changes its key, and nothing else does."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from artifact.building.environments import key
from artifact.configuration.artifact_toml import RequirementsSection
from tests.building.sites import Bench

MANY = "--hash=sha256:" + "0" * 64


def test_comments_order_and_markers_that_do_not_apply_change_nothing(bench: Bench) -> None:
    ledger, other = bench.wheel("ledger", "1.0"), bench.wheel("other", "2.0")
    bench.require(ledger, other)
    before = bench.specify().key
    bench.require(f"# a comment\n{other}", f"\n{ledger}")
    assert bench.specify().key == before
    windows = f"winonly==1.0; sys_platform == 'win32' {MANY}\n"
    bench.require(ledger, other, windows)
    assert bench.specify().key == before
    bench.require(ledger, other, windows.replace("1.0", "1.1"))
    assert bench.specify().key == before


def test_an_included_file_counts(bench: Bench) -> None:
    base = bench.checkout / "base.txt"
    base.write_text(bench.wheel("ledger", "1.0"))
    bench.require("-r base.txt\n")
    before = bench.specify().key
    base.write_text(bench.wheel("ledger", "1.1"))
    assert bench.specify().key != before


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"version": "3.11.99"}, "python 3.11.98 → 3.11.99"),
        ({"abi": "cpython-311d-x86_64-linux-gnu"}, "ABI cpython-311 → cpython-311d"),
        ({"base_prefix": "/opt/python"}, "python's prefix /usr → /opt/python"),
        ({"libc": "glibc 2.37"}, "libc glibc 2.36 → glibc 2.37"),
        ({"system": "debian 13"}, "system debian 12 → debian 13"),
        ({"implementation": "pypy"}, "implementation cpython → pypy"),
    ],
)
def test_every_fact_about_the_interpreter_counts(
    bench: Bench, changed: dict[str, str], reason: str
) -> None:
    bench.interpreter = replace(
        bench.interpreter,
        version="3.11.98",
        base_prefix="/usr",
        libc="glibc 2.36",
        system="debian 12",
        implementation="cpython",
        abi="cpython-311-x86_64-linux-gnu",
    )
    before = bench.specify()
    bench.interpreter = replace(bench.interpreter, **changed)
    after = bench.specify()
    assert after.key != before.key
    (said,) = key.reasons(before.inputs, after.inputs)
    assert said.replace("-x86_64-linux-gnu", "") == reason


def test_the_same_text_on_another_platform_is_another_environment(bench: Bench) -> None:
    before = bench.specify()
    markers = {**bench.interpreter.markers, "platform_machine": "aarch64"}
    bench.interpreter = replace(bench.interpreter, markers=markers)
    after = bench.specify()
    assert after.key != before.key
    was = before.inputs["machine"]
    assert key.reasons(before.inputs, after.inputs) == (f"machine {was} → aarch64",)


def test_every_change_of_the_lock_is_a_reason_of_its_own(bench: Bench) -> None:
    bench.require(bench.wheel("ledger", "1.0"), bench.wheel("gone", "3"), bench.wheel("same", "1"))
    before = bench.specify()
    bench.section = RequirementsSection(salt="x")
    bench.require(
        bench.wheel("ledger", "1.1"),
        bench.wheel("fresh", "2"),
        bench.wheel("same", "1", {"same.py": "another = 'file'\n"}),
    )
    after = bench.specify()
    assert key.reasons(before.inputs, after.inputs) == (
        "+ fresh 2",
        "- gone 3",
        "ledger 1.0 → 1.1",
        "same 1: other files, source or build settings",
        "salt changed",
    )


def test_declared_variables_count_but_their_values_are_not_written_down(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.section = RequirementsSection(build_env=("CFLAGS", "TOKEN"))
    monkeypatch.setenv("TOKEN", "correct-horse")
    monkeypatch.setenv("CFLAGS", "-O2")
    before = bench.specify()
    monkeypatch.setenv("CFLAGS", "-O3")
    after = bench.specify()
    assert after.key != before.key
    assert key.reasons(before.inputs, after.inputs) == ("build-env CFLAGS changed",)
    assert "correct-horse" not in str(after.inputs)


def test_the_toolchain_counts(bench: Bench) -> None:
    before = bench.specify()
    bench.section = RequirementsSection(tools="pip")
    after = bench.specify()
    assert after.key != before.key
    assert key.reasons(before.inputs, after.inputs)[0].startswith("tools uv ")


def test_another_site_root_is_another_environment(bench: Bench) -> None:
    before = bench.specify()
    inputs = {**before.inputs, "root": "/srv/other"}
    assert key.key_of(inputs) != before.key
    assert key.key_of(dict(reversed(list(before.inputs.items())))) == before.key, "order of keys"
