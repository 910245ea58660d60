"""Footage to training data: `prepare` finds the shots worth learning from, `manifest.read` gives them to the trainer."""
