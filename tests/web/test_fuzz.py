"""Malformed requests made from the API's own document: each is answered, none with a fault of the server's."""

from __future__ import annotations

from contextlib import suppress

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = 40


@pytest.fixture(scope="module")
def api(toy, copy_of, short_videos, serving, tmp_path_factory):
    import httpx

    from egoinstructor import Captioner
    from egoinstructor.web.server import build_app
    from egoinstructor.web.service import Service

    captioner = Captioner(*toy)
    captioner.model.generation_config.max_new_tokens = 4
    service = Service(captioner, copy_of(tmp_path_factory.mktemp("fuzz") / "kitchen"))
    with serving(build_app(service, page=False), service) as server:
        video = httpx.post(f"{server.url}/v1/videos", content=short_videos["ego"].read_bytes()).json()["id"]
        yield server.url, video


def test_whatever_the_document_allows_and_more_is_no_fault(api):
    schemathesis = pytest.importorskip("schemathesis")
    import httpx
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis import GenerationMode

    url, video = api
    document = httpx.get(f"{url}/openapi.json").json()
    # Ids that exist, so that what lies behind the check of the id is reached too.
    for name in ("CaptionBody", "NarrateBody"):
        document["components"]["schemas"][name]["properties"]["video"] = {"type": "string", "enum": [video, "x"]}
    schema = schemathesis.openapi.from_dict(document)
    seen = {}

    def probe(label, cases):
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases)
        def send(case):
            answer = case.call(base_url=url, timeout=900)
            seen.setdefault(label, set()).add(answer.status_code)
            assert answer.status_code < 500, (label, answer.status_code, answer.text)
            if answer.status_code >= 400:
                assert answer.json()["error"].keys() == {"code", "message"}, label

        with suppress(Unsatisfiable):  # nothing of this route can be said wrongly
            send()

    for operation in (result.ok() for result in schema.get_all_operations()):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            probe(operation.label, operation.as_strategy(generation_mode=mode))
    assert httpx.get(f"{url}/v1/health").status_code == 200
    assert len(seen) == 11, seen
    assert any(200 in statuses for statuses in seen.values())
