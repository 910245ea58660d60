"""The registry of training recipes: adding one is one file and one line here."""

from longtake.train.loop import MakeRecipe
from longtake.train.recipes import causal, distil, flow, forcing, i2v, lora, recycle
from longtake.train.recipes.codec import CodecRecipe
from longtake.train.recipes.mixed import Mixed
from longtake.train.recipes.text import TextRecipe

VIDEO: dict[str, MakeRecipe] = {  # recipes of video networks
    "flow": flow.make,
    "forcing": forcing.make,
    "causal": causal.make,
    "i2v": i2v.make,
    "distil": distil.make,
    "mixed": Mixed,
}
RECIPES: dict[str, MakeRecipe] = {"codec": CodecRecipe, "text": TextRecipe, **VIDEO}
RECIPES |= {"lora": lora.maker(VIDEO), "recycle": recycle.maker(dict(RECIPES))}
