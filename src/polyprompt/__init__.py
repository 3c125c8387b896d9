"""Adapt one frozen multilingual language model to a task from a few examples in one language."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyprompt.classifier import Classifier
    from polyprompt.predictor import Answer, Predictor
    from polyprompt.predictors import Predictors
    from polyprompt.studies import StudyResults, run_study

__all__ = [
    "Answer",
    "Classifier",
    "Predictor",
    "Predictors",
    "StudyResults",
    "__version__",
    "run_study",
]
__version__ = "0.1.0"


_FRONT_DOORS = {
    "Answer": "predictor",
    "Classifier": "classifier",
    "Predictor": "predictor",
    "Predictors": "predictors",
    "StudyResults": "studies",
    "run_study": "studies",
}


def __getattr__(name: str) -> Any:
    """Load the Python front doors when they are first asked for, so that ``--help`` stays quick."""
    if name not in _FRONT_DOORS:
        raise AttributeError(f"module 'polyprompt' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"polyprompt.{_FRONT_DOORS[name]}"), name)
