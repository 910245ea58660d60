"""Teacher forcing equals block-by-block generation from a key/value cache."""

import pytest
import torch

from longtake.models.wan.config import tiny
from longtake.models.wan.session import chained, picked
from longtake.models.wan.transformer import WanTransformer
from longtake.train.objectives.teacher_forcing import banded, teacher_spans
from longtake.train.objectives.velocity import Sample, blocks_of, texts_and_scene, velocity

FRAMES, BLOCK = 7, 2


def attended(spans, frames):
    """Which frame attends to which, (F, F) bool."""
    seen = torch.zeros(frames, frames, dtype=torch.bool)
    for span in spans:
        for start, stop in span.attends:
            seen[span.start : span.stop, start:stop] = True
    return seen


def test_a_band_keeps_whole_blocks_that_fit_in_the_view():
    blocks = [0, 0, 1, 1, 2, 2, 3]
    seen = attended(banded(blocks, 4), FRAMES)
    block = torch.tensor(blocks)
    ahead = block[:, None] - block
    expected = (ahead >= 0) & (ahead <= 1)
    expected[6] = torch.tensor([0, 0, 0, 0, 1, 1, 1], dtype=torch.bool)  # 3 frames: one more block would make 5
    assert torch.equal(seen, expected)
    assert torch.equal(attended(banded(blocks, 99), FRAMES), ahead >= 0)


def test_noisy_blocks_attend_to_themselves_and_to_clean_blocks_before():
    blocks = [0, 0, 1, 1, 2, 2, 3]
    seen = attended(teacher_spans(blocks, 99), 2 * FRAMES)
    block = torch.tensor(blocks)
    ahead = block[:, None] - block
    assert torch.equal(seen[:FRAMES, :FRAMES], ahead >= 0) and not seen[:FRAMES, FRAMES:].any()
    assert torch.equal(seen[FRAMES:, :FRAMES], ahead > 0) and torch.equal(seen[FRAMES:, FRAMES:], ahead == 0)


@pytest.mark.parametrize("view", [4, 6, 99])
def test_one_call_equals_block_after_block_with_stored_keys(view):
    """Keys and values of a clean block depend only on the blocks before it that were in view at its time."""
    torch.manual_seed(0)
    net = WanTransformer(tiny(causal=True, block=BLOCK, max_latent_frames=view)).double()
    clean, noise = torch.randn(2, 2, 4, FRAMES, 8, 8, dtype=torch.float64)
    sigma, text = torch.rand(2, FRAMES, dtype=torch.float64), torch.randn(2, 5, 10, dtype=torch.float64)
    blocks = blocks_of(net, FRAMES)
    sigma = sigma[:, blocks]
    sample = Sample(clean, noise, sigma, torch.zeros(2, FRAMES, 8, 8), [[(0, "")]] * 2, clean_context=clean)
    with torch.no_grad():
        together = velocity(net, sample, lambda words: text)
        apart, memory, kept = [], None, []
        for start in range(0, FRAMES, BLOCK):
            own = list(range(start, min(start + BLOCK, FRAMES)))
            while kept and len(kept) + len(own) > view:  # whole blocks leave the view
                memory, kept = (picked(memory, range(BLOCK, len(kept))) if len(kept) > BLOCK else None), kept[BLOCK:]
            placed = net.position_kv(memory, kept, 8, 8) if kept else None
            shift = (1 - sigma[:, own])[:, None, :, None, None]
            noisy = shift * clean[:, :, own] + (1 - shift) * noise[:, :, own]
            apart.append(net(noisy, sigma[:, own], text, own, kv_cache=placed))
            zeros = torch.zeros(2, len(own), dtype=torch.float64)
            new = net.frame_kv(clean[:, :, own], zeros, text, own, kv_cache=placed)
            memory, kept = new if memory is None else chained(memory, new), kept + own
    assert (together - torch.cat(apart, 2)).abs().max() < 1e-9


def test_every_video_has_its_own_captions_over_time():
    texts, scene = texts_and_scene([[(0, "a"), (3, "b")], [(0, "c")], [(0, "d"), (1, "e"), (3, "f")]], 5)
    assert scene == [0, 1, 1, 2, 2]
    assert texts == [["a", "c", "d"], ["a", "c", "e"], ["b", "c", "f"]]


def test_a_network_that_is_not_causal_is_refused():
    video = torch.zeros(1, 4, 2, 8, 8)
    sample = Sample(video, video, torch.zeros(1, 2), video[:, 0], [[(0, "")]], clean_context=video)
    with pytest.raises(ValueError, match="only a block-causal network"):
        velocity(WanTransformer(tiny()), sample, lambda words: torch.zeros(1, 5, 10))
