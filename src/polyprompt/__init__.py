"""Adapt one frozen multilingual language model to a task from a few examples in one language."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyprompt.classifier import Classifier

__all__ = ["Classifier", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the Python front door when it is first asked for, so that ``--help`` stays quick."""
    if name == "Classifier":
        from polyprompt.classifier import Classifier

        return Classifier
    raise AttributeError(f"module 'polyprompt' has no attribute '{name}'")
