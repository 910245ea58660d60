"""What a model refuses is said without its weights, and nothing that it could do is refused."""

import pytest

from longtake.core.errors import InputError
from longtake.models import builtin
from longtake.pipelines.preflight import check_request
from longtake.pipelines.settings.request import Request

MODELS = [*builtin(), "clock", "skyreels-v2-df-1.3b-540p", "wan2.1-t2v-1.3b", "svi-2.0"]


@pytest.mark.parametrize("model", MODELS)
def test_a_model_says_what_it_cannot_do(model):
    for wrong, says in ((dict(height=65), "65"), (dict(seed=-1), "seed"), (dict(window=18), "window")):
        with pytest.raises(InputError, match=says):
            check_request(model, Request.of("a red ball", **wrong))


@pytest.mark.parametrize("model", [*MODELS, "ltx-2b-0.9.6-dev"])
@pytest.mark.parametrize("options", [dict(), dict(endless=True), dict(seconds=3, seed=4), dict(num_inference_steps=4)])
def test_what_a_model_can_do_passes(model, options):
    check_request(model, Request.of("a red ball", **options))


def test_a_family_without_a_network_to_describe_checks_the_size():
    with pytest.raises(InputError, match="33"):
        check_request("ltx-2b-0.9.6-dev", Request.of("a red ball", height=33))


def test_input_files_are_not_read_and_a_model_that_takes_none_says_so(tmp_path):
    check_request("pocket-i2v", Request.of("a red ball", image=tmp_path / "there is none.png"))
    with pytest.raises(InputError, match="cannot use an input image"):
        check_request("wan2.1-t2v-1.3b", Request.of("a red ball", image=tmp_path / "there is none.png"))


def test_an_unknown_model_is_left_to_what_loads_it():
    check_request("no such model", Request.of("a red ball", seed=-1))
