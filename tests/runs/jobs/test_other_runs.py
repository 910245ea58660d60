"""Runs that the command line makes in the folder of a queue appear in it, and are never written by two."""

import time

import pytest

from longtake.runs import publish_so_far, record
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.states import NoSuchJob, WrongState
from tests.runs.jobs.queues import asked, until
from tests.runs.toy_runs import clock


@pytest.fixture
def run(tmp_path):
    """A run of the toy clock that waits behind its second segment, in a folder with a name of the user's."""
    video = clock()
    script = {"scenes": [{"prompt": "a red ball", "seconds": None, "cut": False}], "starts": [0], "frames": 127}
    about = dict(script=script, strategy="sliding", strategy_options={"window": 33})
    events = record(video.rollout(), video.manifest(**about), tmp_path / "A Red Ball")
    for event in events:
        if type(event).__name__ == "SegmentWritten" and event.index == 1:
            break
    yield events
    events.close()


@pytest.fixture
def queue(run, tmp_path):
    with JobQueue(tmp_path) as made:
        yield made


def only(queue):
    """Return the only video of a queue."""
    (job,) = queue.page().jobs
    return job


def test_a_run_is_running_while_its_process_has_it_and_then_interrupted_or_complete(queue, run):
    job = only(queue)
    assert job.id.startswith("run_") and "red" not in job.id
    assert job.status.state == "running" and job.request.prompt == "a red ball"
    assert job.status.video["frames"] == 127 and job.status.video["size"] == "16x16"
    for action in (queue.stop, queue.delete, queue.resume):
        with pytest.raises(WrongState):
            action(job.id)
    run.close()
    assert queue.get(job.id).status.error.code == "interrupted"
    publish_so_far(job.folder)
    assert queue.get(job.id).status.state == "completed" and queue.get(job.id).status.stopped
    assert not list(job.folder.glob("job*"))  # nothing was written into it


def test_a_complete_run_is_complete_and_can_be_deleted(queue, run):
    job = only(queue)
    for _ in run:
        pass
    assert queue.get(job.id).status.state == "completed" and not queue.get(job.id).status.stopped
    queue.delete(job.id)
    assert not job.folder.exists() and not queue.page().jobs
    with pytest.raises(NoSuchJob):
        queue.get(job.id)


def test_a_run_that_was_interrupted_is_resumed_as_a_job(queue, run):
    job = only(queue)
    run.close()
    assert queue.resume(job.id).status.state == "queued"
    assert queue.claim(0).folder == job.folder
    queue.close()
    with JobQueue(queue.root) as again:
        assert only(again).id == job.id and only(again).status.state == "queued"


def test_runs_appear_and_vanish_while_the_queue_is_open(tmp_path):
    with JobQueue(tmp_path) as queue:
        mine = queue.submit(asked())[0]
        video = clock()
        script = {"scenes": [{"prompt": "x"}], "starts": [0], "frames": 127}
        about = dict(script=script, strategy="sliding", strategy_options={})
        for _ in record(video.rollout(), video.manifest(**about), tmp_path / "new"):
            pass
        (tmp_path / "no run").mkdir()
        until(lambda: len(queue.page().jobs) == 2, 10)
        other = queue.page().jobs[0]
        assert queue.page(after=other.id).jobs == [mine]
        (tmp_path / "new").rename(tmp_path.parent / f"away {time.time_ns()}")
        until(lambda: queue.page().jobs == [mine], 10)
