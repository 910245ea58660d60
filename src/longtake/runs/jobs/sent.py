"""Requests that were sent before: by their idempotency key, or since the client says that it sends one again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from longtake.runs.jobs.records.folder import Job, Sender
from longtake.runs.jobs.states import DELETED, KeyReused, WrongState

RESEND_SECONDS = 600.0  # within which a client's retry of a request counts as the same one


class Sent(Protocol):
    """What knows the jobs that were asked for."""

    def sent(self, sender: Sender) -> list[Job]:
        """Return the jobs that a sender asked for with the same idempotency key, the deleted ones too."""

    def alike(self, sender: Sender) -> Job | None:
        """Return the last job that a sender asked for with the same fields."""

    def present(self, ids: Sequence[str]) -> list[Job]:
        """Return those of the jobs that there are."""


def sent_before(store: Sent, sender: Sender, resent: bool) -> list[Job]:
    """Return the jobs of an earlier request that this one repeats; none if it is a new one.

    resent: the client says that it sends the request again. KeyReused if its key came with other fields; WrongState if the
    videos of its key were deleted, which a late request must not bring back.
    """
    if sender.key is not None:
        before = store.sent(sender)
        if before and before[0].sender != sender:
            raise KeyReused("this idempotency key came with another request: use a new key for a new video")
        left = [job for job in before if job.status.state != DELETED]
        if before and not left:
            raise WrongState("the video of this idempotency key was deleted: use a new key", DELETED)
        return left
    job = store.alike(sender) if resent else None
    if job is None or abs(time.time() - job.created_at) > RESEND_SECONDS:
        return []
    return store.present(job.variations) or [job]
