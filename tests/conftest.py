"""What every test shares: one torch thread, since many small operations are slower on several, and signals that arrive.

LONGTAKE_TEST_THREADS sets another number, to see that no verdict hangs on how a sum is split between threads.
"""

import os
import signal
import threading

import pytest

THREADS = int(os.environ.get("LONGTAKE_TEST_THREADS", "1"))
# for the processes that tests start, and for runs whose files are compared: the number that suits a busy machine changes
os.environ["OMP_NUM_THREADS"] = str(THREADS)

import torch  # noqa: E402

torch.set_num_threads(THREADS)

# a shell's background job and nohup have these ignored, which runs respect and processes of tests inherit
if threading.current_thread() is threading.main_thread():
    for number, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        if hasattr(signal, number) and signal.getsignal(getattr(signal, number)) == signal.SIG_IGN:
            signal.signal(getattr(signal, number), usual)


@pytest.fixture(autouse=True)
def threads():
    """The same number of torch threads again after a test that changed it, as the command line does."""
    yield
    torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory):
    """A small text encoder, VAEs of two families, clips and a network, trained once for all tests of a process."""
    from longtake.testing.recipes import make_parts

    return make_parts(tmp_path_factory.mktemp("parts"))
