"""What the algorithms share that act by searching."""

from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.types import static


class NetworkPolicy(Algorithm):
    """Acts with the network alone that guides a search; its policy is that of the search."""

    model: Model = static(default=None)
