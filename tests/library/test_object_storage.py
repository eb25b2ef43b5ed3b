"""The same library on object storage: S3 as moto plays it."""

from __future__ import annotations

import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from moto.server import ThreadedMotoServer

from egoinstructor.errors import InputError
from egoinstructor.library.library import ExoLibrary

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch):
    """An empty bucket's URI."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT")).close()
    yield "s3://bucket"
    server.stop()


def test_a_library_on_object_storage(bucket, toy_retriever, clips):
    with pytest.raises(InputError, match="is not a library"):
        ExoLibrary.open(f"{bucket}/howto")
    library = ExoLibrary.create(f"{bucket}/howto", toy_retriever)
    with pytest.raises(InputError, match="is a library already"):
        ExoLibrary.create(f"{bucket}/howto", toy_retriever)
    for name in "st":
        library.add_source(name, "/videos")
    entries, video, narration = clips(60)

    def add(rows: range) -> int:
        own = ExoLibrary.open(library.uri)
        parts = [slice(first, first + 10) for first in rows[::10]]
        return sum(own.add(entries[part], video[part], narration[part]) for part in parts)

    with ThreadPoolExecutor() as pool:  # without a lock: the storage itself refuses the second commit of a version
        assert sum(pool.map(add, [range(60), range(60)])) == 60
    assert len(library) == 60
    assert library.search(video[4], k=1, narration_weight=0.3)[0].entry == entries[4]
    library.put_latents({entries[0].id: torch.ones(2, 3)}, "captioner")
    assert library.optimize() == {}
    assert library.verify().ok
    assert library.delete(source="t") == len([entry for entry in entries if entry.source == "t"])
    assert library.latents([entries[0].id], "captioner").keys() == {entries[0].id}


def test_a_bucket_that_is_not_there(bucket, toy_retriever):
    with pytest.raises(InputError, match="Check the URI, the credentials and the connection"):
        ExoLibrary.create("s3://nowhere/howto", toy_retriever)
