"""Adapt one frozen multilingual language model to a task from a few examples in one language."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyprompt.classifier import Classifier
    from polyprompt.predictor import Predictor
    from polyprompt.predictors import Predictors

__all__ = ["Classifier", "Predictor", "Predictors", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the Python front doors when they are first asked for, so that ``--help`` stays quick."""
    if name == "Classifier":
        from polyprompt.classifier import Classifier

        return Classifier
    if name == "Predictor":
        from polyprompt.predictor import Predictor

        return Predictor
    if name == "Predictors":
        from polyprompt.predictors import Predictors

        return Predictors
    raise AttributeError(f"module 'polyprompt' has no attribute '{name}'")
