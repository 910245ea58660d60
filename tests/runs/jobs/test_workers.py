"""Workers: processes that generate jobs one after the other, die without taking others along, and are replaced."""

import os
import signal
import subprocess
import sys
import time

import pytest

from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.states import NoSuchJob
from tests.runs.jobs.queues import FAKE, asked, ended, until


@pytest.fixture
def queue(tmp_path):
    with JobQueue(tmp_path) as made:
        made.start(["cpu"], FAKE)
        yield made


def frames(job) -> list[str]:
    """Return the lines of a fake video."""
    return (job.folder / "frames.txt").read_text().splitlines()


def test_jobs_are_generated_one_after_the_other(queue):
    seen = []
    queue.listen(lambda id, event: seen.append((id, event["event"])))
    jobs = [queue.submit(asked(f"{n} frames"))[0] for n in (3, 2)]
    assert [ended(queue, job.id).status.state for job in jobs] == ["completed"] * 2
    assert [len(frames(job)) for job in jobs] == [3, 2]
    written = [id for id, event in seen if event == "segment_written"]
    assert written == [jobs[0].id] * 3 + [jobs[1].id] * 2
    assert not queue.restarts


@pytest.mark.parametrize(("word", "code"), [("crash", "worker_crashed"), ("killed", "worker_killed")])
def test_a_worker_that_dies_fails_one_job_and_the_next_begins(queue, word, code):
    bad, good = queue.submit(asked(f"3 {word}"))[0], queue.submit(asked("2 frames"))[0]
    error = ended(queue, bad.id).status.error
    assert error.code == code and "can be resumed" in error.message
    assert ended(queue, good.id).status.state == "completed"
    assert queue.restarts == {code: 1}
    queue.resume(bad.id)
    assert ended(queue, bad.id).status.state == "completed" and frames(bad) == ["0", "1", "2"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows asks no process to end")
def test_a_worker_that_is_asked_to_end_does_and_another_one_goes_on(queue):
    job, other = queue.submit(asked("3 terminated"))[0], queue.submit(asked("2 frames"))[0]
    assert ended(queue, job.id).status.state == "completed" and frames(job) == ["0", "1", "2"]
    assert ended(queue, other.id).status.at >= queue.get(job.id).status.at  # it waited at its old place
    assert not queue.restarts


def test_jobs_are_waited_for_as_they_end(queue):
    jobs = [queue.submit(asked(f"{n} frames"))[0] for n in (2, 1, 3)]
    queue.delete(jobs[2].id)
    assert [job.id for job in queue.wait(jobs)] == [jobs[0].id, jobs[1].id]


def test_a_failure_is_reported_and_the_worker_goes_on(queue):
    bad, good = queue.submit(asked("3 fail"))[0], queue.submit(asked("2 frames"))[0]
    assert ended(queue, bad.id).status.error.code == "run_failed"
    assert ended(queue, good.id).status.state == "completed" and not queue.restarts


def test_stop_ends_a_video_after_its_segment_and_resume_completes_it(queue):
    job = queue.submit(asked("14 slow"))[0]
    until(lambda: (found := queue.progress(job.id)) is not None and found.segments > 1)
    queue.stop(job.id)
    stopped = ended(queue, job.id)
    assert stopped.status.stopped and 1 < stopped.status.video["frames_done"] == len(frames(job)) < 14
    queue.resume(job.id)
    assert ended(queue, job.id).status.state == "completed" and len(frames(job)) == 14


@pytest.mark.parametrize("word", ["slow", "deaf"])
def test_delete_takes_a_running_job_away_within_its_time(queue, word):
    job, after = queue.submit(asked(f"400 {word}"))[0], queue.submit(asked("1 frame"))[0]
    until(lambda: (found := queue.progress(job.id)) is not None and found.segments > 0)
    began = time.monotonic()
    queue.delete(job.id)
    assert time.monotonic() - began < 10 and not job.folder.exists()
    with pytest.raises(NoSuchJob):
        queue.get(job.id)
    assert ended(queue, after.id).status.state == "completed"
    assert not queue.restarts  # it was killed on purpose


def test_a_job_that_is_deleted_at_any_moment_never_comes_back(queue):
    for number in range(40):
        job = queue.submit(asked("2 frames"))[0]
        time.sleep(0.0005 * (number % 12))
        queue.delete(job.id)
    last = queue.submit(asked("1 frame"))[0]
    ended(queue, last.id)
    assert [job.id for job in queue.page().jobs] == [last.id]
    assert [path.name for path in queue.root.iterdir() if not path.name.startswith(".")] == [last.id]


def test_a_closed_queue_leaves_its_job_to_the_next_process(tmp_path):
    with JobQueue(tmp_path) as queue:
        queue.start(["cpu"], FAKE)
        job, after = queue.submit(asked("12 slow"))[0], queue.submit(asked("1 frame"))[0]
        until(lambda: (found := queue.progress(job.id)) is not None and found.segments > 1)
    assert len(frames(job)) < 12
    with JobQueue(tmp_path) as queue:
        assert queue.claim(0).id == job.id  # before the one that waited behind it
    with JobQueue(tmp_path) as queue:
        queue.start(["cpu"], FAKE)
        assert ended(queue, job.id).status.state == "completed"
        assert frames(job) == [str(n) for n in range(12)]
        assert ended(queue, after.id).status.state == "completed"


def test_two_devices_share_the_queue(tmp_path):
    with JobQueue(tmp_path) as queue:
        queue.start(["cpu", "cpu"], FAKE)
        jobs = [queue.submit(asked("20 slow"))[0] for _ in range(2)]
        until(lambda: all(queue.get(job.id).status.state == "running" for job in jobs))


SERVER = """
import sys, time
from longtake.runs.jobs.queue import JobQueue
queue = JobQueue(sys.argv[1])
queue.start(["cpu"], sys.argv[2:])
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.long
def test_a_killed_server_takes_its_worker_along_and_the_next_one_goes_on(tmp_path):
    with JobQueue(tmp_path) as queue:
        jobs = [queue.submit(asked(f"{20 + n} slow"))[0] for n in range(3)]
    for _ in range(4):
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path), *FAKE], stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"ready\n"
        time.sleep(0.4)
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        server.stdout.close()
    with JobQueue(tmp_path) as queue:
        queue.start(["cpu"], FAKE)
        for n, job in enumerate(jobs):
            assert ended(queue, job.id).status.state == "completed"
            assert frames(job) == [str(number) for number in range(20 + n)]
