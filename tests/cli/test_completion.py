"""Shell completion: the scripts of real shells complete commands, flags, names and run directories."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import longtake
from longtake.cli import run
from longtake.cli.registry import COMMANDS

SOURCE = Path(longtake.__file__).parents[1]
BASH = pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="there is no bash")


def proposed(capsys, *words: str) -> set[str]:
    """What `longtake __complete` proposes after these words, of which the last is incomplete."""
    capsys.readouterr()
    assert run(["__complete", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line.partition("\t")[0] for line in lines[lines.index("\x1fbegin") + 1 :]}


def test_names_of_the_registries_are_proposed(capsys):
    assert {"pocket", "clock", "ltx-2b-0.9.5"} <= proposed(capsys, "generate", "a", "--model", "")
    assert {"sliding", "rolling"} <= proposed(capsys, "generate", "--strategy", "")
    assert {"sliding", "rolling"} <= proposed(capsys, "plan", "")
    assert {"lora", "vae"} <= proposed(capsys, "train", "")
    assert {"scripts", "sliding", "pocket", "data prepare"} <= proposed(capsys, "help", "")
    assert "ltx-2b-0.9.5" in proposed(capsys, "inspect", "folder", "--preset", "")


def test_nothing_is_proposed_where_nothing_is_known(capsys):
    for words in ([], [""], ["nothing", ""], ["generate", "--seed", ""]):
        assert run(["__complete", *words]) == 0
        assert "\t" not in capsys.readouterr().out


def test_run_directories_are_proposed_else_folders(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("out/a run", "out/b", "mine", ".hidden", "empty/deep"):
        (tmp_path / name).mkdir(parents=True)
    assert proposed(capsys, "resume", "") == {"out/", "mine/", "empty/"}
    for name in ("out/a run", "mine", ".hidden"):
        (tmp_path / name / "run.json").touch()
    assert proposed(capsys, "resume", "") == {"out/a run", "mine"}
    assert proposed(capsys, "verify", "out/") == {"out/a run"}
    assert proposed(capsys, "prompts", f"{tmp_path}/m") == {f"{tmp_path}/mine"}
    assert proposed(capsys, "resume", ".h") == {".hidden"}
    assert proposed(capsys, "resume", "nowhere/") == set()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script for bash, and a folder with a command `longtake`."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "longtake"
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(SOURCE))} exec {shlex.quote(sys.executable)} -m longtake "$@"\n'
    )
    command.chmod(0o755)
    made = subprocess.run([command, "--show-completion", "bash"], capture_output=True, text=True, check=True)
    (folder / "script").write_text(made.stdout)
    return folder


def in_bash(script, line: str, cwd) -> list[str]:
    """What bash proposes at the end of a line, by the function that the script registers for `longtake`."""
    words = [*line.split(" ")]
    code = f"""
        source {shlex.quote(str(script / "script"))}
        COMP_WORDS=({" ".join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1}
        [[ $(complete -p longtake) == *"-F _longtake longtake" ]] || exit 1
        _longtake
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{script}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, "PATH": path},
    )
    return done.stdout.split("\n")[:-1]


@BASH
def test_bash_completes_for_real(script, tmp_path):
    (tmp_path / "out" / "star").mkdir(parents=True)
    (tmp_path / "out" / "star" / "run.json").touch()
    (tmp_path / "story.toml").touch()
    assert in_bash(script, "longtake res", tmp_path) == ["resume"]
    assert set(in_bash(script, "longtake ", tmp_path)) == {name.split()[0] for name in COMMANDS}
    assert in_bash(script, "longtake resume ", tmp_path) == ["out/star"]
    assert in_bash(script, "longtake data p", tmp_path) == ["prepare"]
    assert in_bash(script, "longtake generate x --strategy sli", tmp_path) == ["sliding"]
    assert in_bash(script, "longtake generate x --model pocket-c", tmp_path) == ["pocket-causal"]
    assert in_bash(script, "longtake generate x --overlap", tmp_path) == ["--overlap", "--overlap-source"]
    assert in_bash(script, "longtake generate x --offload b", tmp_path) == ["blocks"]
    assert in_bash(script, "longtake generate --script st", tmp_path) == ["story.toml"]
    assert set(in_bash(script, "longtake --", tmp_path)) >= {"--version", "--help", "--install-completion"}


@BASH
@pytest.mark.long
def test_the_tab_key_of_an_interactive_bash_completes(script, tmp_path):
    pty = pytest.importorskip("pty")
    child, terminal = pty.fork()
    if not child:
        os.chdir(tmp_path)
        os.environ["PATH"] = f"{script}{os.pathsep}{os.environ['PATH']}"
        os.execvp("bash", ["bash", "--norc", "--noprofile"])
    os.write(terminal, f"source {script}/script\n".encode())
    os.write(terminal, b"longtake generate x --strategy rol\t; exit\n")
    seen = b""
    try:
        while b"rolling" not in seen:
            seen += os.read(terminal, 4096)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def test_completion_is_quick_and_needs_no_torch():
    code = "import sys; from longtake.cli import run; run(['__complete', 'generate', '--model', 'p']); sys.exit('torch' in sys.modules)"
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
        taken.append(time.perf_counter() - begun)
    assert min(taken) < 3  # a tenth of it where nothing else runs


@pytest.mark.parametrize(
    ("shell", "file", "start"),
    [
        ("bash", ".local/share/bash-completion/completions/longtake", ".bashrc"),
        ("zsh", ".zsh/completions/_cyclopts_longtake", ".zshrc"),
        ("fish", ".config/fish/completions/longtake.fish", None),
    ],
)
def test_completion_is_installed_once_and_for_all(capsys, tmp_path, monkeypatch, shell, file, start):
    for name in ("ZSH_CUSTOM", "ZSH", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if start:
        (tmp_path / start).write_text("alias ll='ls -l'\n")
    for _ in range(2):
        assert run(["--install-completion", shell]) == 0
    assert str(tmp_path / file) in capsys.readouterr().out
    assert "longtake" in (tmp_path / file).read_text()
    if start:
        text = (tmp_path / start).read_text()
        assert "alias ll='ls -l'" in text and text.count("\n# ") + text.startswith("# ") == 1


def test_other_shells_are_refused(capsys):
    assert run(["--show-completion", "csh"]) == 2
    assert "no completion for the shell 'csh'" in capsys.readouterr().err
    assert run(["--show-completion", "bash", "zsh"]) == 2
