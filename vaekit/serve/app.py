"""The routes of the service, and what stands before them: the token, the limits and the log."""

import asyncio
import hmac
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from vaekit import __version__
from vaekit.serve import logs
from vaekit.serve.batching import Job
from vaekit.serve.bodies import Body
from vaekit.serve.openapi import document, facts
from vaekit.serve.questions import QUESTIONS
from vaekit.serve.refusal import Refusal
from vaekit.serve.served import Fleet, Served

OPEN = ("/health", "/ready")
"""Paths that ask for no token."""
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_UNKNOWN = "-"  # in metrics and logs, for paths that name no model: they may hold anything


class State:
    """What the routes share.

    Args:
        fleet: the models.
        token: what requests have to bring; None asks for none.

    Attributes:
        ends: whether the service is on its way out: it is not ready, and asks for no connection to be kept.
    """

    def __init__(self, fleet: Fleet, token: str | None = None) -> None:
        self.fleet, self.ends = fleet, False
        self._token = None if token is None else token.encode()
        self.numbers = itertools.count(1)

    @property
    def has_token(self) -> bool:
        """Whether requests have to bring one."""
        return self._token is not None

    def admit(self, request: Request) -> None:
        """Raise a `Refusal` unless the request has the token."""
        if self._token is None or request.url.path in OPEN:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        if scheme.lower() != "bearer" or not is_right:
            reason = "the token is missing or wrong; send the header Authorization: Bearer TOKEN"
            raise Refusal(401, reason, headers={"WWW-Authenticate": "Bearer"})


def make_app(fleet: Fleet, token: str | None = None) -> FastAPI:
    """The application.

    Args:
        fleet: the models.
        token: see `State`.
    """
    state = State(fleet, token)
    app = FastAPI(title="vaekit", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = state
    app.add_exception_handler(HTTPException, _of_starlette)
    for path, answer in (
        ("/health", _health),
        ("/ready", _ready),
        ("/metrics", _metrics),
        ("/openapi.json", _openapi),
        ("/v1/models", _models),
    ):
        app.add_api_route(path, _answered(state, answer), methods=["GET"])
    app.add_api_route("/v1/models/{name}/{question}", _answered(state, _question), methods=["POST"])
    return app


_Route = Callable[[State, Request], Awaitable[Response]]


def _answered(state: State, route: _Route) -> Callable[[Request], Awaitable[Response]]:
    """A route whose refusals are responses."""

    async def answer(request: Request) -> Response:
        try:
            state.admit(request)
            response = await route(state, request)
        except Refusal as refusal:
            if refusal.status == 401:
                logs.say("refused", status=401)
            response = _refused(refusal)
        if state.ends:
            response.headers["connection"] = "close"
        return response

    return answer


def _refused(refusal: Refusal) -> Response:
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _of_starlette(request: Request, error: Exception) -> Response:
    """Paths and methods that there are not."""
    assert isinstance(error, HTTPException)
    reason = {404: "there is no such path; see /openapi.json", 405: "the path has other methods"}
    refusal = Refusal(error.status_code, reason.get(error.status_code, str(error.detail)))
    return JSONResponse(refusal.body, error.status_code, dict(error.headers or {}))


# --- Routes ----------------------------------------------------------------------------------------------------------


async def _health(state: State, request: Request) -> Response:
    return JSONResponse({"status": "alive"})


async def _ready(state: State, request: Request) -> Response:
    if state.ends:
        raise Refusal(503, "the service ends; ask another one")
    return JSONResponse({"status": "ready"})


async def _metrics(state: State, request: Request) -> Response:
    return Response(await asyncio.to_thread(state.fleet.metrics.text), media_type=_METRICS)


async def _openapi(state: State, request: Request) -> Response:
    runs = {name: model.run for name, model in state.fleet.models.items()}
    return JSONResponse(document(runs, state.fleet.limits, has_token=state.has_token))


async def _models(state: State, request: Request) -> Response:
    return JSONResponse({"models": [facts(name, model.run) for name, model in state.fleet.models.items()]})


async def _question(state: State, request: Request) -> Response:
    """A question about rows: counted and logged, whatever becomes of it."""
    started, number = time.perf_counter(), next(state.numbers)
    model = state.fleet.models.get(request.path_params["name"])
    asked = request.path_params["question"]
    names = _UNKNOWN if model is None else model.name, asked if asked in QUESTIONS else _UNKNOWN
    about: dict[str, Any] = {"request": number, "model": names[0], "question": names[1]}
    status = 500
    try:
        if model is None:
            known = ", ".join(state.fleet.models)
            raise Refusal(404, f"there is no such model; there are {known}")
        if asked not in QUESTIONS:
            raise Refusal(404, f"there is no such question; there are {', '.join(QUESTIONS)}")
        response, more = await _asked(state, request, model, asked)
        about, status = about | more, 200
        return response
    except Refusal as refusal:
        status = refusal.status
        raise
    finally:
        state.fleet.metrics.asked(*names, status, started)
        logs.say("request", **about, status=status, ms=round(1e3 * (time.perf_counter() - started), 2))


async def _asked(state: State, request: Request, model: Served, name: str) -> tuple[Response, dict[str, Any]]:
    """The answer of a model, and what the log says of it."""
    question, limits = QUESTIONS[name], state.fleet.limits
    model.worker.check_room()  # before the body is read: to refuse costs little
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    content = await _content(request, limits.body, limits.body_seconds)
    body = Body(media, content, tuple(request.query_params.multi_items()))
    job = Job(question, body, asyncio.get_running_loop())
    model.worker.submit(job)
    try:
        reply = await asyncio.wait_for(job.reply, limits.seconds)
    except TimeoutError:
        job.given_up = True
        raise Refusal(504, f"no answer within {limits.seconds:g} s; ask about fewer rows or draws") from None
    state.fleet.metrics.answered(model.name, name, reply.num_rows, reply.num_doubtful)
    response = Response(reply.content, media_type="application/json")
    return response, {"rows": reply.num_rows, "together": reply.num_together}


async def _content(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request, of bounded size, in bounded time."""
    refusal = Refusal(413, f"a body has at most {most:,} bytes. Send the rows in parts.")
    said = request.headers.get("content-length", "0")
    if said.isdigit() and int(said) > most:
        raise refusal
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise refusal
                parts.append(part)
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {seconds:g} s") from None
    except ClientDisconnect:
        raise Refusal(400, "the connection ended before the body did") from None
    return b"".join(parts)
