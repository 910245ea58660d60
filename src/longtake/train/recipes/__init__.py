"""The registry of training recipes: adding one is one file and one line here."""

from longtake.train.loop import MakeRecipe
from longtake.train.recipes.codec import CodecRecipe
from longtake.train.recipes.forcing import ForcingRecipe
from longtake.train.recipes.text import TextRecipe

RECIPES: dict[str, MakeRecipe] = {
    "codec": CodecRecipe,
    "text": TextRecipe,
    "forcing": ForcingRecipe,
}
