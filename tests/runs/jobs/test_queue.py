"""The queue: order, bounds, keys, states, and what is on disk."""

import errno
import json
import os
import time

import pytest

from longtake.runs.files import durable
from longtake.runs.jobs.numbering import is_id
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.records.folder import Sender
from longtake.runs.jobs.states import JobError, KeyReused, NoSuchJob, QueueFull, QueueInUse, WrongState
from tests.runs.jobs.queues import asked, states


@pytest.fixture
def queue(tmp_path):
    with JobQueue(tmp_path, most_queued=5) as made:
        yield made


def again(queue: JobQueue) -> JobQueue:
    """Return the queue as the next process opens it."""
    queue.close()
    return JobQueue(queue.root, most_queued=5)


def sender(key=None, fingerprint="a", scope="me"):
    return Sender(scope, "POST /v1/videos", fingerprint, key)


def test_jobs_are_claimed_in_the_order_in_which_they_were_asked_for(queue):
    ids = [queue.submit(asked())[0].id for _ in range(3)]
    assert all(map(is_id, ids)) and list(states(queue)) == ids
    assert [queue.claim(0).id for _ in ids] == ids
    assert queue.claim(0) is None


def test_ids_and_folders_hold_nothing_that_the_user_wrote(queue):
    job = queue.submit(asked("../../etc/passwd <script>"))[0]
    assert job.folder.parent == queue.root and job.folder.name == job.id


@pytest.mark.parametrize("id", ["../secret", "", "a" * 65, "RUN_" + "a" * 26, "video_\x00aaaaaaa", "none_such_job"])
def test_what_is_no_id_is_no_job(queue, id):
    with pytest.raises(NoSuchJob):
        queue.get(id)


def test_a_page_continues_behind_the_last_one(queue):
    ids = [queue.submit(asked())[0].id for _ in range(5)]
    first = queue.page(limit=2)
    assert [job.id for job in first.jobs] == ids[:-3:-1] and first.more
    rest = queue.page(after=first.jobs[-1].id, limit=3)
    assert [job.id for job in rest.jobs] == ids[2::-1] and not rest.more


def test_the_queue_is_bounded_and_takes_all_variations_or_none(queue):
    queue.submit([asked().varied(n) for n in range(4)])
    with pytest.raises(QueueFull):
        queue.submit([asked(), asked()])
    assert len(states(queue)) == 4
    queue.claim(0)
    assert [job.request.seed for job in queue.submit([asked(seed=7).varied(n) for n in range(2)])] == [7, 8]


def test_a_key_makes_one_job_also_after_a_restart(queue):
    first = queue.submit(asked(), sender=sender("k"))
    assert queue.submit(asked(), sender=sender("k")) == first
    queue = again(queue)
    assert queue.submit(asked(), sender=sender("k"))[0].id == first[0].id
    with pytest.raises(KeyReused):
        queue.submit(asked(), sender=sender("k", "b"))
    assert queue.submit(asked(), sender=sender("k", scope="another"))[0].id != first[0].id
    queue.delete(first[0].id)
    for one in (queue, again(queue)):
        with pytest.raises(WrongState):  # a request that arrives late must not bring a deleted video back
            one.submit(asked(), sender=sender("k"))
    one.close()


def test_the_retry_of_a_client_is_the_same_request_for_some_minutes(queue, monkeypatch):
    first = queue.submit(asked(), sender=sender())[0]
    assert queue.submit(asked(), sender=sender())[0].id != first.id
    assert queue.submit(asked(), sender=sender(fingerprint="b"), resent=True)[0].id != first.id
    last = queue.page(limit=2).jobs[1]
    assert queue.submit(asked(), sender=sender(), resent=True) == [last]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert queue.submit(asked(), sender=sender(), resent=True)[0].id != last.id


@pytest.mark.parametrize("harm", ["delete", "truncate", "garbage", "empty"])
@pytest.mark.parametrize("running", [True, False])
def test_the_index_is_rebuilt_from_the_folders(queue, harm, running):
    ids = [queue.submit(asked(), sender=sender(f"k{n}"))[0].id for n in range(4)]
    queue.claim(0)
    queue.ended(ids[0], JobError("run_failed", "why"))
    queue.delete(ids[1])
    before = states(queue)
    if not running:
        queue.close()
    damage(queue.root / ".longtake" / "index.sqlite", harm)
    if not running:
        queue = JobQueue(queue.root)
    assert states(queue) == before == {ids[0]: "failed", ids[2]: "queued", ids[3]: "queued"}
    assert queue.submit(asked(), sender=sender("k3"))[0].id == ids[3]
    assert [queue.claim(0).id, queue.claim(0).id, queue.claim(0)] == [*ids[2:], None]
    if not running:
        queue.close()


def damage(path, harm):
    """Harm a file, and those that SQLite keeps beside it."""
    for one in path.parent.glob("index.sqlite*"):
        if harm == "delete":
            one.unlink()
        else:
            data = one.read_bytes()
            one.write_bytes({"truncate": data[: len(data) // 2], "garbage": b"\x07" * len(data), "empty": b""}[harm])


def test_a_second_process_names_the_first(queue):
    with pytest.raises(QueueInUse, match=str(os.getpid())):
        JobQueue(queue.root)


def test_an_active_job_is_first_again_after_its_server_died(queue):
    ids = [queue.submit(asked())[0].id for _ in range(3)]
    queue.claim(0)
    queue.began(ids[0], {"fps": 24})
    queue = again(queue)
    assert states(queue) == dict.fromkeys(ids, "queued")
    assert queue.claim(0).id == ids[0]
    queue.stop(ids[0])
    queue = again(queue)
    assert queue.claim(0).stop  # it ends after its segment, as it was asked to
    queue.close()


def test_a_clock_that_jumps_changes_no_order(queue, monkeypatch):
    ids = []
    for jump in (0, 10**9, -(10**9), 5):
        now = time.time_ns() + jump * 10**9
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        monkeypatch.setattr(time, "time", lambda now=now: now / 10**9)
        ids.append(queue.submit(asked())[0].id)
    queue = again(queue)
    assert list(states(queue)) == ids
    assert [queue.claim(0).id for _ in ids] == ids
    queue.close()


def test_stop_resume_and_delete_follow_the_states(queue):
    id = queue.submit(asked())[0].id
    with pytest.raises(WrongState):
        queue.resume(id)
    assert queue.stop(id).status.error.code == "stopped"  # it left the queue
    assert queue.claim(0) is None
    queue.resume(id)
    assert queue.claim(0).id == id
    assert queue.stop(id).status.state == "stopping"
    queue.began(id, {"fps": 24})
    assert queue.get(id).status.state == "stopping"
    queue.ended(id, None, 48)
    assert queue.get(id).status.stopped and queue.get(id).status.video["frames_done"] == 48
    queue.resume(id)
    queue.claim(0)
    queue.delete(id)
    queue.ended(id, None)  # it finished while it was deleted
    with pytest.raises(NoSuchJob):
        queue.get(id)
    with pytest.raises(NoSuchJob):
        queue.delete(id)
    assert [path.name for path in queue.store.trash.iterdir()] == [id]


def test_a_complete_video_is_not_resumed(queue):
    id = queue.submit(asked())[0].id
    queue.claim(0)
    queue.ended(id, None)
    with pytest.raises(WrongState, match="complete"):
        queue.resume(id)


def test_a_full_disk_refuses_a_job_and_leaves_nothing_of_it(queue, monkeypatch, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"png")
    first = queue.submit(asked())[0]
    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all", full)
        with pytest.raises(OSError, match="space"):
            queue.submit([asked(), asked()], inputs={"image": picture})
        assert queue.claim(0) is None  # its state could not be written
    assert list(states(queue)) == [first.id] and not any((queue.root / ".longtake" / "new").iterdir())
    assert queue.claim(0).id == first.id


def full(file, data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_line_that_a_kill_cut_off_counts_for_nothing(queue):
    job = queue.submit(asked())[0]
    queue.claim(0)
    path = job.folder / "job" / "states.jsonl"
    path.write_bytes(path.read_bytes() + b'{"state":"comple')
    queue = again(queue)
    assert states(queue) == {job.id: "queued"}
    assert queue.claim(0).id == job.id and len(path.read_bytes().splitlines()) == 4
    queue.close()


def test_inputs_are_kept_with_the_job(queue, tmp_path):
    picture = tmp_path / "a b.PNG"
    picture.write_bytes(b"png")
    job = queue.submit(asked(), inputs={"image": picture})[0]
    picture.unlink()
    assert (job.folder / "inputs" / "image.png").read_bytes() == b"png"
    assert job.request.request(job.folder / "inputs").inputs.image == job.folder / "inputs" / "image.png"
    assert json.loads((job.folder / "job" / "job.json").read_text())["id"] == job.id
