"""Prompts become what diffusers' Wan pipeline makes of them, whatever layout the encoder comes in."""

import importlib

import pytest
import torch
from safetensors.torch import save_file

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.checkpoints.safetensors_headers import entries
from longtake.models.encoders import umt5
from longtake.models.encoders.t5 import T5Encoder
from longtake.models.encoders.umt5 import UmT5Text, cleaned, read_tokenizer, stripped
from tests import released
from tests.oracles import apart, oracle, shuffled

PROMPTS = [
    "a red ball",
    "a red &amp;amp; big   ball\n rolls over a hill, and on " * 30,
    "",
    "\ufeff“a ｂｉｇ ball”，red，a ‘hill’",
]


@pytest.fixture(scope="module")
def net() -> T5Encoder:
    return shuffled(T5Encoder(released.WORDS))


def reference(net: T5Encoder, length: int) -> torch.Tensor:
    """The embeddings that diffusers' pipeline makes with transformers' encoder and tokenizer."""
    config, model = (oracle("transformers", name) for name in ("UMT5Config", "UMT5EncoderModel"))
    shape = {k: v for k, v in vars(net.config).items() if k != "model_type"}
    encoder = model(config(**shape, dropout_rate=0.0, attn_implementation="eager"))
    encoder.load_state_dict(net.state_dict(), strict=False)
    fast = oracle("transformers", "PreTrainedTokenizerFast")
    tokenizer = fast(tokenizer_object=released.tokenizer(), pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    module = importlib.import_module("diffusers.pipelines.wan.pipeline_wan")
    pipe = module.WanPipeline(tokenizer, encoder.eval(), None, None)
    with torch.no_grad():
        return pipe._get_t5_prompt_embeds(PROMPTS, max_sequence_length=length)


@pytest.mark.parametrize("length", [512, 24])
def test_embeddings_equal_the_pipeline(net, length):
    ours = UmT5Text(net, released.tokenizer(), length).encode(PROMPTS)
    theirs = reference(net, length)
    assert ours.shape == (len(PROMPTS), length, 10)
    assert apart(theirs, ours) < 1e-5
    assert ours[1].count_nonzero() > ours[0].count_nonzero()
    assert torch.equal(ours == 0, theirs == 0)


def test_a_prompt_does_not_depend_on_its_neighbours(net):
    text = UmT5Text(net, released.tokenizer())
    assert apart(text.encode(PROMPTS)[:1], text.encode(PROMPTS[:1])) < 1e-6
    assert text.unknown("Ωmega") == ()


def test_cleaning_of_wan():
    assert cleaned("  a &amp;amp; b\n\tc ") == "a & b c"
    assert cleaned("\ufeff“a”，‘ｂ’ cafÃ©") == "\"a\",'b' café"


def test_ltx_only_strips(net):
    """As its own pipeline does: curly quotes and entities are other tokens than straight quotes and characters."""
    text = UmT5Text(net, released.tokenizer(), clean=stripped)
    plain = UmT5Text(net, released.tokenizer())
    assert stripped(" “a &amp; b”\n") == "“a &amp; b”"
    assert torch.equal(text.encode([" a red ball "]), plain.encode(["a red ball"]))
    assert apart(plain.encode(["a &amp; b"]), text.encode(["a &amp; b"])) > 1e-3


@pytest.mark.parametrize("layout", ["transformers", "original", "packed"])
def test_layouts_and_shapes(net, tmp_path, layout):
    tensors = released.renamed(net, released.text_name) if layout == "original" else net.state_dict()
    if layout == "packed":
        tensors = {**tensors, "spiece_model": torch.zeros(2)}
    if layout == "transformers":
        tensors = {("encoder.embed_tokens.weight" if n == "shared.weight" else n): t for n, t in tensors.items()}
    save_file(tensors, tmp_path / "t5.safetensors")
    config = umt5.shape(entries(tmp_path, umt5.NAMES))
    assert config == net.config
    again = weights.load(T5Encoder, config, tmp_path, umt5.NAMES)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_damaged_encoders_and_tokenizers_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no T5 text encoder"):
        umt5.shape({})
    with pytest.raises(WeightsError, match=r"tokenizer\.json is missing"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="is not a tokenizer"):
        read_tokenizer(tmp_path)
