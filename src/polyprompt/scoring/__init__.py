"""How good answers are: metrics, scores and intervals, without torch."""
