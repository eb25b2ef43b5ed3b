"""What is said: Ego4D-style sentences of who acts, and how-to speech of who explains.

Egocentric narrations have one form (`#C C opens the microwave`), so that a caption can be compared word for word. How-to
speech has many, and each split its own: what introduces an action in a test was never heard in training.
"""

from __future__ import annotations

from simkitchen.catalogue import TARGETS

_THIRD = {"push": "pushes", "wash": "washes"}
_GERUND = {"put": "putting", "shake": "shaking", "wipe": "wiping", "cut": "cutting", "close": "closing"}
_GERUND |= {"stir": "stirring"}

TEMPLATES: dict[str, tuple[str, ...]] = {
    "train": (
        "now go ahead and {do}",
        "next, {do}",
        "so first we {do}",
        "you want to {do}",
        "then just {do}",
        "all you have to do is {do}",
        "I'm going to {do}",
        "here I {do}, nice and easy",
        "let's {do}",
        "okay, time to {do}",
        "make sure you {do} before you go on",
        "and then we {do} like this",
        "what I do is {do}",
        "carefully {do}",
        "at this point you {do}",
        "I like to start by {doing}",
        "right now I'm {doing}",
        "the trick is {doing} slowly",
        "watch how I'm {doing}",
        "we're just {doing} here",
    ),
    "validation": (
        "alright, {do} for me",
        "step two: {do}",
        "you'll need to {do} now",
        "as you can see I {do}",
        "after that, simply {do}",
        "once that's done, {do}",
        "keep {doing} until you're happy",
        "see, {doing} isn't hard",
    ),
    "test": (
        "guys, it's easy: {do}",
        "don't forget to {do}",
        "when you're ready, {do}",
        "the next thing is to {do}",
        "my grandmother used to {do} this way",
        "gently {do}, that's it",
        "the secret lies in {doing} well",
        "this is me {doing}",
    ),
}
"""How-to speech of each split; `{do}` and `{doing}` stand for the action."""


def action(verb: str, noun: str, target: str | None = None, form: str = "do") -> str:
    """An action in words: `put the apple on the plate`.

    Args:
        verb: of `catalogue.VERBS`.
        noun: what is acted on.
        target: where it goes, for verbs that need that.
        form: `do`, `does` or `doing`.
    """
    word, _, particle = verb.partition(" ")
    if form == "does":
        word = _THIRD.get(word, word + "s")
    elif form == "doing":
        word = _GERUND.get(word, word + "ing")
    words = [word, *([particle] if particle else []), "the", noun]
    if target is not None:
        words += [TARGETS[verb][target], "the", target]
    return " ".join(words)


def ego_narration(verb: str, noun: str, target: str | None = None) -> str:
    """What Ego4D's annotators would write: `#C C opens the microwave`."""
    return f"#C C {action(verb, noun, target, 'does')}"


def exo_narration(template: str, verb: str, noun: str, target: str | None = None) -> str:
    """What who explains would say, by a template of `TEMPLATES`."""
    return template.format(do=action(verb, noun, target), doing=action(verb, noun, target, "doing"))
