"""What happens to the videos of a queue, as events for clients: without paths, and with what a page needs to show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longtake.runs.files.errors import RunError
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.states import ENDED, NoSuchJob
from longtake.server.delivery.run_media import codec_string
from longtake.server.events.history import History
from longtake.server.video_object import video_object

PATHS = frozenset({"folder", "path", "video", "sheet", "id"})  # fields of events that clients are not sent
SHOWN = 500  # videos in a snapshot


class VideoEvents:
    """Writes the events of a queue into a history, and tells new subscribers the state of now."""

    def __init__(self, queue: JobQueue, history: History):
        self.queue, self.history = queue, history
        queue.listen(self._on_event)

    def _on_event(self, id: str, event: Mapping[str, Any]) -> None:
        data = {name: value for name, value in event.items() if name not in PATHS | {"event"}}
        if event["event"] == "state":
            data["video"] = self._video(id)
        if event["event"] == "segment_written" and (codec := _codec(event)):
            data["codec"] = codec
        self.history.publish(id, event["event"], data)

    def _video(self, id: str) -> dict[str, Any] | None:
        try:
            return video_object(self.queue.get(id), self.queue.progress(id))
        except NoSuchJob:
            return None

    def snapshot(self, ids: Sequence[str] | None) -> dict[str, Any]:
        """Return the videos of these ids, else the newest ones; a video that is not in it was deleted."""
        if ids is None:
            listed = [job.id for job in self.queue.page(limit=SHOWN).jobs]
        else:
            listed = list(ids)
        return {"videos": [video for id in listed if (video := self._video(id)) is not None]}

    def has_ended(self, ids: Sequence[str]) -> bool:
        """Whether none of these videos is queued or generated."""
        for id in ids:
            try:
                if self.queue.get(id).status.state not in ENDED:
                    return False
            except NoSuchJob:
                continue
        return True


def _codec(event: Mapping[str, Any]) -> str | None:
    """Return the codec of a segment, which Media Source Extensions ask for before the first byte."""
    try:
        return codec_string(Path(event["path"]).with_name("init.mp4").read_bytes())
    except (OSError, RunError):
        return None
