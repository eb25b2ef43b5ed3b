"""Signing in to the page with the server's token."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

from fastapi import FastAPI  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from egoinstructor.web.login import COOKIE, is_signed_in, login_page  # noqa: E402

TOKEN = "a-token-of-some-length"


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(login_page(TOKEN))
    return TestClient(app, follow_redirects=False)


def test_the_token_is_asked_for_and_gives_a_cookie_that_scripts_cannot_read(client: TestClient) -> None:
    assert 'type="password"' in client.get("/login").text
    answer = client.post("/login", data={"token": f" {TOKEN} "})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert is_signed_in({COOKIE: answer.cookies[COOKIE]}, TOKEN)


@pytest.mark.parametrize("told", ["", "wrong", TOKEN[:-1], TOKEN + "x", "ü" * 20])
def test_another_token_is_refused(client: TestClient, told: str) -> None:
    answer = client.post("/login", data={"token": told})
    assert (answer.status_code, "set-cookie" in answer.headers) == (303, False)
    assert 'role="alert"' in client.get(answer.headers["location"]).text


def test_a_form_that_is_too_long_is_refused(client: TestClient) -> None:
    answer = client.post("/login", content=b"token=" + b"x" * 10_000 + TOKEN.encode())
    assert (answer.status_code, "set-cookie" in answer.headers) == (303, False)


@pytest.mark.parametrize("cookie", ["", "x", TOKEN, "ü"])
def test_another_cookie_does_not_sign_in(cookie: str) -> None:
    assert not is_signed_in({COOKIE: cookie}, TOKEN)
    assert not is_signed_in({}, TOKEN)


def test_the_cookie_of_another_token_does_not_sign_in(client: TestClient) -> None:
    answer = client.post("/login", data={"token": TOKEN})
    assert not is_signed_in({COOKIE: answer.cookies[COOKIE]}, TOKEN + "2")
