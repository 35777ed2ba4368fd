"""IMPALA: an actor-critic that corrects for rollouts of older policies.

Espeholt et al. 2018, arXiv:1802.01561. Shapes: T time, B environments.
"""

from parl.algorithms.a2c import A2C
from parl.core.types import static


class IMPALA(A2C):
    """A2C with V-trace: targets of eq. 1, advantages of section 4.2, both truncated at 1.

    Rollouts hold the log-probabilities of the acting policy. On rollouts of the current policy
    IMPALA equals A2C.
    """

    corrected: bool = static(default=True)
