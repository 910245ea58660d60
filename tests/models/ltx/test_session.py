"""A session of the LTX transformer: what it computes is what the network computes, and texts are read once."""

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.models.interfaces import Conditioning, ContextFrames, PromptEmbedding
from longtake.models.ltx.session import LTXSession
from longtake.planning.window import Window
from tests.models.ltx.test_transformer import SIZE, made
from tests.oracles import apart, rand


def window(frames, **changes) -> Window:
    sigmas = torch.tensor([1.0, 0.6, 0.0], dtype=torch.float64)[:, None].expand(-1, len(frames)).clone()
    sigmas[:, 0] = 0
    return Window(frames, sigmas, **changes)


def cond(*names: str, scene, fps: float = 24.0) -> Conditioning:
    texts = tuple(PromptEmbedding(name, rand(1, 5, 10, seed=sum(name.encode()))) for name in names)
    return Conditioning(texts, tuple(scene), fps)


def test_a_session_is_the_network():
    net = made()
    session, win, words = LTXSession(net), window(range(7, 11)), cond("a", "b", scene=[0, 0, 1, 1], fps=25.0)
    x = rand(2, 4, 4, *SIZE)
    session.begin(win, ContextFrames({7: x[:, :, 0]}), words)
    memories = [net.text_kv(t.embedding) for t in words.texts]
    want = net(x, win.sigmas[1], memories, range(4), scene=words.scene, fps=25.0)
    assert apart(want, session(x, win.sigmas[1])) < 1e-6
    session.finish(win, x)
    assert session.state() == {}


def test_texts_are_read_once_and_forgotten(monkeypatch):
    net, read = made(), []
    monkeypatch.setattr(net, "text_kv", lambda t, run=net.text_kv: read.append(1) or run(t))
    session, win = LTXSession(net), window(range(4))
    for names, count in ((("a",), 1), (("a", "b"), 2), (("b",), 2), (("a",), 3)):
        session.begin(win, ContextFrames({}), cond(*names, scene=[0] * 4))
        assert len(read) == count and set(session.texts) == set(names)


def test_a_session_refuses_a_window_past_twenty_seconds():
    with pytest.raises(PlanError, match=r"reaches 20\.3 s"):
        LTXSession(made()).begin(window(range(62)), ContextFrames({}), cond("a", scene=[0] * 62))


def test_the_answer_has_the_dtype_of_the_question():
    net = made().to(torch.bfloat16)
    session = LTXSession(net)
    session.begin(window(range(2)), ContextFrames({}), cond("a", scene=[0] * 2))
    assert session(rand(1, 4, 2, *SIZE), torch.tensor([0.5, 0.2])).dtype == torch.float32
