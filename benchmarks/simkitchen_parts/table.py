"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from egoinstructor.errors import InputError
from egoinstructor.files import atomic_file
from simkitchen_parts.evaluation import COPIED, LIKELIEST, MAIN, NONE, RETRIEVED, SWAPPED, SWEEPS, TEXT_ONLY
from simkitchen_parts.models import MODELS, RETRIEVAL
from simkitchen_parts.scores import BUCKETS, BY_VERB, IF_NAMED

BEGIN, END = "<!-- simkitchen: written by benchmarks/on_simkitchen.py -->", "<!-- /simkitchen -->"
NAMES = {
    ("ego", NONE): "no references, trained on ego clips",
    ("ego+exo", NONE): "no references, trained on ego and how-to clips",
    ("ego+exo+library", NONE): "the same, then trained on the test library too",
    (RETRIEVAL, NONE): "video-only: the retrieval model without references",
    (RETRIEVAL, TEXT_ONLY): "text-only: the narrations of 4 retrieved, no clip",
    (RETRIEVAL, "random 4"): "random: 4 references",
    (RETRIEVAL, "shuffled narrations"): "4 retrieved, narrations shuffled",
    (RETRIEVAL, "retrieved 1"): "1 retrieved",
    (RETRIEVAL, "retrieved 2"): "2 retrieved",
    (RETRIEVAL, RETRIEVED): "**4 retrieved**",
    (RETRIEVAL, LIKELIEST): "4 retrieved, each alone, none: the likeliest caption",
    (RETRIEVAL, "oracle 4"): "oracle: 4 references",
    (COPIED, COPIED): "retrieval-only: the nearest clip's narration",
    (RETRIEVAL, "library 25 %"): "a quarter of the library",
    (RETRIEVAL, "library 50 %"): "half of it",
    (RETRIEVAL, "noun taken out"): "all of it but the clips with the needed noun",
    (RETRIEVAL, "own event kept"): "all of it, with the query's own event",
}
ROWS = (
    [(m, NONE) for m in MODELS[1:]] + [(RETRIEVAL, c) for c in (*MAIN[:-1], LIKELIEST, MAIN[-1])] + [(COPIED, COPIED)]
)


def markdown(results: Mapping[str, Any]) -> str:
    """The whole section."""
    scored = {(row["model"], row["condition"]): row["buckets"] for row in results["conditions"]}
    some = next(iter(scored.values()))
    buckets = [bucket for bucket in BUCKETS if bucket in some]
    parts = [_head(results)]
    for bucket in buckets:
        parts.append(f"### {bucket.capitalize()}: {some[bucket]['queries']} queries")
        parts.append(_main(results, scored, bucket))
    parts += [_section("What retrieval gains", _gains(results, buckets))] if results["gains"][RETRIEVED] else []
    swept = [(RETRIEVAL, name) for name in (*SWEEPS[:2], RETRIEVED, *SWEEPS[2:])]
    if all(row in scored for row in swept):
        parts.append(_section("The library's size, and what is in it", _sweeps(scored, swept, buckets)))
    if "shuffled videos" in results:
        parts.append(_section("Blind controls", _controls(results, buckets)))
    parts.append(_section("The retriever", _retriever(results, buckets)))
    parts.append(_section("Training", _training(results)))
    return "\n\n".join(parts) + "\n"


def write_between(path: Path, text: str) -> None:
    """Put the section into a page, between its markers; a page that isn't there is made.

    Raises:
        InputError: a page without the markers.
    """
    page = path.read_text("utf-8") if path.exists() else f"{BEGIN}\n{END}\n"
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{path} has no section for this; write the lines {BEGIN} and {END} where it belongs.")
    with atomic_file(path) as partial:
        partial.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", "utf-8")


def _head(results: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    kept = "; ".join(f"{bucket} {_percent(share)}" for bucket, share in results["coverage"].items())
    lines = [
        f"Split `{results['split']}`: {_queries(results)}, a library of {results['library']:,} how-to clips. "
        f"{_seeds(results['seeds'])}. {results['date']}; {results['machine']}; {versions}.",
        "In per cent: mean ± standard deviation over seeds; in brackets a 95 % bootstrap interval over the ego clips' "
        "kitchens. *Verb*, *noun*: the right word; *noun if named*: of the queries whose noun another event's clip in the "
        "library names; *noun by verb*: the mean over verbs of each verb's noun accuracy; *sentence*: word for word. CIDEr "
        "and METEOR (×100) are of the texts without `#C C`, CIDEr's document frequencies of all queries' captions. The "
        "query's own event is never among its references; an oracle knows the query's verb and noun. The model that has "
        "learned the library has seen that clip too. How-to clips are learned with captions like those of ego clips "
        "(`#C C …`): of the library's, that tells that model more plainly what they show than retrieval is told.",
        f"Share of queries whose noun another event's clip in the library names; of the others it can't be read: {kept}.",
    ]
    lines += [f"{name} is left out: {why}" for name, why in results["missing metrics"].items()]
    return "\n\n".join(lines)


def _queries(results: Mapping[str, Any]) -> str:
    first = results.get("first events")
    return f"{results['queries']:,} queries" + (f" of its first {first:,} events" if first else "")


def _seeds(seeds: Sequence[int]) -> str:
    return f"Captioners of seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}, over one retriever"


def _main(results: Mapping[str, Any], scored: Mapping[tuple[str, str], Any], bucket: str) -> str:
    metrics = [name for name in results["metrics"] if name not in results["missing metrics"]]
    rows = [
        [
            NAMES[name],
            _score(cells["verb"]),
            _score(cells["noun"], interval=True),
            _score(cells[IF_NAMED]),
            _score(cells[BY_VERB]),
            _score(cells["sentence"]),
            *(_score(cells.get(metric, {}), interval=True) for metric in metrics),
        ]
        for name in ROWS
        if name in scored and (cells := scored[name].get(bucket))
    ]
    rows += [
        [
            f"*guess by the verb, from {source}*",
            "",
            _percent(guess["noun"]),
            "",
            _percent(guess[BY_VERB]),
            "",
            *[""] * len(metrics),
        ]
        for source, guess in results["guesses"][bucket].items()
    ]
    return _table(["", "verb", "noun", "noun if named", "noun by verb", "sentence", *metrics], rows)


def _gains(results: Mapping[str, Any], buckets: Sequence[str]) -> str:
    parts = []
    for condition, what in (
        (RETRIEVED, "four retrieved references have"),
        (LIKELIEST, "the likeliest of the captions with four retrieved references, with each alone, and with none has"),
    ):
        rows = []
        for name in ROWS:
            if kinds := results["gains"][condition].get(", ".join(name)):
                rows.append([NAMES[name], *(_difference(kinds["noun"].get(bucket)) for bucket in buckets)])
        parts.append(f"Points of noun accuracy that {what} over each other way; paired, 95 % over kitchens.")
        parts.append(_table(["over", *buckets], rows))
    return "\n\n".join(parts)


def _sweeps(scored: Mapping[tuple[str, str], Any], swept: Iterable[tuple[str, str]], buckets: Sequence[str]) -> str:
    names = NAMES | {(RETRIEVAL, RETRIEVED): "**all of it**"}
    rows = [[names[row], *(_score(scored[row][bucket]["noun"]) for bucket in buckets)] for row in swept]
    return f"Noun accuracy with four retrieved references.\n\n{_table(['library', *buckets], rows)}"


def _controls(results: Mapping[str, Any], buckets: Sequence[str]) -> str:
    shuffled, swapped = results["shuffled videos"], results[SWAPPED]
    rows: list[list[str]] = []
    for kind in ("verb", "noun"):
        scored = [shuffled.get(bucket, {}).get(kind, {}) for bucket in buckets]
        rows.append([f"another query's video: {kind}", *map(_score, scored)])
        rows.append([f"*another query's truth: {kind}*", *(_percent(cell.get("chance")) for cell in scored)])
    for name in next(iter(swapped.values())):
        rows.append([f"nouns swapped: {name}", *(_score(swapped[bucket][name]) for bucket in buckets)])
    text = (
        "Videos are shuffled within a bucket, over all pairs: retrieval and captioner see the other one. Swapped: each noun "
        "in the references' narrations is exchanged by another one."
    )
    return f"{text}\n\n{_table(['', *buckets], rows)}"


def _retriever(results: Mapping[str, Any], buckets: Sequence[str]) -> str:
    rows = []
    for bucket in buckets:
        for name, scores in results["retriever"].get(bucket, {}).items():
            cells = [
                f"{_score(scores[f'R@{k}'], interval=True)} / {_percent(scores[f'R@{k} by chance'])}" for k in (1, 5)
            ]
            rows.append([bucket, name, f"{scores['queries']} ({scores['left out']})", *cells])
    text = "Ego → exo, beside chance. Queries that nothing in the gallery answers are left out; their number is in brackets."
    return f"{text}\n\n{_table(['', 'an answer has', 'queries', 'R@1 / chance', 'R@5 / chance'], rows)}"


def _training(results: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{facts['steps']:,}" if "steps" in facts else "", _minutes(facts.get("seconds"))]
        for name, facts in results["training"].items()
    ]
    text = f"Captioning what was not there yet took {_minutes(results['captioning seconds'])} minutes."
    return f"{_table(['model and seed', 'steps', 'minutes'], rows)}\n\n{text}"


def _section(title: str, text: str) -> str:
    return f"### {title}\n\n{text}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _score(cell: Mapping[str, float], *, interval: bool = False) -> str:
    """`71.2 ± 1.3 [68.0, 74.1]`; nothing where nothing is known, no deviation where there is none."""
    if "mean" not in cell:
        return ""
    text = f"{100 * cell['mean']:.1f}"
    text += f" ± {100 * cell['sd']:.1f}" if cell.get("sd") else ""
    return f"{text} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]" if interval and "low" in cell else text


def _difference(cell: Mapping[str, float] | None) -> str:
    if cell is None:
        return ""
    return f"{100 * cell['value']:+.1f} [{100 * cell['low']:+.1f}, {100 * cell['high']:+.1f}]"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:.1f}"
