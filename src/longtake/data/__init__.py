"""Footage to training data: `prepare` finds the shots worth learning from, `Prepared` gives them to a recipe."""
