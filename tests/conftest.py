"""What every test shares: one torch thread, since many small operations are slower on several."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread():
    """One torch thread again after a test that changed it, as the command line does."""
    yield
    torch.set_num_threads(1)
