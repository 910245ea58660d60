"""Every registered model family keeps the contract of `longtake.testing.families`."""

import pytest
import torch
from safetensors.torch import save_file

from longtake.models import ModelError
from longtake.models.family import Family, Recognition
from longtake.models.registry import FAMILIES, family_of, register_family
from longtake.testing.cases import family_cases, open_case
from longtake.testing.families import CHECKS
from longtake.testing.runtime_options import check_compile


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    found = {}

    def of(family, case):
        if (family, case) not in found:
            found[family, case] = open_case(family, case, tmp_path_factory.mktemp("case") / "model")
        return found[family, case]

    return of


def check_cases():
    """The checks of the contract by name; compiling a network takes seconds."""
    for check in CHECKS:
        marks = [pytest.mark.long] if check is check_compile else []
        yield pytest.param(check, marks=marks, id=check.__name__.removeprefix("check_"))


@pytest.mark.parametrize("check", list(check_cases()))
@pytest.mark.parametrize(("family", "case"), [pytest.param(*pair, id="-".join(pair)) for pair in family_cases()])
def test_a_family_keeps_the_contract(opened, family, case, check):
    check(opened(family, case))


def test_every_line_describes_its_family():
    for name, line in FAMILIES.items():
        assert line.name == name and line.title and line.description
        assert line.has("open") and line.has("cases")
        assert line.needs_checkpoint or not line.recognise.tensors
        for role in line.provides:
            assert line.get(role) is not None


def test_an_unknown_layout_is_never_taken_for_a_known_family(tmp_path):
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(3, 1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"no known layout of weights: its tensors are named double_blocks\.0"):
        family_of(tmp_path / "x.safetensors")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelError, match=r"family 'FluxPipeline', which is unknown here: there are wan, ltx"):
        family_of(tmp_path / "m")


@pytest.fixture
def registered():
    line = Family("mine", "Mine", "a family of another package", {}, Recognition(tensors=(r"^double_blocks\.",)))
    register_family(line)
    yield line
    FAMILIES.remove("mine")


def test_a_registered_family_is_recognised_by_its_own_tensors(registered, tmp_path):
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(3, 1)}, tmp_path / "x.safetensors")
    assert family_of(tmp_path / "x.safetensors") is registered
    with pytest.raises(ModelError, match="'mine' already"):
        register_family(registered)
