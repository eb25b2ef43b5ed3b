"""The library at scale, beside faiss, in one run: ingest, disk, build, latency, recall, memory.

Vectors are clustered: a thousand random centres of length 1; a vector is a centre plus isotropic noise of length 0.8,
scaled to length 1. Vectors of a cluster have cosines of about 0.6, their ten nearest barely differ from the next, and no
direction is emptier than another: harder for codes than what networks embed. Queries are new draws, not stored vectors.

    python benchmarks/library.py --rows 100000 --folder SCRATCH

Every engine gets the same vectors and queries, one at a time; recall@10 is against fp32 products of the unrounded
vectors. The library's times are those of `ExoLibrary.search`, from the vector to the clips with their metadata; faiss
gives row numbers, and holds everything in memory. `pip install faiss-cpu` first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry, Filter
from egoinstructor.retriever.interface import Retriever, RetrieverIdentity

WIDTH, CLUSTERS, NOISE, BATCH, K = 768, 1000, 0.8, 10_000, 10


class NoRetriever(Retriever):
    """Its identity is all that a library of given vectors needs."""

    identity = RetrieverIdentity("clustered noise", "0", WIDTH, "none", 1, "segment_center")

    def encode_video(self, clips, view="exo"):
        raise NotImplementedError

    def encode_text(self, texts):
        raise NotImplementedError


def draw(count: int, seed: int) -> np.ndarray:
    """Unit vectors `(N, D)` in fp32."""
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, WIDTH), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, WIDTH), dtype=np.float32) * (NOISE / WIDTH**0.5)
    vectors = centres[random.integers(0, CLUSTERS, count)] + noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clip(row: int) -> ClipEntry:
    return ClipEntry(f"{row // 100:06d}.mp4", row % 100 * 4.0, row % 100 * 4.0 + 4, "", "bench", f"{row // 100:032x}")


def truth_of(queries: np.ndarray, rows: int, half: bool) -> np.ndarray:
    """Row numbers of the nearest `(Q, K)`, of vectors in fp32 or rounded to fp16."""
    best = np.zeros((len(queries), 0), np.float32)
    names = np.zeros((len(queries), 0), np.int64)
    for first in range(0, rows, BATCH):
        vectors = draw(min(BATCH, rows - first), 1 + first)
        vectors = vectors.astype(np.float16).astype(np.float32) if half else vectors
        best = np.concatenate([best, queries @ vectors.T], 1)
        names = np.concatenate(
            [names, np.broadcast_to(np.arange(first, first + len(vectors)), (len(queries), len(vectors)))], 1
        )
        order = np.argsort(-best, 1)[:, :K]
        best, names = np.take_along_axis(best, order, 1), np.take_along_axis(names, order, 1)
    return names


def measure(search: Callable[[np.ndarray], list[int]], queries: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Latency and recall of single queries."""
    search(queries[0])
    times, hits = [], 0
    for query, right in zip(queries, truth, strict=True):
        start = time.perf_counter()
        found = search(query)
        times.append(1000 * (time.perf_counter() - start))
        hits += len(set(found) & set(right.tolist()))
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "recall": hits / truth.size}


def row_of(entry: ClipEntry) -> int:
    return int(entry.video_digest, 16) * 100 + int(entry.start / 4)


def searcher(library: ExoLibrary, **options: object) -> Callable[[np.ndarray], list[int]]:
    return lambda query: [row_of(h.entry) for h in library.search(torch.from_numpy(query), k=K, **options)]


def memory() -> dict[str, float]:
    """What this process holds of its own, and at most held with mapped files, in MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(status[name].split()[0]) / 1000 for name in ("RssAnon", "VmHWM")}


def library_run(folder: Path, rows: int, queries: np.ndarray, truth: np.ndarray) -> dict[str, dict]:
    library = ExoLibrary.create(folder, NoRetriever(), exact_rows=min(200_000, rows - 1))
    library.add_source("bench", "videos")
    spent = 0.0
    for first in range(0, rows, BATCH):
        vectors = torch.from_numpy(draw(min(BATCH, rows - first), 1 + first))
        start = time.perf_counter()
        library.add([clip(row) for row in range(first, first + len(vectors))], vectors)
        spent += time.perf_counter() - start
    say("library: ingest", {"rows_per_s": rows / spent, "last_batch_s": time.perf_counter() - start})
    raw = library.stats().bytes or 0
    start = time.perf_counter()
    facts = library.optimize()["video_vector"]
    built = time.perf_counter() - start
    size = library.stats().bytes or 0
    say("library: index", {"build_s": built, "raw_MB": raw / 1e6, "with_index_MB": size / 1e6, "nprobes": facts.nprobes,
                           "oversample": facts.oversample, "own_check": facts.recall})  # fmt: skip
    exact = ExoLibrary.open(folder, exact_rows=1_000_000_000 if rows <= 200_000 else 0)
    few = slice(0, len(queries) if rows <= 200_000 else 10)
    results = {"exact": measure(searcher(exact, exact=True), queries[few], truth[few])}
    say("library: exact", results["exact"])
    results["index"] = measure(searcher(library), queries, truth)
    say("library: index", results["index"])
    one = Filter(min_seconds=1.0)
    results["filtered"] = measure(searcher(library, where=one), queries, truth)
    say("library: index under a filter that all pass", results["filtered"])
    probe = [sys.executable, __file__, "--memory-of", str(folder), "--rows", str(rows)]
    say(
        "library: memory of a process that searches",
        json.loads(subprocess.run(probe, check=True, capture_output=True, text=True).stdout),
    )
    return results


def memory_run(folder: Path, rows: int) -> None:
    """Memory before and after 200 searches by index."""
    library = ExoLibrary.open(folder, exact_rows=0)
    before = memory()
    queries = draw(400, 99)
    for query in queries[:200]:
        library.search(torch.from_numpy(query), k=K)
    middle = memory()
    for query in queries[200:]:
        library.search(torch.from_numpy(query), k=K)
    after = memory()
    held = {"opened_MB": before["RssAnon"], "200_searches_MB": middle["RssAnon"], "400_searches_MB": after["RssAnon"]}
    print(json.dumps(held | {"peak_with_mapped_MB": after["VmHWM"]}))


def faiss_run(rows: int, queries: np.ndarray, truth: np.ndarray, engines: list[str], scratch: Path) -> dict[str, dict]:
    """Each index with the cheapest setting that finds 95 %, or the last."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    vectors = np.concatenate([draw(min(BATCH, rows - first), 1 + first) for first in range(0, rows, BATCH)])
    partitions = max(rows // 1000, 64)
    coarse = faiss.IndexFlatIP(WIDTH)
    product = faiss.IndexIVFPQ(coarse, WIDTH, partitions, 96, 8, faiss.METRIC_INNER_PRODUCT)
    product.cp.max_points_per_centroid = 64  # as the library's
    made: dict[str, tuple[object, list[dict[str, int]]]] = {
        "flat": (faiss.IndexFlatIP(WIDTH), [{}]),
        "ivf-pq96, refined": (
            faiss.IndexRefineFlat(product),
            [{"nprobe": p, "k_factor": f} for f in (4, 16, 64) for p in (4, 16, 64)],
        ),
        "hnsw32": (
            faiss.IndexHNSWFlat(WIDTH, 32, faiss.METRIC_INNER_PRODUCT), [{"efSearch": e} for e in (16, 32, 64, 128, 256)]
        ),
    }  # fmt: skip
    results = {}
    for name, (index, settings) in made.items():
        if name.split("-")[0].rstrip("0123456789") not in engines:
            continue
        start = time.perf_counter()
        if not index.is_trained:
            index.train(vectors[: max(64 * partitions, 20_000)])
        index.add(vectors)
        built = time.perf_counter() - start
        for setting in settings:
            if "efSearch" in setting:
                index.hnsw.efSearch = setting["efSearch"]
            if "nprobe" in setting:
                product.nprobe, index.k_factor = setting["nprobe"], setting["k_factor"]
            found = measure(lambda query, index=index: index.search(query[None], K)[1][0].tolist(), queries, truth)
            if found["recall"] >= 0.95:
                break
        faiss.write_index(index, str(scratch))
        results[name] = {"build_s": built, "MB": scratch.stat().st_size / 1e6, **setting, **found}
        scratch.unlink()
        say(f"faiss: {name}", results[name])
        index.reset()
    return results


def say(what: str, values: dict) -> None:
    shown = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
    print(f"{what}: {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="scratch for the library; it is emptied")
    parser.add_argument("--engines", nargs="+", default=["library", "flat", "ivf", "hnsw"])
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        memory_run(options.memory_of, options.rows)
        return
    queries = draw(options.queries, 7)
    truth = truth_of(queries, options.rows, half=False)
    half = truth_of(queries, options.rows, half=True)
    same = sum(len(set(a) & set(b)) for a, b in zip(truth.tolist(), half.tolist(), strict=True)) / truth.size
    say(f"{options.rows:,} rows x {WIDTH}, {torch.get_num_threads()} thread(s)", {"fp16_recall": same})
    results: dict[str, dict] = {}
    if "library" in options.engines:
        shutil.rmtree(options.folder, ignore_errors=True)
        results |= library_run(options.folder, options.rows, queries, truth)
    scratch = options.folder.with_suffix(".faiss")
    others = faiss_run(options.rows, queries, truth, options.engines, scratch)
    for name, found in others.items():
        for kind in ("exact", "index") if results else ():
            say(f"p50 of the library's {kind} / faiss {name}", {"ratio": results[kind]["p50_ms"] / found["p50_ms"]})


if __name__ == "__main__":
    main()
