"""IMPALA: actor-critic whose learner may be ahead of its actors.

Espeholt et al. 2018, arXiv:1802.01561. Shapes: T time, B environments.
"""

from parl.algorithms.a2c import A2C
from parl.core.types import static


class IMPALA(A2C):
    """A2C with V-trace: targets of eq. 1, advantages of section 4.2, both truncated at 1.

    The acting policy's log-probabilities come with the rollout; on rollouts of the newest policy
    it is A2C.
    """

    corrected: bool = static(default=True)
