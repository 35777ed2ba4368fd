import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Ray gives them 15: on a busy machine they would stand still
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112

import pytest

from parl.remote import connect, disconnect


@pytest.fixture(scope="session")
def cluster():
    connect(num_cpus=2)
    yield
    disconnect()
