"""/metrics and /health: the names that the docs list, in the format that Prometheus reads."""

import re

import httpx2 as httpx
import pytest

from longtake.runs.jobs.queue import JobQueue
from longtake.server.app import create_app
from longtake.server.monitoring.series import Histogram, Series, text_of
from tests.runs.jobs.queues import FAKE, asked, ended
from tests.server.serving import served

LINE = re.compile(r'(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+)')


def test_the_text_format():
    count, times = Series("a_total", "Counts.", "counter"), Histogram("b_seconds", "Times.", (0.5, 2))
    count.add(2, name='x"\\\n')
    for seconds in (0.1, 0.5, 1, 99):
        times.observe(seconds)
    assert text_of([count, times]).splitlines() == [
        "# HELP a_total Counts.", "# TYPE a_total counter", 'a_total{name="x\\"\\\\\\n"} 2',
        "# HELP b_seconds Times.", "# TYPE b_seconds histogram", 'b_seconds_bucket{le="0.5"} 2',
        'b_seconds_bucket{le="2"} 3', 'b_seconds_bucket{le="+Inf"} 4', "b_seconds_sum 100.59999999999999", "b_seconds_count 4",
    ]  # fmt: skip


@pytest.fixture
def page(tmp_path):
    with JobQueue(tmp_path) as queue, served(create_app(queue)) as address:
        queue.start(["cpu"], FAKE)
        good, bad = queue.submit(asked("3 frames")), queue.submit(asked("3 fail"))
        for job in (*good, *bad):
            ended(queue, job.id)
        yield httpx.get(address + "/metrics"), httpx.get(address + "/health")


def test_the_numbers_of_a_server(page):
    metrics, health = page
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = metrics.text
    assert all(LINE.fullmatch(line) for line in text.splitlines()), text
    for line in ('longtake_jobs{state="completed"} 1', 'longtake_jobs{state="failed"} 1',
                 'longtake_jobs_total{model="pocket",outcome="completed"} 1', "longtake_queue_wait_seconds_count 2",
                 "longtake_job_duration_seconds_count 2", "longtake_segments_total 4", "longtake_video_seconds_total 4"):  # fmt: skip
        assert line in text
    names = {"longtake_segments_total", "longtake_frames_total", "longtake_video_seconds_total", "longtake_viewers",
             "longtake_bytes_written_total", "longtake_job_duration_seconds", "longtake_disk_free_bytes", "longtake_step_seconds",
             "longtake_phase_seconds", "longtake_realtime_factor", "longtake_worker_restarts_total"}  # fmt: skip
    assert names <= set(re.findall(r"# TYPE (\S+)", text))
    assert "video_" not in re.sub("video_seconds", "", text) and "frames " not in re.sub(r"#.*", "", text)
    assert health.json()["status"] == "ok"
