"""The text encoder equals transformers', and a closed vocabulary knows what it does not know."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.encoders.t5 import T5Config, T5Encoder, position_bucket
from longtake.models.encoders.word_text import WordText
from tests.oracles import apart, oracle, shuffled

CONFIG = T5Config(vocab_size=20, d_model=24, d_kv=6, d_ff=40, num_layers=3, num_heads=4)
WORDS = ["<pad>", "</s>", "<unk>", ".", "a", "red", "ball", "drifts", "left"]


def reference(kind: str, net: T5Encoder) -> torch.nn.Module:
    names = {"umt5": ("UMT5Config", "UMT5EncoderModel"), "t5": ("T5Config", "T5EncoderModel")}[kind]
    config, model = (oracle("transformers", name) for name in names)
    shape = {k: v for k, v in vars(net.config).items() if k != "model_type"}
    other = model(config(**shape, dropout_rate=0.0, attn_implementation="eager"))
    problems = other.load_state_dict(net.state_dict(), strict=False)
    assert not problems.unexpected_keys and set(problems.missing_keys) <= {"encoder.embed_tokens.weight"}
    return other.eval()


def made(**changes) -> T5Encoder:
    return shuffled(T5Encoder(T5Config(**{**vars(CONFIG), **changes})))


def tokens(length: int) -> torch.Tensor:
    return torch.randint(0, 20, (3, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["umt5", "t5"])
@pytest.mark.parametrize("length", [9, 200])
def test_equals_the_reference(kind, length):
    net = made(model_type=kind)
    mask = torch.ones(3, length, dtype=torch.long)
    mask[1, length // 2 :] = 0
    want = reference(kind, net)(input_ids=tokens(length), attention_mask=mask).last_hidden_state.detach()
    got = net(tokens(length), mask)
    assert apart(want[mask.bool()], got[mask.bool()]) < 1e-5
    assert apart(want, net(tokens(length))) > 1e-3


def test_weights_of_the_reference_are_read(tmp_path):
    net = made()
    reference("umt5", net).save_pretrained(tmp_path)
    again = weights.load(T5Encoder, T5Config.read(tmp_path), tmp_path)
    assert again.config == net.config
    assert apart(net(tokens(5)), again(tokens(5)).detach()) < 1e-6
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_far_tokens_share_a_bucket():
    far = position_bucket(torch.tensor([-500, -128, -3, 0, 3, 128, 500]), 32, 128)
    assert far.tolist() == [15, 15, 3, 0, 19, 31, 31]


@pytest.mark.parametrize(
    "change, words", [(dict(feed_forward_proj="relu"), "gated-gelu"), (dict(model_type="x"), "umt5")]
)
def test_impossible_configs_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        T5Config(vocab_size=3, **change)


# ---------------------------------------------------------------- words
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def word_text(length: int = 8) -> WordText:
    return WordText(made(vocab_size=len(WORDS)), tokenizer(), length)


def test_padding_is_zero_and_unseen():
    text = word_text()
    short = text.encode(["a red ball"])
    assert short.shape == (1, 8, 24)
    assert not short[:, 4:].any() and short[:, :4].abs().sum(-1).min() > 0
    assert apart(short[:, :4], word_text(4).encode(["a red ball"])) < 1e-6
    both = text.encode(["a red ball", "a ball drifts left ."])
    assert apart(short, both[:1]) < 1e-6


def test_long_prompts_are_cut():
    assert word_text().encode(["a red ball " * 10]).shape == (1, 8, 24)


def test_unknown_words_are_named_as_written():
    text = word_text()
    assert text.unknown("A red Zebra drifts, zebra drifts left") == ("Zebra", ",", "zebra")
    assert text.unknown("a red ball drifts left. " * 5) == ()
    assert text.unknown("a ball drifts left a ball drifts left over") == ("over",)  # beyond the length that is read


def test_a_saved_encoder_is_read_again(tmp_path):
    text = word_text()
    weights.save(text.encoder, text.encoder.config, tmp_path, name="model")
    text.tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert torch.equal(text.encode(["a red ball"]), WordText.load(tmp_path, tmp_path).encode(["a red ball"]))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="not a tokenizer"):
        WordText.load(tmp_path, tmp_path)


def test_a_word_table_under_its_other_name_is_read(tmp_path):
    text = word_text()
    file = weights.save(text.encoder, text.encoder.config, tmp_path, name="model")
    text.tokenizer.save(str(tmp_path / "tokenizer.json"))
    tensors = load_file(file)
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    save_file(tensors, file)
    assert torch.equal(text.encode(["a red ball"]), WordText.load(tmp_path, tmp_path).encode(["a red ball"]))


def test_configs_without_a_vocabulary_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 8}))
    with pytest.raises(WeightsError, match="vocab_size"):
        T5Config.read(tmp_path)
