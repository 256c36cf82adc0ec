"""Asset steps: Django's own and declared ones, run on copies of the source, cached by their inputs.

The order is: compilemessages (translations are part of what later steps render), the declared
steps (collectstatic must find what npm wrote), collectstatic, compress (it renders templates, whose
`{% static %}` asks the manifest that collectstatic wrote, and adds its files beside it).

How one step runs, and when it need not, is in `artifact.building.assets.tasks`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from artifact import files, manifest, steps
from artifact.archive.grouping import Entry
from artifact.building.assets import django, outputs, workspace
from artifact.building.assets.outputs import Output, Outputs
from artifact.building.assets.tasks import Task, Workshop
from artifact.building.caches import Caches, load_kept
from artifact.building.source import Snapshot
from artifact.configuration.artifact_toml import AssetSection, Config, DjangoSection


class AssetTree(msgspec.Struct, frozen=True):
    """What all steps wrote: the component "assets"; it wins where the source has the same path."""

    files: tuple[Entry, ...]
    """In byte order of their paths."""
    steps: tuple[manifest.AssetStep, ...]
    settings: str
    """Django's settings module; empty for other applications."""
    static: str = ""
    """The directory in the project that collectstatic filled; empty where it was not run."""

    @property
    def paths(self) -> frozenset[str]:
        """Paths that the component "code" must leave out."""
        return frozenset(file.path for file in self.files)


def possible_steps(config: Config, snapshot: Snapshot, packages: Container[str]) -> tuple[str, ...]:
    """Return the steps that may have to run, before there is an environment to look into.

    Args:
        packages: normalised names of what the requirements ask for.
    """
    section = config.django if "django" in packages else None
    compresses = section is not None and (
        "django-compressor" in packages if section.compress == "auto" else section.compress
    )
    return tuple(_names(section, config.assets, snapshot, compresses=compresses))


def _names(
    section: DjangoSection | None,
    declared: Iterable[AssetSection],
    snapshot: Snapshot,
    *,
    compresses: bool,
) -> Iterator[str]:
    """Yield the steps in their order; why it is this one stands at the top."""
    if section and django.compiles_messages(section, snapshot):
        yield "compilemessages"
    yield from (step.name for step in declared)
    if section and section.collectstatic:
        yield "collectstatic"
    if section and compresses:
        yield "compress"


class Assets:
    """The asset steps of one build; its `tree` is whole once the steps of its `plan` have run."""

    def __init__(
        self,
        snapshot: Snapshot,
        config: Config,
        environment: Path,
        key: str,
        caches: Caches,
        tell: steps.Listener,
    ) -> None:
        """Take the compiled environment, its key, and who listens."""
        self.workshop = Workshop(config.name, snapshot, environment, key, caches, tell)
        self.declared = config.assets
        self.section = config.django
        self.facts: django.Facts | None = None
        self.static = ""
        if self.section and not django.is_installed(environment):
            tell(
                steps.Said(
                    f"{self.section.manage} is there, but Django is not among the requirements: "
                    "its steps are left out"
                )
            )
            self.section = None

    def plan(self) -> tuple[steps.Step[steps.Run], ...]:
        """Return a step for everything that may have to run; each reuses what it can."""
        section = self.section
        known: dict[str, tuple[str, Callable[[], str]]] = {
            declared.name: (f"run asset step {declared.name}", partial(self._run, declared))
            for declared in self.declared
        }
        if section:
            known |= {
                "compilemessages": ("compile translations", partial(self._compile, section)),
                "collectstatic": ("collect static files", partial(self._collect, section)),
                "compress": ("compress static files", partial(self._compress, section)),
            }
        compresses = section is not None and self._may_compress(section)
        names = _names(section, self.declared, self.workshop.snapshot, compresses=compresses)
        return tuple(_step(name, *known[name]) for name in names)

    def tree(self) -> AssetTree:
        """Return what the steps wrote; where several wrote the same path, the last one wins."""
        written = {
            output.path: _entry(made, output)
            for _, made in self.workshop.done
            for output in made.files
        }
        section = self.section
        settings = ""
        if section:
            settings = self.facts.settings if self.facts else self._settings(section)
        return AssetTree(
            tuple(written[path] for path in sorted(written, key=str.encode)),
            tuple(step for step, _ in self.workshop.done),
            settings,
            self.static,
        )

    def _may_compress(self, section: DjangoSection) -> bool:
        if section.compress != "auto":
            return section.compress
        return django.is_installed(self.workshop.environment, "compressor")

    def _run(self, section: AssetSection) -> str:
        task = Task(
            name=section.name,
            # -e: "npm ci; npm run build" fails when its first half does.
            argv=("sh", "-ec", section.run),
            inputs=section.inputs,
            outputs=section.outputs,
            variables={**self._django_variables(self.section), **section.env},
            timeout=section.timeout,
            declared=True,
        )
        return self.workshop.produce(task)

    # -- Django's steps ---------------------------------------------------------------------------

    def _compile(self, section: DjangoSection) -> str:
        catalogs = django.messages(self.workshop.snapshot)

        def forget_compiled(work: Path) -> None:
            django.check_msgfmt(self.workshop.variables({})["PATH"])
            # All files of the copy have one time, and Django skips what is not older.
            for name in catalogs:
                (work / name).with_suffix(".mo").unlink(missing_ok=True)

        task = self._manage(
            section,
            "compilemessages",
            inputs=("**/LC_MESSAGES/*.po",),
            outputs=("**/LC_MESSAGES/*.mo",),
            extra=json.dumps(self._ask(section).locale_paths),
            prepare=forget_compiled,
        )
        return self.workshop.produce(task)

    def _collect(self, section: DjangoSection) -> str:
        root = django.static_root(self._ask(section))
        if isinstance(root, django.Skipped):
            return self._skip(root)
        self.static = root

        def make_stale(work: Path) -> None:
            # What lies there already must not be taken for newer than what is collected.
            for path in (work / root).rglob("*"):
                os.utime(path, (0, 0), follow_symlinks=False)

        return self.workshop.produce(
            self._manage(
                section, "collectstatic", "--noinput", outputs=(f"{root}/**",), prepare=make_stale
            )
        )

    def _compress(self, section: DjangoSection) -> str:
        root = django.compress_root(self._ask(section), section)
        if isinstance(root, django.Skipped):
            return self._skip(root)
        return self.workshop.produce(
            self._manage(section, "compress", "--force", outputs=(f"{root}/**",)),
        )

    def _skip(self, skipped: django.Skipped) -> str:
        if skipped.hint:
            self.workshop.tell(steps.Warned(skipped.reason, skipped.hint))
            return "nothing to do"
        return f"nothing to do, {skipped.reason}"

    def _manage(
        self,
        section: DjangoSection,
        *command: str,
        outputs: tuple[str, ...],
        inputs: tuple[str, ...] = (),
        extra: str = "",
        prepare: Callable[[Path], None] = lambda _work: None,
    ) -> Task:
        directory, _, script = section.manage.rpartition("/")
        return Task(
            name=command[0],
            argv=(str(self.workshop.python), script, *command),
            directory=directory,
            inputs=inputs,
            outputs=outputs,
            variables=self._django_variables(section),
            timeout=section.timeout,
            extra=extra,
            prepare=prepare,
        )

    def _ask(self, section: DjangoSection) -> django.Facts:
        """Return what the settings say; from the cache when nothing they are made of changed."""
        if self.facts is not None:
            return self.facts
        declared = self._django_variables(section)
        relevant = [file for file in self.workshop.snapshot.files if django.decides(file)]
        digest = self.workshop.hash(
            ["facts", hashlib.sha256(django.PROBE.read_bytes()).hexdigest(), section.manage],
            declared,
            [self.workshop.line(file) for file in relevant],
        )
        kept = self.workshop.caches.assets / f"{digest}.json"
        self.facts = load_kept(kept, django.Facts)
        if self.facts is None:
            doing = f"reading the settings of {self.workshop.name}"
            with outputs.workplace(self.workshop.caches, digest, doing=doing, wait=600) as work:
                workspace.fill(work, self.workshop.snapshot, ())
                self.facts = django.ask(
                    work,
                    section,
                    self.workshop.python,
                    self.workshop.variables(declared),
                    self.workshop.tell,
                )
                files.write(kept, msgspec.json.encode(self.facts))
        return self.facts

    def _settings(self, section: DjangoSection) -> str:
        return django.settings_module(self.workshop.snapshot.root, section)

    def _django_variables(self, section: DjangoSection | None) -> dict[str, str]:
        if section is None:
            return {}
        settings = self._settings(section)
        chosen = {django.SETTINGS_VARIABLE: settings} if settings else {}
        return {**section.env, **chosen}


def _entry(made: Outputs, output: Output) -> Entry:
    source = f"{made.directory}/{output.path}" if output.kind == "file" else None
    return Entry(output.path, output.kind, output.mode, output.target, source)


def _step(name: str, summary: str, do: Callable[[], str]) -> steps.Step[steps.Run]:
    # Nothing to undo: what a step leaves is in the cache, whole or not at all.
    return steps.Step(f"assets.{name}", summary, lambda _run: do())
