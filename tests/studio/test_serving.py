"""Where the studio listens, and the address that it prints."""

import socket
import stat
import sys

import pytest

from longtake.core.errors import SettingsError
from longtake.studio.serving import address, listening, own_hosts, token_for


def test_the_address_carries_the_token():
    assert address("127.0.0.1", 8000, None) == "http://127.0.0.1:8000/"
    assert address("localhost", 1, "a-b_c") == "http://localhost:1/?token=a-b_c"
    assert address("::1", 1, None) == "http://[::1]:1/"
    assert address("0.0.0.0", 1, None) == f"http://{own_hosts('0.0.0.0')[0]}:1/"
    assert own_hosts("127.0.0.1") == [] and socket.gethostname() in own_hosts("0.0.0.0")


def test_other_machines_need_a_token_which_stays_the_same(tmp_path):
    assert token_for("127.0.0.1", None, tmp_path) is None
    assert token_for("0.0.0.0", "mine", tmp_path) == "mine"
    made = token_for("0.0.0.0", None, tmp_path)
    assert made and len(made) >= 16 and token_for("::", None, tmp_path) == made
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_a_taken_port_is_named():
    with listening("127.0.0.1", 0) as first, pytest.raises(SettingsError, match="choose another --port"):
        listening("127.0.0.1", first.getsockname()[1])
