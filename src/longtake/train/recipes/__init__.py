"""The registry of training recipes: adding one is one file and one line here."""

from longtake.train.loop import MakeRecipe
from longtake.train.recipes import causal, distil, flow, forcing, i2v, lora, recycle
from longtake.train.recipes.codec import CodecRecipe
from longtake.train.recipes.mixed import Mixed
from longtake.train.recipes.text import TextRecipe

RECIPES: dict[str, MakeRecipe] = {
    "codec": CodecRecipe,
    "text": TextRecipe,
    "flow": flow.make,
    "forcing": forcing.make,
    "causal": causal.make,
    "i2v": i2v.make,
    "distil": distil.make,
    "mixed": Mixed,
}
RECIPES |= {"lora": lora.maker(dict(RECIPES)), "recycle": recycle.maker(dict(RECIPES))}
