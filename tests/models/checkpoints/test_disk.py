"""What is said about a file that cannot be read as weights."""

from longtake.models.checkpoints.disk import damaged


def test_too_little_memory_says_nothing_against_the_file(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"")
    no_memory = RuntimeError("unable to mmap 10420176 bytes from file <x.safetensors>: Cannot allocate memory (12)")
    said = str(damaged(tmp_path / "x.safetensors", no_memory))
    assert "needs more memory than there is: ask for less with" in said and "damaged" not in said
