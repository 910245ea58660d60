"""The library of a queue: the order of those that wait, stars, and the trash."""

import pytest

from longtake.runs.jobs import library
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.states import NoSuchJob, WrongState
from tests.runs.jobs.queues import asked, states


@pytest.fixture
def queue(tmp_path):
    with JobQueue(tmp_path) as made:
        yield made


def order(queue):
    return [job.id for job in library.waiting(queue)]


@pytest.mark.parametrize("place, wanted", [(0, "dabc"), (1, "adbc"), (3, "abcd"), (99, "abcd")])
def test_a_waiting_video_moves_to_a_place(queue, place, wanted):
    ids = dict(zip("abcd", (queue.submit(asked())[0].id for _ in range(4))))
    library.move(queue, ids["d"], place)
    assert order(queue) == [ids[name] for name in wanted]
    assert [queue.claim(0).id for _ in ids] == [ids[name] for name in wanted]


def test_the_order_is_the_same_when_the_queue_is_opened_again(queue):
    ids = [queue.submit(asked())[0].id for _ in range(3)]
    library.move(queue, ids[2], 0)
    queue.close()
    with JobQueue(queue.root) as again:
        assert order(again) == [ids[2], ids[0], ids[1]]


def test_a_video_that_does_not_wait_has_no_place(queue):
    id = queue.submit(asked())[0].id
    queue.claim(0)
    with pytest.raises(WrongState, match="starting"):
        library.move(queue, id, 0)


def test_stars_are_kept_in_the_folder(queue):
    id = queue.submit(asked())[0].id
    assert library.is_starred(library.set_star(queue, id, True))
    assert not library.is_starred(library.set_star(queue, id, False))
    assert not library.is_starred(library.set_star(queue, id, False))


def test_a_deleted_video_comes_back_as_it_was(queue):
    job = queue.submit(asked())[0]
    queue.claim(0)
    queue.began(job.id, {"fps": 24})
    queue.ended(job.id, None)
    queue.delete(job.id)
    assert job.id not in states(queue)
    back = library.restore(queue, job.id)
    assert back.folder.is_dir() and back.status.state == "completed" and back.status.video == {"fps": 24}
    assert queue.get(job.id).status == back.status
    queue.close()
    with JobQueue(queue.root) as again:
        assert again.get(job.id).status == back.status


def test_one_that_had_not_ended_can_be_resumed(queue):
    id = queue.submit(asked())[0].id
    queue.delete(id)
    assert library.restore(queue, id).status.state == "failed"
    assert queue.resume(id).status.state == "queued"


@pytest.mark.parametrize("id", ["video_" + "a" * 26, "..", "../x", "", "."])
def test_what_is_not_in_the_trash_is_not_restored(queue, id):
    queue.delete(queue.submit(asked())[0].id)
    with pytest.raises(NoSuchJob):
        library.restore(queue, id)
