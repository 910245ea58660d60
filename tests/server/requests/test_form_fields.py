"""Fields of forms become the values that a client took apart."""

import pytest

from longtake.server.errors import ApiError
from longtake.server.requests.form_fields import nested


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ([("prompt", "a cat")], {"prompt": "a cat"}),
        ([("scenes[]", "a"), ("scenes[]", "b")], {"scenes": ["a", "b"]}),
        ([("scenes[]", "a")], {"scenes": ["a"]}),
        ([("scenes", "a"), ("scenes", "b")], {"scenes": ["a", "b"]}),
        ([("video[id]", "video_1")], {"video": {"id": "video_1"}}),
        ([("o[a][b]", "1"), ("o[a][c]", "2"), ("o[d]", "3")], {"o": {"a": {"b": "1", "c": "2"}, "d": "3"}}),
        ([("o[a][]", "1"), ("o[a][]", "2")], {"o": {"a": ["1", "2"]}}),
        ([("s[0]", "a"), ("s[1]", "b")], {"s": ["a", "b"]}),
        (
            [("lora[][path]", "a"), ("lora[][path]", "b"), ("lora[][strength]", "0.5"), ("lora[][strength]", "1")],
            {"lora": [{"path": "a", "strength": "0.5"}, {"path": "b", "strength": "1"}]},
        ),
        ([("lora[][path]", "a"), ("lora[][strength]", "1")], {"lora": [{"path": "a", "strength": "1"}]}),
        ([("text", '{"id": "x"}')], {"text": '{"id": "x"}'}),
        ([], {}),
    ],
)
def test_values(fields, value):
    assert nested(fields) == value


def test_a_torn_list_that_cannot_be_put_together_says_what_to_do():
    with pytest.raises(ApiError, match="send lora as JSON text") as found:
        nested([("lora[][path]", "a"), ("lora[][path]", "b"), ("lora[][strength]", "1")])
    assert (found.value.code, found.value.param) == ("torn_list", "lora")


@pytest.mark.parametrize(
    "fields",
    [[("a", "1"), ("a[b]", "2")], [("a[b]", "1"), ("a", "2")], [("a[]", "1"), ("a[b]", "2")], [("a[", "1")], [("", "1")],
     [("a[b][c][d][e][f]", "1")], [("a b", "1")], [("../x", "1")], [("a[]]", "1")], [("x" * 70, "1")]],
)  # fmt: skip
def test_names_that_contradict_or_are_none(fields):
    with pytest.raises(ApiError) as found:
        nested(fields)
    assert found.value.status == 400
