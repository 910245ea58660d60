"""A video file as another one, without encoding its pictures again: .mp4, .mov or .mkv, with other sound or none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from longtake.core.errors import MediaError
from longtake.media.finished.save_video import FASTSTART, OPTIONS
from longtake.media.finished.sound_encoder import SoundEncoder
from longtake.media.metadata import COMMENT, check_comment


def copy_video(source: Path, path: Path, audio: Path | None = None) -> None:
    """Copy the pictures and the metadata of a video file into `path`, of the kind that its ending names.

    audio: a file whose sound plays beside them, cut to their length (None: the sound of `source`, if it has one). Raises
    MediaError if a file cannot be read or written.
    """
    try:
        options = OPTIONS.get(path.suffix.lower(), FASTSTART)
        with (
            av.open(f"file:{source}", metadata_errors="replace") as given,
            av.open(f"file:{path}", "w", options=options) as made,
        ):
            comment = given.metadata.get(COMMENT)
            made.metadata.update(given.metadata)
            streams = [given.streams.video[0], *([] if audio else given.streams.audio[:1])]
            outs = {stream.index: made.add_stream_from_template(stream) for stream in streams}
            sound = None if audio is None else SoundEncoder(made, audio)
            end = Fraction(0)
            for packet in given.demux(streams):
                if not packet.size:  # the last one, which ends the stream
                    continue
                if packet.stream is streams[0] and packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base))
                packet.stream = outs[packet.stream.index]
                made.mux(packet)
            if sound is not None:
                sound.write(end)
        if comment is not None:
            check_comment(path, comment)
    except av.error.FFmpegError as error:
        raise MediaError(f"{path} cannot be written: {error.strerror or error}") from error
