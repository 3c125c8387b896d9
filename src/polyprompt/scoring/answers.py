"""How well written answers agree with the accepted ones.

Source: Rajpurkar et al. (2016), SQuAD, section 5, for F1 of words and exact match: letters are made
small, punctuation and English articles are taken out. Elsewhere articles stay, and in scripts that
put no spaces between words every letter is a word, as Lewis et al. (2020), MLQA, section 4, count
Chinese.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

ARTICLES = frozenset({"a", "an", "the"})
"""Words of English that do not count."""

BETWEEN_ENTITIES = "$$"
"""Stands between the entities of a written list (Vykopal et al. 2024)."""

_WITHOUT_SPACES = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff])"
)
"""Letters of scripts without spaces: Thai, Lao, Tibetan, Burmese, Khmer, kana and Han."""

_ASCII_SYMBOLS = frozenset("$+<=>^`|~")
"""What SQuAD takes for punctuation and Unicode for symbols."""


def answer_words(text: str, language: str) -> list[str]:
    """Split an answer into the words that are compared.

    Args:
        text: The answer.
        language: SIB-200 code; empty where it is not known.
    """
    kept = "".join(one for one in _folded(text).lower() if not _is_punctuation(one))
    words = _WITHOUT_SPACES.sub(r" \1 ", kept).split()
    articles = ARTICLES if language.startswith("eng_") else ()
    return [word for word in words if word not in articles]


def _folded(text: str) -> str:
    """Write letters in one way (NFKC, as multilingual tokenizers do), no marks of direction."""
    folded = unicodedata.normalize("NFKC", text)
    return "".join(one for one in folded if unicodedata.category(one) != "Cf")


def _is_punctuation(letter: str) -> bool:
    """Say whether a letter is none."""
    return letter in _ASCII_SYMBOLS or unicodedata.category(letter).startswith("P")


def accepted(label: str) -> list[str]:
    """List the accepted answers of an item; an empty one says that there is no answer."""
    return label.split("\n")


def best_f1(label: str, answer: str, language: str) -> float:
    """Give the F1 of an answer's words and those of the accepted answer nearest to it."""
    found = answer_words(answer, language)
    return max(_f1(answer_words(one, language), found) for one in accepted(label))


def _f1(true: Sequence[str], found: Sequence[str]) -> float:
    """Give the F1 of two lists of words; two empty ones agree."""
    if not true or not found:
        return float(true == found)
    shared = (Counter(true) & Counter(found)).total()
    return 2 * shared / (len(true) + len(found))


def is_exact(label: str, answer: str, language: str) -> bool:
    """Say whether an answer has the words of an accepted one, in their order."""
    found = answer_words(answer, language)
    return any(answer_words(one, language) == found for one in accepted(label))


def entity_text(words: Sequence[str], entities: Sequence[tuple[str, int, int]]) -> str:
    """Write a sentence's entities out.

    Args:
        words: Of the sentence.
        entities: Types with the first and last word.

    Returns:
        ``PER: Ada Lovelace$$LOC: London``, in the order of the sentence.
    """
    ordered = sorted(entities, key=lambda one: one[1:])
    listed = [f"{kind}: {' '.join(words[first : last + 1])}" for kind, first, last in ordered]
    return BETWEEN_ENTITIES.join(listed)


def listed_entities(text: str) -> Counter[tuple[str, str]]:
    """Read a written list of entities: types and names, and how often each is there.

    What has no type and name with a colon between them is no entity, and counts as one that is
    nowhere true.
    """
    found: Counter[tuple[str, str]] = Counter()
    for part in _folded(text).split(BETWEEN_ENTITIES):
        kind, _, name = part.partition(":")
        if part.strip():
            found[kind.strip(), " ".join(name.split())] += 1
    return found


def united_entities(texts: Sequence[str]) -> str:
    """Unite the lists that were written for windows of one text.

    Neighbouring windows share words: what two lists name counts as often as the one does that
    names it more often.
    """
    united: Counter[tuple[str, str]] = Counter()
    for text in texts:
        united |= listed_entities(text)
    named = [f"{kind}: {name}" if name else kind for kind, name in united.elements()]
    return BETWEEN_ENTITIES.join(named)


def kept_entities(label: str, text: str) -> str:
    """Give those entities of a sentence that its beginning still has.

    Args:
        label: All of them, in the order of the sentence.
        text: The sentence as far as it goes.
    """
    kept, at = [], 0
    for entity in label.split(BETWEEN_ENTITIES):
        name = re.escape(entity.partition(":")[2].strip())
        found = re.compile(rf"(?<!\S){name}(?!\S)").search(text, at)
        if found is None:
            break
        kept.append(entity)
        at = found.end()
    return BETWEEN_ENTITIES.join(kept)
