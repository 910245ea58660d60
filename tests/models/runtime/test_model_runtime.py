"""Runtime options on whole models: image-to-video, two stages, LoRAs; `longtake.testing` checks every family."""

from __future__ import annotations

import pytest
import torch

import longtake
from longtake.models.lora.layers import inject, save
from longtake.models.runtime.load_options import LoadOptions
from longtake.models.wan.checkpoint import open_folder
from longtake.models.wan.config import tiny
from longtake.models.wan.transformer import WanTransformer
from tests import released
from tests.checkpoints import random_wan
from tests.oracles import shuffled


def frames(model, **how):
    return torch.cat(list(longtake.generate("a red ball", model, seconds=0.7, seed=3, **how)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_wan(tmp_path_factory.mktemp("place") / "m", causal=True)


@pytest.mark.parametrize("offload", ["model", "blocks"])
def test_offload_changes_no_frame_and_drops_the_text_encoder(folder, offload):
    plain, placed = open_folder(folder), open_folder(folder, LoadOptions("cpu", offload=offload))
    assert torch.equal(frames(placed, strategy="blocks"), frames(plain, strategy="blocks"))
    assert placed.text_encoder.text.encoder is None, "the text encoder is dropped once the prompts are encoded"
    assert torch.equal(frames(placed, strategy="relay", overlap=5), frames(plain, strategy="relay", overlap=5))


def test_offload_of_an_image_to_video_model_changes_no_frame(tmp_path):
    made = released.original(tmp_path / "m", released.parts("i2v"))
    image = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
    how = dict(image=image, height=32, width=32, steps=2, window=9)
    plain, placed = open_folder(made), open_folder(made, LoadOptions("cpu", offload="model"))
    assert torch.equal(frames(placed, **how), frames(plain, **how))


@pytest.fixture(scope="module")
def style(tmp_path_factory):
    """Write a LoRA for the model in `folder`; return {file: strength}."""
    net = shuffled(WanTransformer(tiny(causal=True, max_latent_frames=9)))
    inject(net, 2, 2.0, ["to_q", "ffn.net.2"])
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if ".up." in name:
                weight.normal_()
    return {str(save(net, tmp_path_factory.mktemp("style") / "style.safetensors")): 0.8}


def test_loras_are_merged_into_offloaded_weights(folder, style):
    scenes = [longtake.Scene("a red ball", 0.3, lora=style), longtake.Scene("a blue ball", 0.4)]

    def made(model):
        return torch.cat(list(longtake.generate(scenes, model, strategy="relay", overlap=5, steps=2)))

    plain = made(open_folder(folder))
    for offload in ("model", "blocks"):
        assert torch.equal(made(open_folder(folder, LoadOptions("cpu", offload=offload))), plain)


def test_a_lora_works_on_fp8_weights_wherever_they_are_stored(folder, style):
    def made(model, loras):
        scenes = [longtake.Scene("a red ball", 0.7, lora=loras)]
        return torch.cat(list(longtake.generate(scenes, model, strategy="relay", overlap=5, steps=2)))

    small = open_folder(folder, LoadOptions("cpu", fp8=True))
    plain, styled, wide = made(small, {}), made(small, style), made(open_folder(folder), style)
    off = (styled.float() - wide.float()).abs().mean()
    assert off < 0.5 * (styled.float() - plain.float()).abs().mean() and off < 12
    for offload in ("model", "blocks"):
        placed = open_folder(folder, LoadOptions("cpu", fp8=True, offload=offload))
        assert torch.equal(made(placed, style), styled)
    assert torch.equal(made(small, {}), plain)


def test_fp8_changes_frames_slightly(folder):
    plain, small = (
        frames(open_folder(folder, LoadOptions("cpu", fp8=fp8)), strategy="relay", overlap=5).float()
        for fp8 in (False, True)
    )
    assert 0 < (plain - small).abs().mean() < 12
