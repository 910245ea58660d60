"""Random requests to a queue, with kills between any two disk operations: what was answered is never lost."""

import os
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from longtake.runs.files import durable
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.records.folder import Sender
from longtake.runs.jobs.states import ACTIVE, ENDED, JobError, NoSuchJob, WrongState
from tests.runs.jobs.queues import asked, states
from tests.runs.jobs.test_queue import damage


class Killed(BaseException):
    """The process was killed."""


class Disk:
    """Counts disk operations, and dies before one of them; of a write, half is done."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.left: int | None = None
        write, replace = durable.write_all, os.replace

        def dying(call, half=None):
            def act(*arguments):
                if self.left is not None:
                    self.left -= 1
                    if self.left < 0:
                        if half:
                            half(*arguments)
                        raise Killed
                return call(*arguments)

            return act

        patch.setattr(durable, "write_all", dying(write, lambda file, data: write(file, bytes(data)[: len(data) // 2])))
        patch.setattr(os, "fsync", dying(lambda descriptor: None))
        patch.setattr(os, "replace", dying(replace))


class Machine(RuleBasedStateMachine):
    """A queue, and what its user may expect of every job: the states that it may be in."""

    jobs = Bundle("jobs")

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.disk = Disk(self.patch)
        self.root = Machine.folders()
        self.queue = JobQueue(self.root)
        self.expected: dict[str, set[str]] = {}
        self.order: list[str] = []
        self.keys = 0

    def teardown(self):
        self.queue.close()
        self.patch.undo()

    # ------------------------------------------------------------ rules
    @rule(target=jobs, dies=st.none() | st.integers(0, 12))
    def submit(self, dies):
        self.keys += 1
        ask = lambda: self.queue.submit(asked(), sender=Sender("me", "POST", "same", str(self.keys)))[0].id
        id = self.survived(ask, dies)
        id = ask() if id is None else id  # the client asks again with its key
        self.expected[id] = {"queued"}
        self.order.append(id)
        return id

    @rule(id=jobs, dies=st.none() | st.integers(0, 4))
    def stop(self, id, dies):
        state = self.now(id)
        self.expected[id] = {"stopping" if state in ACTIVE else "failed" if state == "queued" else state}
        if self.survived(lambda: self.queue.stop(id), dies) is None:
            self.expected[id] |= {after_death(state)}

    @rule(id=jobs, dies=st.none() | st.integers(0, 4))
    def resume(self, id, dies):
        state = self.now(id)
        if state not in ENDED or (state == "completed" and not self.queue.get(id).status.stopped):
            with pytest.raises(WrongState):
                self.queue.resume(id)
            return
        self.expected[id] = {"queued"}
        if self.survived(lambda: self.queue.resume(id), dies) is None:
            self.expected[id] |= {state}

    @rule(id=consumes(jobs), dies=st.none() | st.integers(0, 6))
    def delete(self, id, dies):
        self.now(id)
        if self.survived(lambda: [self.queue.delete(id)], dies) is None:
            with suppress(NoSuchJob):  # it was deleted before the kill
                self.queue.delete(id)  # the client asks again
        del self.expected[id]
        self.order.remove(id)
        with pytest.raises(NoSuchJob):
            self.queue.get(id)

    @rule(dies=st.none() | st.integers(0, 4))
    def claim(self, dies):
        waiting = [job for job in self.listed() if job.status.state == "queued"]
        first = min(waiting, key=lambda job: job.status.position, default=None)
        order = self.survived(lambda: [self.queue.claim(0)], dies)
        if order is not None and first is not None:
            assert order[0].id == first.id
            self.expected[first.id] = {"starting"}

    @rule(id=jobs, how=st.sampled_from(["began", "done", "stopped", "failed"]), dies=st.none() | st.integers(0, 4))
    def work(self, id, how, dies):
        state = self.now(id)
        act = {
            "began": lambda: [self.queue.began(id, {"fps": 24})],
            "done": lambda: [self.queue.ended(id, None)],
            "stopped": lambda: [self.queue.ended(id, None, 24)],
            "failed": lambda: [self.queue.ended(id, JobError("run_failed", "why"))],
        }[how]
        after = {"began": "stopping" if state == "stopping" else "running", "failed": "failed"}.get(how, "completed")
        if state in ACTIVE:
            self.expected[id] = {after}
        if self.survived(act, dies) is None:
            self.expected[id] |= {after_death(state)}

    @rule()
    def restart(self):
        self.reopen()

    @rule(harm=st.sampled_from(["delete", "truncate", "garbage", "empty"]), closed=st.booleans())
    def harm_the_index(self, harm, closed):
        if closed:
            self.queue.close()
        damage(self.root / ".longtake" / "index.sqlite", harm)
        if closed:
            self.reopen()

    @rule(seconds=st.integers(-(10**8), 10**8))
    def move_the_clock(self, seconds):
        now = time.time_ns() + seconds * 10**9
        self.patch.setattr(time, "time_ns", lambda: now)
        self.patch.setattr(time, "time", lambda: now / 10**9)

    # ------------------------------------------------------------ what always holds
    @invariant()
    @precondition(lambda self: self.expected)
    def every_job_is_there_in_its_order(self):
        found = states(self.queue)
        assert list(found) == self.order
        for id, state in found.items():
            assert state in self.expected[id]
            self.expected[id] = {state}

    # ------------------------------------------------------------ helpers
    def now(self, id):
        """The state that a job is in."""
        return self.queue.get(id).status.state

    def listed(self):
        return self.queue.page(limit=1000).jobs

    def survived(self, action, dies):
        """Do something; the process is killed before disk operation `dies`, if it comes so far. None if it was killed."""
        self.disk.left = dies
        try:
            return action()
        except Killed:
            self.reopen()
            return None
        finally:
            self.disk.left = None

    def reopen(self):
        self.disk.left = None
        self.queue.close()
        self.queue = JobQueue(self.root)
        for id, wanted in self.expected.items():
            self.expected[id] = {after_death(state) for state in wanted} | (wanted - set(ACTIVE))


def after_death(state):
    """The state of a job after the process that worked on it died."""
    return "queued" if state in ACTIVE else state


@pytest.fixture
def folders(tmp_path_factory):
    Machine.folders = staticmethod(lambda: tmp_path_factory.mktemp("queue"))


def checked(examples, steps):
    Machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    Machine.TestCase("runTest").runTest()


def test_nothing_is_lost(folders):
    checked(8, 20)


@pytest.mark.long
def test_nothing_is_lost_in_long_lives(folders):
    checked(300, 50)
