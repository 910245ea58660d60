"""The real worker with the built-in model: kills of server and worker change no byte of a video."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.request import JobRequest
from longtake.runs.jobs.workers.process import COMMAND
from tests.runs.jobs.queues import ended, until
from tests.runs.jobs.test_workers import SERVER

pytestmark = pytest.mark.long

ASKED = [
    JobRequest.of(prompt="a red ball bounces", seconds=3, steps=2, seed=1),
    JobRequest.of(scenes=["a blue star", "a green heart"], seconds=3, steps=2, strategy="continuous", window=17),
]


def sha(job) -> str:
    """Return the SHA-256 of the video of a job."""
    return hashlib.sha256((job.folder / "video.mp4").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The hashes of the videos where nothing was killed, and the seconds that they took."""
    with JobQueue(tmp_path_factory.mktemp("whole")) as queue:
        queue.start(["cpu"])
        jobs, began = [queue.submit(one)[0] for one in ASKED], time.monotonic()
        for job in jobs:
            assert ended(queue, job.id).status.state == "completed", queue.get(job.id).status
        return [sha(job) for job in jobs], time.monotonic() - began


def test_a_job_is_the_run_that_the_command_line_makes(expected, tmp_path):
    words = [
        "generate",
        "a red ball bounces",
        "--seconds",
        "3",
        "--steps",
        "2",
        "--seed",
        "1",
        "-o",
        str(tmp_path / "x"),
    ]
    subprocess.run([sys.executable, "-m", "longtake", *words], check=True, stdout=subprocess.DEVNULL)
    assert hashlib.sha256((tmp_path / "x" / "video.mp4").read_bytes()).hexdigest() == expected[0][0]


def test_kills_of_the_server_change_no_byte_and_no_order(expected, tmp_path):
    hashes, takes = expected
    with JobQueue(tmp_path) as queue:
        jobs = [queue.submit(one)[0] for one in ASKED]
    for _ in range(4):
        command = [sys.executable, "-c", SERVER, str(tmp_path), *COMMAND]
        server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"ready\n"
        time.sleep(random.uniform(takes / 4, takes / 2))
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        server.stdout.close()
    with JobQueue(tmp_path) as queue:
        queue.start(["cpu"])
        assert [ended(queue, job.id).status.state for job in jobs] == ["completed"] * 2
        assert [sha(job) for job in jobs] == hashes
        at = [queue.get(job.id).status.at for job in jobs]
        assert at == sorted(at)


def test_kills_of_the_worker_fail_one_job_which_resumes_exactly(expected, tmp_path):
    hashes, _ = expected
    with JobQueue(tmp_path) as queue:
        queue.start(["cpu"])
        jobs = [queue.submit(one)[0] for one in ASKED]
        for job in [*jobs, *jobs]:
            until(lambda job=job: has_a_segment(queue, job.id))
            for pid in queue.workers:
                os.kill(pid, signal.SIGKILL)
            resumed(queue, jobs)
        while any(ended(queue, job.id).status.state == "failed" for job in jobs):
            resumed(queue, jobs)
        assert [queue.get(job.id).status.state for job in jobs] == ["completed"] * 2
        assert sum(queue.restarts.values()) > 0 and [sha(job) for job in jobs] == hashes


def resumed(queue: JobQueue, jobs) -> None:
    """Resume the jobs whose worker was killed."""
    time.sleep(0.5)  # so that the queue notices
    for job in jobs:
        if (status := queue.get(job.id).status).state == "failed":
            assert status.error.code == "worker_killed"
            queue.resume(job.id)


def has_a_segment(queue: JobQueue, id: str) -> bool:
    """Whether a worker has written a segment of a job, or the job has ended."""
    progress = queue.progress(id)
    return (progress is not None and progress.segments > 0) or queue.get(id).status.state in ("completed", "failed")


def test_the_model_stays_loaded_and_bad_requests_fail_with_their_option(tmp_path):
    with JobQueue(tmp_path) as queue:
        queue.start(["cpu"])
        bad = queue.submit(JobRequest.of(prompt="x", size="65x64"))[0]
        good = [queue.submit(JobRequest.of(prompt="a red ball", num_frames=9, steps=1))[0] for _ in range(2)]
        error = ended(queue, bad.id).status.error
        assert (error.code, error.param) == ("invalid_request", "size")
        assert [ended(queue, job.id).status.state for job in good] == ["completed"] * 2
        assert len(queue.workers) == 1 and not queue.restarts


def test_previews_are_drawn_while_somebody_watches_and_change_no_byte(expected, tmp_path):
    with JobQueue(tmp_path) as queue:
        queue.start(["cpu"])
        jobs = [queue.submit(one)[0] for one in ASKED[:1] * 2]
        assert ended(queue, jobs[0].id) and queue.preview(jobs[0].id) is None
        until(lambda: queue.preview(jobs[1].id) is not None)
        with Image.open(queue.preview(jobs[1].id)) as strip:
            assert strip.height == 96 and strip.width > 96
        assert ended(queue, jobs[1].id) and sha(jobs[1]) == sha(jobs[0]) == expected[0][0]
