"""A client of `egoinstructor serve`: videos are sent, captions come back. It needs httpx, and nothing of the models.

    with Client("http://127.0.0.1:8000") as client:
        video = client.upload("ego.mp4")
        print(client.caption(video.id, start=2, end=4).caption)

Every error is a `ClientError` with the server's message.
"""

from egoinstructor.client.client import Client, ClientError
from egoinstructor.client.records import CaptionResult, FoundClip, Health, Narration, OwnReference, Video

__all__ = ["CaptionResult", "Client", "ClientError", "FoundClip", "Health", "Narration", "OwnReference", "Video"]
