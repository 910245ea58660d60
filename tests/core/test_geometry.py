"""Seconds, frames and latents: round trips for any stride."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.errors import SettingsError
from longtake.core.geometry import (
    first_frame,
    frames_of_latents,
    frames_of_seconds,
    is_whole,
    latent_of_frame,
    latents_of_frames,
    nearest_whole,
)

strides, counts = st.integers(1, 16), st.integers(1, 5000)


@given(counts, strides)
def test_latents_hold_their_frames(frames, temporal_compression):
    latents = latents_of_frames(frames, temporal_compression)
    assert (
        frames_of_latents(latents, temporal_compression)
        >= frames
        > frames_of_latents(latents - 1, temporal_compression)
    )


@given(counts, strides)
def test_whole_counts_survive_the_round_trip(latents, temporal_compression):
    frames = frames_of_latents(latents, temporal_compression)
    assert is_whole(frames, temporal_compression)
    assert latents_of_frames(frames, temporal_compression) == latents


@given(st.integers(0, 5000), strides)
def test_every_frame_is_in_its_latent(frame, temporal_compression):
    latent = latent_of_frame(frame, temporal_compression)
    assert first_frame(latent, temporal_compression) <= frame < first_frame(latent + 1, temporal_compression)


@given(counts, strides)
def test_nearest_whole_brackets(frames, temporal_compression):
    low, high = nearest_whole(frames, temporal_compression)
    assert is_whole(low, temporal_compression) and is_whole(high, temporal_compression)
    assert low <= frames <= high or (frames < low == 1)
    assert high - low in (0, temporal_compression)
    assert (low == high) == is_whole(frames, temporal_compression)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (97, 25), (121, 31), (81, 21), (257, 65), (737, 185)])
def test_published_sizes(frames, latents):
    assert latents_of_frames(frames, 4) == latents


def test_seconds():
    assert frames_of_seconds(5, 24) == 120
    assert frames_of_seconds(0.001, 24) == 1
    for bad in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive"):
            frames_of_seconds(bad, 24)
        with pytest.raises(ValueError, match="positive"):
            frames_of_seconds(1, bad)


@pytest.mark.parametrize("seconds", [10**5000, 1e308], ids=["5001 digits", "float"])
def test_a_length_of_many_digits_is_refused_in_a_sentence(seconds):
    with pytest.raises(SettingsError, match="more than any disk holds"):
        frames_of_seconds(seconds, 24)
