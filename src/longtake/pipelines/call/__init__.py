"""The parts of a pipeline call: its keywords, prompts, callbacks and result."""
