"""Previews of the running steps: into a file, or as pictures in the terminal."""
