"""The verb and the noun in a narration, of either kind."""

from __future__ import annotations

import re

from simkitchen.catalogue import VERBS
from simkitchen.narration import action

_FORMS = {action(verb, "", None, form).strip(): verb for verb in VERBS for form in ("do", "does", "doing")}
_ACTION = re.compile(rf"\b({'|'.join(sorted(map(re.escape, _FORMS), key=len, reverse=True))}) (\w+)")
_NOUN = re.compile(r"\bthe (\w+)")


def verb_and_noun(text: str) -> tuple[str | None, str | None]:
    """What is done to what; the noun of a sentence whose verb can't be made out is the first word behind "the".

    Args:
        text: a caption, `#C C opens the microwave`, or how-to speech, `keep opening the microwave until you're happy`.
    """
    if found := _ACTION.search(text):
        return _FORMS[found[1]], found[2]
    noun = _NOUN.search(text)
    return None, noun[1] if noun else None


def with_noun(text: str, noun: str, other: str) -> str:
    """A narration with another noun in the place of what is acted on; the same word elsewhere stays."""
    return re.sub(rf"\bthe {noun}\b", f"the {other}", text, count=1)
