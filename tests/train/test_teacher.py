"""Teacher forcing shows every block exactly what it meets when a video is made block by block from stored keys."""

import pytest
import torch

from longtake.models.wan import WanTransformer, tiny
from longtake.models.wan_session import chained, picked
from longtake.train.sample import Sample, blocks_of, texts_and_scene, velocity
from longtake.train.teacher import banded, teacher_spans

FRAMES, BLOCK = 7, 2


def pairs(spans, frames):
    """(F, F) bool: who sees whom."""
    seen = torch.zeros(frames, frames, dtype=torch.bool)
    for span in spans:
        for start, stop in span.sees:
            seen[span.start : span.stop, start:stop] = True
    return seen


def test_a_band_keeps_whole_blocks_that_fit_in_the_view():
    blocks = [0, 0, 1, 1, 2, 2, 3]
    seen = pairs(banded(blocks, 4), FRAMES)
    block = torch.tensor(blocks)
    ahead = block[:, None] - block
    expected = (ahead >= 0) & (ahead <= 1)
    expected[6] = torch.tensor([0, 0, 0, 0, 1, 1, 1], dtype=torch.bool)  # 3 frames: one more block would make 5
    assert torch.equal(seen, expected)
    assert torch.equal(pairs(banded(blocks, 99), FRAMES), ahead >= 0)


def test_noisy_blocks_see_themselves_and_only_clean_ones_before():
    blocks = [0, 0, 1, 1, 2, 2, 3]
    seen = pairs(teacher_spans(blocks, 99), 2 * FRAMES)
    block = torch.tensor(blocks)
    ahead = block[:, None] - block
    assert torch.equal(seen[:FRAMES, :FRAMES], ahead >= 0) and not seen[:FRAMES, FRAMES:].any()
    assert torch.equal(seen[FRAMES:, :FRAMES], ahead > 0) and torch.equal(seen[FRAMES:, FRAMES:], ahead == 0)


@pytest.mark.parametrize("view", [4, 6, 99])
def test_one_call_equals_block_after_block_with_stored_keys(view):
    """The keys and values of a clean block saw only the blocks before it that were in view at its time."""
    torch.manual_seed(0)
    net = WanTransformer(tiny(causal=True, block=BLOCK, view=view)).double()
    clean, noise = torch.randn(2, 2, 4, FRAMES, 8, 8, dtype=torch.float64)
    level, text = torch.rand(2, FRAMES, dtype=torch.float64), torch.randn(2, 5, 10, dtype=torch.float64)
    blocks = blocks_of(net, FRAMES)
    level = level[:, blocks]
    sample = Sample(clean, noise, level, torch.zeros(2, FRAMES, 8, 8), [[(0, "")]] * 2, before=clean)
    with torch.no_grad():
        together = velocity(net, sample, lambda words: text)
        apart, memory, kept = [], None, []
        for start in range(0, FRAMES, BLOCK):
            own = list(range(start, min(start + BLOCK, FRAMES)))
            while kept and len(kept) + len(own) > view:  # whole blocks leave the view
                memory, kept = (picked(memory, range(BLOCK, len(kept))) if len(kept) > BLOCK else None), kept[BLOCK:]
            placed = net.place(memory, kept, 8, 8) if kept else None
            shift = (1 - level[:, own])[:, None, :, None, None]
            noisy = shift * clean[:, :, own] + (1 - shift) * noise[:, :, own]
            apart.append(net(noisy, level[:, own], text, own, memory=placed))
            zeros = torch.zeros(2, len(own), dtype=torch.float64)
            new = net.remember(clean[:, :, own], zeros, text, own, memory=placed)
            memory, kept = new if memory is None else chained(memory, new), kept + own
    assert (together - torch.cat(apart, 2)).abs().max() < 1e-9


def test_every_video_is_told_its_own_captions_at_its_own_time():
    texts, scene = texts_and_scene([[(0, "a"), (3, "b")], [(0, "c")], [(0, "d"), (1, "e"), (3, "f")]], 5)
    assert scene == [0, 1, 1, 2, 2]
    assert texts == [["a", "c", "d"], ["a", "c", "e"], ["b", "c", "f"]]


def test_a_network_that_sees_all_frames_has_no_teacher():
    video = torch.zeros(1, 4, 2, 8, 8)
    sample = Sample(video, video, torch.zeros(1, 2), video[:, 0], [[(0, "")]], before=video)
    with pytest.raises(ValueError, match="only a block-causal network"):
        velocity(WanTransformer(tiny()), sample, lambda words: torch.zeros(1, 5, 10))
