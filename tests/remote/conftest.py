import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["RAY_worker_niceness"] = "0"  # 15 is Ray's own: on a busy machine they stand still

import pytest

from parl.remote import connect, disconnect


@pytest.fixture(scope="session")
def cluster():
    connect(num_cpus=2)
    yield
    disconnect()
