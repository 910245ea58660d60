"""A tiny recipe of videos, and error recycling on top of it."""

import torch
from torch import nn

from longtake.core.noise import mix
from longtake.train.objectives.error_injection import ErrorShares
from longtake.train.objectives.error_recycling_config import BankConfig, LoraSettings, Rounds
from longtake.train.objectives.velocity import Sample
from longtake.train.recipe_entry import RecipeEntry
from longtake.train.recipes.error_recycling import ErrorRecycling, make

B, C, F, H = 2, 3, 6, 2
TABLES = {"errors": ErrorShares, "rounds": Rounds, "bank": BankConfig, "lora": LoraSettings}
SMALL = dict(rank=2, alpha=2.0, targets=("mix",), capacity=4, buckets=8)
ONLY_CONTEXT = dict(
    video_prob=0.0, noise_prob=0.0, context_prob=1.0, clean_prob=0.0
)  # every sample has errors there alone
INNERS = {}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(seed=0, with_concat=True, dtype=torch.float32):
    generator = rng(seed)
    video, noise = (torch.randn(B, C, F, H, H, generator=generator, dtype=dtype) for _ in range(2))
    concat = torch.randn(B, 4 + C, F, H, H, generator=generator, dtype=dtype) if with_concat else None
    sigma = torch.rand(B, 1, generator=generator).expand(B, F).to(dtype)
    return Sample(video, noise, sigma, torch.ones(B, F, H, H), [[(0, "")]] * B, concat=concat)


class Net(nn.Module):
    """Any network: a mixture of the channels that it sees."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(2 * C + 4, C)
        self.frozen = nn.Linear(C, C)

    def forward(self, x, sigma):
        y = self.frozen(self.mix(x.movedim(1, -1)).tanh()).movedim(-1, 1)
        return y * (1 + sigma[:, None, :, None, None])


class Inner:
    """Any recipe: it draws samples and predicts their velocities."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.module, self.video, self.seen = Net(), self, []

    def draw(self, step, generator):
        return sample(int(torch.randint(1 << 30, (), generator=generator)))

    def velocity(self, one):
        self.seen.append(one)
        return self.module(torch.cat([mix(one.video, one.noise, one.sigma), one.concat], 1), one.sigma)

    def evaluate(self, step, out):
        return {"score": 1.0}


class Entry(RecipeEntry):
    """A registry line of a recipe that is made at once."""

    def make(self, config, out, recipes):
        return self.inner()

    @property
    def inner(self):
        return INNERS[self.title]


def recipe(out, inner=Inner, **settings) -> ErrorRecycling:
    """Error recycling on top of an inner recipe; each of the settings goes to the table that has it."""
    table = {"recipe": "any"}
    for name, value in {**SMALL, **settings}.items():
        inside = next((part for part, kind in TABLES.items() if name in kind.__dataclass_fields__), None)
        if inside:
            table.setdefault(inside, {})[name] = value
        else:
            table[name] = value
    INNERS["any"] = inner
    return make(table, out, {"any": Entry("longtake.train.recipes.flow_matching", "any", "", samples=True)})
