"""What every test shares: one torch thread, since many small operations are slower on several."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Run all tests on one torch thread."""
    torch.set_num_threads(1)
