"""The registry of training recipes: adding one is one file and one line here."""

from longtake.train.loop import MakeRecipe
from longtake.train.recipes.causal import CausalRecipe
from longtake.train.recipes.codec import CodecRecipe
from longtake.train.recipes.forcing import ForcingRecipe
from longtake.train.recipes.i2v import I2vRecipe
from longtake.train.recipes.text import TextRecipe

RECIPES: dict[str, MakeRecipe] = {
    "codec": CodecRecipe,
    "text": TextRecipe,
    "forcing": ForcingRecipe,
    "causal": CausalRecipe,
    "i2v": I2vRecipe,
}
