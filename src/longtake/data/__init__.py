"""Training data from footage: `prepare` finds the shots fit for training, `manifest.read_shots` gives them to the trainer."""
