"""Refuses, before anything loads, instructions that are not there or stand nowhere."""

from collections.abc import Sequence

from polyprompt.capabilities import RunSettings
from polyprompt.errors import ConfigError, listing
from polyprompt.languages.catalogue import catalogue, check_languages
from polyprompt.tasks.layout import Layout


def check_instructions(settings: RunSettings, layout: Layout) -> None:
    """Check that instructions are given where one stands in the layout, and only there.

    Raises:
        ConfigError: One is missing, or none is read.
    """
    if layout.has_instruction and not settings.instructions:
        raise ConfigError(
            "layout: {instruction} stands for words that are not given. Set e.g. instructions: "
            "{default: 'What is it about?', deu_Latn: 'Worum geht es?'}, or take it out."
        )
    if settings.instructions and not layout.has_instruction:
        raise ConfigError(
            "instructions: they stand nowhere in the layout. Write {instruction} where they are to "
            "stand, or take them out."
        )


def check_languages_instructed(settings: RunSettings, tested: Sequence[str]) -> None:
    """Check that every language has an instruction, and every instruction a known language.

    Raises:
        ConfigError: One has none.
    """
    given = settings.instructions
    if given and "default" not in given:
        bare = [code for code in (*settings.source, *tested) if code not in given]
        if bare:
            raise ConfigError(
                f"instructions: there are none for {listing(list(dict.fromkeys(bare)))}. Add them, "
                "or one for all others: default."
            )
    check_languages([code for code in given if code != "default"], catalogue(), "instructions")
