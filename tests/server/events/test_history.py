"""The history of events: numbered without gaps, bounded, and read by each subscriber at its own place."""

import asyncio
import threading

import pytest

from longtake.server.events.history import BATCH, History, LostEventsError


def numbers(batch):
    return [event.number for event in batch.events]


def test_events_are_numbered_without_gaps():
    history = History()
    threads = [threading.Thread(target=lambda: [history.publish("a", "x", {}) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = history.after(0)
    assert numbers(first) == list(range(1, 201)) and first.last == BATCH == 200
    assert history.after(200).events == []


def test_a_selection_moves_on_over_the_others():
    history = History()
    for subject in "abcab":
        history.publish(subject, "x", {"value": 1})
    batch = history.after(1, ["a"])
    assert numbers(batch) == [4] and batch.last == 5
    assert batch.events[0].data == '{"id":"a","value":1}'


def test_only_the_last_are_kept():
    history = History(kept=10)
    for _ in range(25):
        history.publish("a", "x", {})
    assert numbers(history.after(15)) == list(range(16, 26))
    for number in (14, 0):
        with pytest.raises(LostEventsError):
            history.after(number)


def test_ids_name_the_start_of_the_server():
    history, other = History(), History()
    history.publish("a", "x", {})
    other.publish("a", "x", {})
    assert history.number_of(history.id_of(1)) == 1
    for id in (other.id_of(1), history.id_of(2), "", "1", "x-1", history.id_of(1) + "0" * 30):
        assert history.number_of(id) is None


def test_waiting_ends_with_the_next_event_or_in_time():
    async def wait():
        history = History()
        assert not await history.wait(0, 0.01)
        timer = threading.Timer(0.02, history.publish, ("a", "x", {}))
        timer.start()
        assert await history.wait(0, 5)
        assert await history.wait(0, 5)
        timer.join()

    asyncio.run(wait())
