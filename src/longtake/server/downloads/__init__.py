"""Downloads of released checkpoints into the cache of the Hugging Face hub."""
