"""The loop that runs plans: order, undo, signals."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from artifact import signals, steps
from artifact.errors import RollbackFailed, Stopped
from artifact.steps import Run, Step


class Recorder:
    """What was done and undone, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def step(self, name: str, *, fails: bool = False, undo_fails: bool = False) -> Step[Run]:
        def do(_run: Run) -> str:
            self.log.append(f"do {name}")
            if fails:
                raise ValueError(f"{name} broke")
            return f"note {name}"

        def undo(_run: Run) -> None:
            self.log.append(f"undo {name}")
            if undo_fails:
                raise OSError(f"{name} stuck")

        return Step(name, f"summary {name}", do, undo)


def test_steps_run_in_order_and_their_notes_are_told() -> None:
    recorder, told = Recorder(), list[steps.Event]()
    steps.run([recorder.step("a"), recorder.step("b")], Run(told.append))
    assert recorder.log == ["do a", "do b"]
    ended = [event for event in told if isinstance(event, steps.Ended)]
    assert [(event.name, event.note) for event in ended] == [("a", "note a"), ("b", "note b")]


def test_a_failing_step_is_undone_too_and_then_those_before_it() -> None:
    recorder, told = Recorder(), list[steps.Event]()
    plan = [recorder.step("a"), recorder.step("b", fails=True), recorder.step("c")]
    with pytest.raises(ValueError, match="b broke"):
        steps.run(plan, Run(told.append))
    assert recorder.log == ["do a", "do b", "undo b", "undo a"]
    assert [type(event).__name__ for event in told][-3:] == ["Failed", "Undone", "Undone"]


def test_a_failing_undo_does_not_keep_the_others_from_being_undone() -> None:
    recorder = Recorder()
    plan = [recorder.step("a"), recorder.step("b", undo_fails=True), recorder.step("c", fails=True)]
    with pytest.raises(RollbackFailed, match=r"c broke; .*b: b stuck"):
        steps.run(plan, Run(steps.nobody))
    assert recorder.log[-3:] == ["undo c", "undo b", "undo a"]


def test_a_signal_undoes_and_a_second_one_does_not_disturb_the_undoing() -> None:
    log: list[str] = []

    def asked_to_stop(_run: Run) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def undo(_run: Run) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        log.append("undone to the end")

    before = {number: signal.getsignal(number) for number in signals.STOPPING}
    signals.raise_when_asked_to_stop()
    try:
        with pytest.raises(Stopped) as stopped:
            steps.run([Step("a", "a", asked_to_stop, undo)], Run(steps.nobody))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped.value.code == 143
    assert log == ["undone to the end"]


def test_a_signal_between_two_steps_undoes_what_was_done() -> None:
    recorder = Recorder()

    def stop_before_the_second(event: steps.Event) -> None:
        if isinstance(event, steps.Started) and event.name == "b":
            raise Stopped(signal.SIGINT)

    with pytest.raises(Stopped):
        steps.run([recorder.step("a"), recorder.step("b")], Run(stop_before_the_second))
    assert recorder.log == ["do a", "undo b", "undo a"]


def test_a_listener_that_breaks_does_not_keep_steps_from_being_undone() -> None:
    recorder = Recorder()

    def full_disk(event: steps.Event) -> None:
        if not isinstance(event, steps.Started):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        steps.run([recorder.step("a")], Run(full_disk))
    assert recorder.log == ["do a", "undo a"]


def test_every_listener_hears_every_event() -> None:
    first, second = list[steps.Event](), list[steps.Event]()
    steps.everybody(first.append, second.append)(steps.Said("hello"))
    assert first == second == [steps.Said("hello")]


def test_a_wait_says_how_long_it_took_and_a_moment_is_none() -> None:
    told = list[steps.Event]()
    with steps.waiting(told.append, "nothing was left to do"):
        pass
    assert told == []
    with steps.waiting(told.append, "it was up"):
        time.sleep(0.02)
    (said,) = told
    assert isinstance(said, steps.Said)
    matched = re.fullmatch(r"waited ([0-9]+\.[0-9]{2}) s until it was up", said.text)
    assert matched is not None
    assert float(matched[1]) >= 0.02


def test_a_wait_in_vain_does_not_claim_that_it_was_worth_it() -> None:
    told = list[steps.Event]()
    with pytest.raises(TimeoutError), steps.waiting(told.append, "it was up"):
        raise TimeoutError
    assert told == [steps.Said("waited 0.00 s and gave up before it was up")]
