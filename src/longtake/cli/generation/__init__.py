"""New videos: announced, generated one after the other, and shown together."""
