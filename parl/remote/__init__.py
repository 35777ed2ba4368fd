"""Ray: the session, remote classes and supervised rollout pools. The only importer of ray."""

from parl.remote.chaos import chaos
from parl.remote.connect import connect, disconnect
from parl.remote.pool import RolloutPool
from parl.remote.remote_class import remote_class
from parl.remote.supervisor import Restart

__all__ = ["Restart", "RolloutPool", "chaos", "connect", "disconnect", "remote_class"]
