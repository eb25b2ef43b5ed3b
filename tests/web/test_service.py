"""The service: right captions for the right clips, bounded in number, time and memory, and errors that tell no path."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from egoinstructor import Captioner, Clip, Reference
from egoinstructor.errors import InputError
from egoinstructor.library.records import Filter
from egoinstructor.narration.options import NarrationOptions
from egoinstructor.web.budget import Budget
from egoinstructor.web.errors import Busy, Forbidden, NotFound, ServiceError, TimedOut, TooLarge, Unavailable
from egoinstructor.web.limits import Limits
from egoinstructor.web.service import CaptionResult, Narration, OwnReference, Service

pytestmark = pytest.mark.usefixtures("in_process")


async def stream(path):
    yield Path(path).read_bytes()


async def send(service, path):
    return (await service.upload(stream(path), path.name)).id


def run(service, work):
    """A service for one piece of work."""

    async def whole():
        async with service:
            return await work(service)

    return asyncio.run(asyncio.wait_for(whole(), 120))


@pytest.fixture
def captioner(toy):
    captioner = Captioner(*toy)
    captioner.model.generation_config.max_new_tokens = 6
    return captioner


def test_captions_are_those_of_the_captioner_whoever_asks_at_the_same_time(captioner, library, short_videos):
    names = list(short_videos)

    async def work(service):
        ids = [await send(service, short_videos[name]) for name in names]
        return await asyncio.gather(*(service.caption(id, end=2.0, shots=2, num_beams=1) for id in ids))

    results = run(Service(captioner, library), work)
    for name, result in zip(names, results, strict=True):
        # From the file, where the library knows the clip's own video; the service has frames alone, and must know it too.
        expected = captioner.caption(short_videos[name], end=2.0, library=library, shots=2, num_beams=1)
        assert result.caption == expected.text
        assert [one.narration for one in result.references] == [one.narration for one in expected.references]
        assert result.score == pytest.approx(expected.score, abs=1e-4)
        assert [one.video for one in result.references] == [one.clip.video.name for one in expected.references]
        assert f"{name}.mp4" not in [one.video for one in result.references]


def test_references_are_those_that_the_caption_reads(captioner, library, short_videos):
    async def work(service):
        ego = await send(service, short_videos["ego"])
        found = await service.references(ego, shots=2)
        captioned = await service.caption(ego, shots=2)
        chosen = await service.caption(ego, references=[found[1].id])
        none = await service.caption(ego, references=())
        return found, captioned, chosen, none

    found, captioned, chosen, none = run(Service(captioner, library), work)
    assert tuple(found) == captioned.references
    assert [one.id for one in chosen.references] == [found[1].id]
    assert none.references == ()
    assert none.caption == captioner.caption(short_videos["ego"], num_beams=3).text
    (entry,) = library.entries([found[1].id])
    read = captioner.caption(
        short_videos["ego"], [Reference(library.path(entry), entry.text, entry.start, entry.end)], num_beams=3
    )
    assert chosen.caption == read.text


def test_own_references_come_first(captioner, library, short_videos):
    async def work(service):
        ego, own = [await send(service, short_videos[name]) for name in ("ego", "exo3")]
        return await service.caption(ego, shots=1, own=[OwnReference(own, "fold the towel", 1.0, 2.0)], num_beams=1)

    result = run(Service(captioner, library), work)
    first, second = result.references
    assert (first.narration, first.source, first.score, first.start) == ("fold the towel", "upload", None, 1.0)
    assert second.source == "howto"
    expected = captioner.caption(short_videos["ego"], library=library, shots=1, num_beams=1).references
    own = Reference(short_videos["exo3"], "fold the towel", 1.0, 2.0)
    assert result.caption == captioner.caption(short_videos["ego"], [own, *expected], num_beams=1).text


def test_a_stream_ends_with_the_greedy_caption(captioner, library, short_videos):
    async def work(service):
        ego = await send(service, short_videos["ego"])
        pieces = [piece async for piece in service.caption_stream(ego, shots=2)]
        return pieces, await service.caption(ego, shots=2, num_beams=1)

    (*texts, last), caption = run(Service(captioner, library), work)
    assert isinstance(last, CaptionResult)
    assert (last.caption, last.references) == (caption.caption, caption.references)
    assert texts
    assert all(isinstance(text, str) for text in texts)


def test_who_stops_listening_stops_the_writing(held_writer, short_videos):
    async def work(service):
        ego = await send(service, short_videos["ego"])
        pieces = service.caption_stream(ego)
        assert await anext(pieces) == "a"
        await pieces.aclose()
        held_writer.go.set()
        while not held_writer.closed:
            await asyncio.sleep(0.01)
        return service.present

    assert run(Service(held_writer, None), work) == 0


def test_batches_are_of_those_who_come_together(held_writer, short_videos):
    async def work(service):
        ids = [await send(service, short_videos[name]) for name in ("ego", "exo1", "exo2")]
        alone = asyncio.create_task(service.caption(ids[0]))
        await asyncio.to_thread(held_writer.at_work.wait, 60)
        others = [asyncio.create_task(service.caption(id)) for id in ids]
        while service._writing.waiting < 3:
            await asyncio.sleep(0.01)
        held_writer.go.set()
        first = await alone
        together = await asyncio.gather(*others)
        return first.caption, [one.caption for one in together]

    first, captions = run(Service(held_writer, None), work)
    assert held_writer.batches == [1, 3]
    assert captions[0] == first
    assert len(set(captions)) == 3


def test_beyond_the_queue_requests_are_refused_with_a_time(held_writer, short_videos):
    async def work(service):
        ego = await send(service, short_videos["ego"])
        waiting = [asyncio.create_task(service.caption(ego)) for _ in range(2)]
        await asyncio.to_thread(held_writer.at_work.wait, 60)
        with pytest.raises(Busy) as refused:
            await service.caption(ego)
        assert int(refused.value.headers["Retry-After"]) >= 1
        held_writer.go.set()
        await asyncio.gather(*waiting)
        assert service.present == 0
        await service.caption(ego)

    run(Service(held_writer, None, limits=Limits(queue=2)), work)


def test_a_request_has_its_time(held_writer, short_videos):
    async def work(service):
        ego = await send(service, short_videos["ego"])
        slow = asyncio.create_task(service.caption(ego))
        await asyncio.to_thread(held_writer.at_work.wait, 60)
        late = asyncio.create_task(service.caption(ego))
        for request in (slow, late):
            with pytest.raises(TimedOut, match="request_seconds"):
                await request
        held_writer.go.set()
        assert service.present == 0

    run(Service(held_writer, None, limits=Limits(request_seconds=0.3)), work)
    assert held_writer.batches == [1], "the second one cost nothing"


def test_closing_finishes_what_is_at_work_and_takes_no_more(held_writer, short_videos):
    async def work():
        service = Service(held_writer, None)
        ego = await send(service, short_videos["ego"])
        request = asyncio.create_task(service.caption(ego))
        await asyncio.to_thread(held_writer.at_work.wait, 60)
        closing = asyncio.create_task(service.__aexit__())
        await asyncio.sleep(0)
        for refused in (
            service.caption(ego),
            service.upload(stream(short_videos["ego"]), "x"),
            service.search(text="x"),
        ):
            with pytest.raises(Unavailable):
                await refused
        held_writer.go.set()
        await closing
        service.close()
        assert not service.uploads.folder.exists()
        return await request

    assert asyncio.run(asyncio.wait_for(work(), 60)).caption


def test_a_request_that_needs_too_many_bytes_of_frames_is_refused(writer, short_videos):
    size = 64 * 48 * 3

    async def work(service):
        ego = await send(service, short_videos["ego"])
        await service.caption(ego)
        with pytest.raises(TooLarge, match="frame_bytes"):
            await service.caption(ego, own=[OwnReference(ego, "x")] * 2)
        # Those that fit one after the other wait for one another.
        await asyncio.gather(*(service.caption(ego, own=[OwnReference(ego, "x")]) for _ in range(5)))

    run(Service(writer, None, limits=Limits(frame_bytes=8 * size)), work)


def test_search(captioner, library, short_videos):
    async def work(service):
        ego = await send(service, short_videos["exo2"])
        by_clip = await service.search(upload_id=ego, end=2.0, k=3)
        by_text = await service.search(text="stir the sauce", k=1, source="howto")
        return by_clip, by_text, await service.clip_file(by_clip[0].id), await service.clip_file("none")

    by_clip, by_text, file, none = run(Service(captioner, library), work)
    assert [by_clip[0].narration, by_text[0].narration] == ["cut the leek", "stir the sauce"]
    assert by_clip[0].score == pytest.approx(1.0, abs=1e-2)
    assert (by_clip[0].playable, file.name, none) == (True, "exo2.mp4", None)


def test_what_is_added_is_found_and_never_decoded_here(captioner, library, short_videos, tmp_path, monkeypatch):
    folder = tmp_path / "added"
    folder.mkdir()

    async def work(service):
        shelf = await send(service, short_videos["ego"])
        told = [Narration(0.0, 1.0, "wash the pan"), Narration(1.0, 3.0, "dry the pan")]
        report = await service.add_to_library(shelf, told)
        again = await service.add_to_library(shelf, told[:1])
        with pytest.raises(ServiceError, match="lasts 3.00 s"):
            await service.add_to_library(shelf, [Narration(2.0, 9.0, "x")])
        found = await service.search(text="dry the pan", k=1)
        ego = await send(service, short_videos["exo1"])
        monkeypatch.setattr("egoinstructor.captioners.clip_encoder.load_video", only_frames)
        return report, again, found, await service.caption(ego, references=report.clips, num_beams=1)

    import egoinstructor.captioners.clip_encoder

    decode = egoinstructor.captioners.clip_encoder.load_video

    def only_frames(source, **options):
        assert not isinstance(source, Path), source
        return decode(source, **options)

    report, again, found, captioned = run(Service(captioner, library, writable=folder), work)
    assert (report.added, again.added) == (2, 0)
    assert again.clips == report.clips[:1]
    assert found[0].id == report.clips[1]
    (file,) = folder.iterdir()
    assert file.read_bytes() == short_videos["ego"].read_bytes()
    assert file.suffix == ".mp4"
    assert [one.narration for one in captioned.references] == ["wash the pan", "dry the pan"]
    (vector,) = library.vectors([report.clips[0]])
    expected = library.retriever.encode_video([Clip(short_videos["ego"], 0.0, 1.0)])[0]
    assert float(vector @ expected) == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("limit", ["additions", "additions_bytes"])
def test_additions_are_bounded_and_what_is_there_takes_no_room(
    captioner, library, short_videos, tmp_path, monkeypatch, limit
):
    folder = tmp_path / "added"
    folder.mkdir()
    size = short_videos["ego"].stat().st_size
    limits = Limits(**{limit: {"additions": 2, "additions_bytes": size}[limit]})
    narrations = [Narration(0.0, 1.0, "wash the pan"), Narration(1.0, 2.0, "dry the pan")]

    async def work(service):
        first = await send(service, short_videos["ego"])
        report = await service.add_to_library(first, narrations)
        again = await service.add_to_library(first, narrations)
        monkeypatch.delattr("egoinstructor.web.additions.look")  # it is refused before anything is made of it
        with pytest.raises(ServiceError, match=rf"at most .* \(limit {limit}\)") as refused:
            await service.add_to_library(await send(service, short_videos["exo1"]), narrations[:1])
        return report.added, again.added, refused.value

    added, again, refused = run(Service(captioner, library, writable=folder, limits=limits), work)
    assert (added, again) == (2, 0)
    assert (refused.status, refused.code) == (413, f"limit_{limit}")
    assert sum(file.stat().st_size for file in folder.iterdir()) == size
    assert library.count(Filter(sources=("uploads",))) == 2


def test_room_for_additions_is_looked_at_again_when_they_are_written(captioner, library, short_videos, tmp_path):
    """Two requests may both have found room for the last clip."""
    folder = tmp_path / "added"
    folder.mkdir()

    async def work(service):
        uploads = [await send(service, short_videos[name]) for name in ("ego", "exo1", "exo2")]
        adding = (service.add_to_library(upload, [Narration(0.0, 1.0, "wash the pan")]) for upload in uploads)
        return await asyncio.gather(*adding, return_exceptions=True)

    told = run(Service(captioner, library, writable=folder, limits=Limits(additions=1)), work)
    refused = [one for one in told if isinstance(one, ServiceError)]
    assert [one.code for one in refused] == ["limit_additions"] * 2
    assert library.count(Filter(sources=("uploads",))) == 1
    assert len(list(folder.iterdir())) == 1


def test_a_library_is_read_only_unless_it_is_said(writer, library, short_videos, tmp_path):
    async def work(service):
        with pytest.raises(Forbidden, match="read-only"):
            await service.add_to_library(await send(service, short_videos["ego"]), [Narration(0, 1, "x")])

    run(Service(writer, library), work)
    with pytest.raises(InputError, match="is not a folder"):
        Service(writer, library, writable=tmp_path / "none")
    with pytest.raises(InputError, match="there is none"):
        Service(writer, None, writable=tmp_path)


BAD = {
    "an unknown upload": (lambda s, ego: s.caption("x" * 22), "no such video"),
    "an id that is a path": (lambda s, ego: s.caption("../../etc/passwd"), "no such video"),
    "a start after the end": (lambda s, ego: s.caption(ego, start=2.0, end=1.0), "before the end"),
    "a start past the end": (lambda s, ego: s.caption(ego, start=9.0), "lasts 3.00 s"),
    "a start that is no number": (lambda s, ego: s.caption(ego, start=float("nan")), "0 or more"),
    "too many shots": (lambda s, ego: s.caption(ego, shots=17), "between 0 and 16"),
    "no beams": (lambda s, ego: s.caption(ego, num_beams=0), "between 1 and 8"),
    "an unknown reference": (lambda s, ego: s.caption(ego, references=["none"]), "no such clip"),
    "an own reference without words": (lambda s, ego: s.caption(ego, own=[OwnReference(ego, " ")]), "in words"),
    "an own reference that is gone": (
        lambda s, ego: s.caption(ego, own=[OwnReference("y" * 22, "x")]),
        "no such video",
    ),
    "nothing to search by": (lambda s, ego: s.search(), "nothing to search by"),
    "an unknown source": (lambda s, ego: s.search(text="x", source="none"), "the library has howto"),
    "too many hits": (lambda s, ego: s.search(text="x", k=101), "between 1 and 100"),
    "a long text": (lambda s, ego: s.search(text="x" * 1001), "1001 characters"),
    "times of nothing": (lambda s, ego: s.search(text="x", start=1.0), "none was named"),
    "no references asked for": (lambda s, ego: s.references(ego, shots=0), "between 1 and 16"),
}


def test_bad_requests_say_what_is_wrong_and_no_path(captioner, library, short_videos, tmp_path):
    async def work(service):
        ego = await send(service, short_videos["ego"])
        told = {}
        for name, (request, _) in BAD.items():
            with pytest.raises(ServiceError) as refused:
                await request(service, ego)
            told[name] = refused.value
        assert service.present == 0
        return told

    for name, error in run(Service(captioner, library), work).items():
        assert BAD[name][1] in error.message, name
        assert 400 <= error.status < 500, name
        assert str(tmp_path) not in error.message, name
        assert "egoinstructor-uploads" not in error.message, name


def test_a_library_that_breaks_is_told_without_its_place(writer, library, short_videos, tmp_path):
    async def work(service):
        shutil.rmtree(tmp_path / "kitchen" / "library" / "clips.lance")
        with pytest.raises(ServiceError) as broken:
            await service.search(text="stir")
        return broken.value.message

    assert str(tmp_path) not in run(Service(writer, library), work)


def test_without_a_library(writer, short_videos):
    async def work(service):
        ego = await send(service, short_videos["ego"])
        assert (await service.caption(ego)).references == ()
        for request in (service.search(text="x"), service.references(ego), service.caption(ego, references=["x"])):
            with pytest.raises(NotFound) as refused:
                await request
            assert refused.value.code == "no_library"
        assert await service.clip_file("x") is None

    run(Service(writer, None), work)


def test_narration(captioner, library, short_videos, tmp_path):
    async def work(service):
        ego = await send(service, short_videos["ego"])
        for options, reason in (
            (NarrationOptions(cut="changes"), "fixed length"),
            (NarrationOptions(threshold=0.5), "calibrated"),
            (NarrationOptions(start=9.0), "lasts 3.00 s"),
            (NarrationOptions(shots=99), "shots"),
        ):
            with pytest.raises(ServiceError, match=reason):
                service.start_narration(ego, options)
        options = NarrationOptions(seconds=1.0, shots=0, num_beams=1, max_new_tokens=6, merge=False)
        job = service.start_narration(ego, options)
        while not job.over:
            await asyncio.sleep(0.01)
        assert service.job(job.id) is job
        service.uploads.remove(ego)  # which it no longer holds
        return job

    job = run(Service(captioner, library), work)
    assert (job.state, job.progress, job.error) == ("done", 1.0, "")
    assert [(one.start, one.end) for one in job.segments] == [(0, 1), (1, 2), (2, 3)]
    first = captioner.caption(short_videos["ego"], start=0.0, end=1.0, num_beams=1)
    assert job.segments[0].caption == first.text
    assert job.srt().startswith("1\n00:00:00,000 --> 00:00:01,000\n")
    assert job.vtt().startswith("WEBVTT")
    assert len(job.jsonl().splitlines()) == 3
    assert str(tmp_path) not in job.jsonl()


def test_narrations_wait_their_turn_and_can_be_cancelled(captioner, short_videos, monkeypatch):
    go, at_work = threading.Event(), threading.Event()
    write = captioner.caption_batch

    def held(queries, **options):
        at_work.set()
        assert go.wait(60)
        return write(queries, **options)

    monkeypatch.setattr(captioner, "caption_batch", held)

    async def work(service):
        ego = await send(service, short_videos["ego"])
        options = NarrationOptions(seconds=1.0, batch_size=1, num_beams=1, max_new_tokens=4)
        running = service.start_narration(ego, options)
        assert await asyncio.to_thread(at_work.wait, 60)
        waiting = service.start_narration(ego, options)
        assert (running.state, waiting.state) == ("running", "queued")
        assert service.cancel(waiting.id).state == "cancelled"
        service.cancel(running.id)
        go.set()
        while not running.over:
            await asyncio.sleep(0.01)
        assert (running.state, len(running.segments)) == ("cancelled", 1), "what was said stays"
        with pytest.raises(NotFound):
            service.job("x" * 22)
        assert service.job_counts()["cancelled"] == 2

    run(Service(captioner, None), work)


def test_budget_is_kept_in_order_and_whoever_gives_up_takes_nothing():
    async def work():
        budget, order = Budget(10), []

        async def take(name, amount):
            async with budget.take(amount):
                order.append(name)
                assert budget.taken <= 10
                await asyncio.sleep(0)

        async with budget.take(8):
            large = asyncio.create_task(take("large", 6))
            small = asyncio.create_task(take("small", 1))
            gone = asyncio.create_task(take("gone", 2))
            await asyncio.sleep(0)
            assert order == [], "the small one doesn't overtake"
            gone.cancel()
        await asyncio.gather(large, small, gone, return_exceptions=True)
        assert gone.cancelled()
        assert (order, budget.taken) == (["large", "small"], 0)

    asyncio.run(work())


def test_who_gives_up_in_the_turn_in_which_others_give_back_breaks_nothing():
    async def work():
        budget = Budget(1)

        async def take():
            async with budget.take(1):
                pass

        async with budget.take(1):
            waiting = asyncio.create_task(take())
            await asyncio.sleep(0)
            waiting.cancel()  # it has not run since, and still stands in line
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert budget.taken == 0
        await take()

    asyncio.run(work())
