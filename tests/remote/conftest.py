import os

os.environ["JAX_PLATFORMS"] = "cpu"

import pytest

from parl.remote import connect, disconnect


@pytest.fixture(scope="session")
def cluster():
    connect(num_cpus=2)
    yield
    disconnect()
