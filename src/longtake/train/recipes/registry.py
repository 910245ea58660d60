"""The registry of training recipes: a new recipe is one file and one line here, or a package with an entry point."""

from longtake.core.errors import ConfigError
from longtake.core.registry import Registry
from longtake.train.recipe_entry import RecipeEntry

_HERE = "longtake.train.recipes."
RECIPES: Registry[RecipeEntry] = Registry(
    "recipe",
    RecipeEntry,
    {
        "vae": RecipeEntry(
            _HERE + "vae", "VAE", "Trains a causal VAE to reconstruct pocket clips.",
            trains="vae", example="examples/train/vae.toml",
        ),
        "text_encoder": RecipeEntry(
            _HERE + "text_encoder", "Text encoder", "Trains a small T5 encoder on pocket captions.",
            trains="text encoder", example="examples/train/text_encoder.toml",
        ),
        "flow_matching": RecipeEntry(
            _HERE + "flow_matching", "Flow matching", "Trains a Wan network with one sigma for all frames of a video.",
            samples=True, example="examples/train/flow_matching.toml",
        ),
        "diffusion_forcing": RecipeEntry(
            _HERE + "diffusion_forcing", "Diffusion forcing", "Trains a Wan network with a sigma of its own per frame.",
            samples=True, example="examples/train/diffusion_forcing.toml",
        ),
        "block_causal": RecipeEntry(
            _HERE + "block_causal", "Block-causal", "Trains a Wan network that generates block by block from a KV cache.",
            samples=True, example="examples/train/block_causal.toml",
        ),
        "image_to_video": RecipeEntry(
            _HERE + "image_to_video", "Image to video", "Trains a Wan network conditioned on the first frames of a video.",
            samples=True, example="examples/train/image_to_video.toml",
        ),
        "guidance_distillation": RecipeEntry(
            _HERE + "guidance_distillation", "Guidance distillation", "Builds classifier-free guidance into a network.",
            wraps=True, example="examples/train/guidance_distillation.toml",
        ),
        "multi_resolution": RecipeEntry(
            _HERE + "multi_resolution", "Multi-resolution", "Trains an LTX network on several durations and sizes at once.",
            example="examples/train/multi_resolution.toml",
        ),
        "lora": RecipeEntry(
            _HERE + "lora", "LoRA", "Trains a LoRA with the loss of any recipe of a video network.",
            trains="adapter", wraps=True, example="examples/train/lora.toml",
        ),
        "error_recycling": RecipeEntry(
            _HERE + "error_recycling", "Error recycling", "Trains a LoRA to correct the network's own errors (SVI).",
            trains="adapter", wraps=True, example="examples/train/error_recycling.toml",
        ),
    },
    "longtake.recipes",
    ConfigError,
)  # fmt: skip


def register_recipe(name: str, entry: RecipeEntry) -> None:
    """Add a training recipe of another package. ConfigError if the name is taken."""
    RECIPES.register(name, entry)
