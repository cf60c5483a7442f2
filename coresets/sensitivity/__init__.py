"""Upper bounds on each point's worst share of the cost, one file per family of costs."""

from coresets.sensitivity.leverage import leverage_scores
from coresets.sensitivity.lewis import lewis_weights
from coresets.sensitivity.orthonormal import orthonormaliser
from coresets.sensitivity.sensitivities import Sensitivities
from coresets.sensitivity.uniform import uniform_sensitivities

__all__ = ["Sensitivities", "leverage_scores", "lewis_weights", "orthonormaliser", "uniform_sensitivities"]
