"""Files that clients send: bounded, recognised by their contents, and decoded in a process of their own first."""
