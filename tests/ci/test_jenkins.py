"""The pipelines on Jenkins' side: the same as on GitLab's, and sound Groovy."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci import runner
from tests.conftest import Built
from tests.integration.command import clean_environment, run

PROJECT = runner.PROJECT
JENKINSFILE = PROJECT / "Jenkinsfile"
STEP = PROJECT / "ci/templates/jenkins/vars/artifactPipeline.groovy"
TEMPLATE = PROJECT / "ci/templates/gitlab/artifact.gitlab-ci.yml"
STAGES = ("unit", "integration", "build", "deploy")
# What the systems set by themselves.
NUMBERS = {"BUILD_NUMBER", "CI_PIPELINE_IID"}
# What is configured for a project or a server, not in a pipeline.
SETTINGS = {"ARTIFACT_STORE_URL"}

pytestmark = pytest.mark.slow


def gitlab() -> dict[str, Any]:
    """Return the project's own pipeline."""
    found: dict[str, Any] = yaml.safe_load((PROJECT / ".gitlab-ci.yml").read_text())
    return found


def inputs(script: str) -> set[str]:
    """Return the variables that a script says it takes: "#   NAME   what for"."""
    text = (PROJECT / "ci" / script).read_text()
    header = text[: text.index("set -euo")]
    told = re.findall(r"^#   ([A-Z_]+(?: or [A-Z_]+)*)  ", header, re.MULTILINE)
    return {name for names in told for name in names.split(" or ")}


def test_both_call_the_same_scripts_in_the_same_order() -> None:
    pipeline = gitlab()
    one = [(stage, pipeline[stage]["script"]) for stage in pipeline["stages"]]
    text = JENKINSFILE.read_text()
    other = re.findall(r"stage\('(\w+)'\).*?\bsh '([^']+)'", text, re.DOTALL)
    assert one == other == [(stage, f"ci/{stage}") for stage in STAGES]
    assert len(re.findall(r"\bsh\b", text)) == len(STAGES), "neither holds more than the calls"


def test_both_give_them_the_same_inputs_in_the_same_order() -> None:
    taken = set.union(*(inputs(stage) for stage in STAGES)) - NUMBERS - SETTINGS
    given = set(gitlab()["variables"]) - {"CACHE_SCOPE"}
    # Where GitLab's caches are is no business of the scripts.
    caches = {name for name in given if "CACHE" in name}
    asked = set(re.findall(r"string\(name: '(\w+)'", JENKINSFILE.read_text()))
    assert given - caches == asked == taken


@pytest.mark.parametrize("script", STAGES)
def test_a_script_says_every_variable_it_takes(script: str) -> None:
    text = (PROJECT / "ci" / script).read_text()
    used = set(re.findall(r"\$\{?([A-Z_]+)[:}]?", text)) - {"PWD"}
    given_by_the_build = {"ARTIFACT_PATH", "ARTIFACT_DIGEST"}
    assert used - given_by_the_build <= inputs(script)


def test_the_templates_of_both_run_the_same_lines() -> None:
    text = STEP.read_text()
    jobs = list(yaml.safe_load_all(TEMPLATE.read_text()))[1]
    words = {"deploy-on": "deployOn"}
    for job, lines in zip(
        ("artifact-test", "artifact-build", "artifact-deploy"),
        re.findall(r'sh """\n(.*?)\n\s+"""', text, re.DOTALL),
        strict=True,
    ):
        wanted = [
            re.sub(r"\$\[\[ inputs\.([\w-]+) \]\]", lambda found: f"${{given.{found[1]}}}", line)
            for line in jobs[job]["script"]
        ]
        assert [line.strip().replace("\\$", "$") for line in lines.splitlines()] == wanted, job
    defaults = dict(re.findall(r"^        (\w+): '(.*)',$", text, re.MULTILINE))
    told = next(yaml.safe_load_all(TEMPLATE.read_text()))["spec"]["inputs"]
    same = {words.get(name, name): one["default"] for name, one in told.items()}
    # Docker is a runner's matter on GitLab, and an agent's label on Jenkins.
    assert {**defaults, "image": ""} == {**same, "image": "", "label": defaults["label"]}


def test_the_documentation_has_every_input_and_examples_of_less_than_20_lines() -> None:
    text = (PROJECT / "docs/ci.md").read_text()
    told = next(yaml.safe_load_all(TEMPLATE.read_text()))["spec"]["inputs"]
    for name in told:
        assert f"| `{name}` |" in text, name
    for name in re.findall(r"^        (\w+): '", STEP.read_text(), re.MULTILINE):
        assert f"`{name}` |" in text, name
    examples = re.findall(r"```(yaml|groovy)\n(.*?)```", text, re.DOTALL)
    assert [language for language, _ in examples] == ["yaml", "groovy"]
    for _, example in examples:
        assert len(example.splitlines()) < 20
    (given,) = yaml.safe_load(examples[0][1])["include"]
    assert set(given["inputs"]) <= set(told)


def test_npm_groovy_lint_finds_no_error() -> None:
    env = clean_environment(JAVA_TOOL_OPTIONS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    env["PATH"] = f"{runner.NODE_PROGRAMS}:{env['PATH']}"
    argv = ["npm-groovy-lint", "--noserver", "--failon", "error", "--output", "txt"]
    run([*argv, JENKINSFILE, STEP], cwd=PROJECT, env=env)


@pytest.mark.timeout(600)
def test_with_jenkins_variables_the_script_builds_and_publishes_the_jobs_number(
    accounting: Built, tmp_path: Path
) -> None:
    clone = runner.clean_clone(tmp_path)
    store = tmp_path / "store"
    store.mkdir()
    env = clean_environment(
        BUILD_NUMBER="1337",
        BUILD_URL="https://jenkins.example.com/job/accounting/1337/",
        JENKINS_URL="https://jenkins.example.com/",
        ARTIFACT_ROOT=str(accounting.checkout.root),
        ARTIFACT_STORE_URL=str(store),
        ARTIFACT_CACHE_WRITE="1",
    )
    said = run(["ci/build"], cwd=clone, env=env, timeout=500)
    assert said.stdout.splitlines()[-1] == "dist/accounting-1337.tgz"
    assert (
        "job: https://jenkins.example.com/job/accounting/1337/"
        in (clone / "dist/summary.md").read_text()
    )
    assert "\x1b" not in said.stderr
    published = store / "accounting/artifacts/accounting-1337.tgz"
    assert published.read_bytes() == (clone / "dist/accounting-1337.tgz").read_bytes()
    assert list((store / "accounting/environments").glob("*.json")), "for fresh runners"
    for release in (*(clone / "dist").glob("*.whl"), *(clone / "dist").glob("*.tar.gz")):
        it_installs_and_runs(release, tmp_path / f"outside-{release.suffix}")


def it_installs_and_runs(release: Path, outside: Path) -> None:
    """Install a wheel or an sdist far from any checkout, and ask it something."""
    uv = [Path(sys.executable).with_name("uv")]
    run([*uv, "venv", "--quiet", "--python", sys.executable, outside], cwd=outside.parent)
    python = outside / "bin" / "python"
    run([*uv, "pip", "install", "--quiet", "--python", python, release], cwd=outside)
    said = run([outside / "bin" / "artifact", "init", "--help"], cwd=outside).stdout
    assert "commented artifact.toml" in said
