"""The server: who may talk to it, how much, and which message goes where.

The model is shared by all pages. Drums are played one message after the other, and on a CPU the bars of jams
beside them, so that a long take makes no bar late; on a GPU, of which the captured steps are one for all, in
turn with them.
"""

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketClose, WebSocketDisconnect

from utils.files import json_text
from utils.midi.read import MAX_BYTES
from utils.midi.sound import one_shots
from utils.studio import work
from utils.studio.jamming import DIALS, Session

PAGE = Path(__file__).resolve().parents[2] / "studio"
HOSTS = "127.0.0.1", "localhost", "::1"
MOST_BODY = MAX_BYTES * 4 // 3 + (1 << 20)  # a file in base64, and hits
MOST_MESSAGE = 1 << 20  # of a jam
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; connect-src 'self' ws:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
UNKNOWN = "something went wrong here; the terminal that runs studio.py says what"


class TooLarge(ValueError):
    """A body that is larger than is read."""


class Guard:
    """Lets this machine's own pages in alone: the Host must name this machine (so that no name of another
    site can be made to mean it), and an Origin, which browsers send with whatever a page asks for, must be
    this very server. Its answers may load nothing from elsewhere, nor stand in a frame."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def with_headers(message):
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        if scope["type"] not in ("http", "websocket") or self.is_own(scope):
            return await self.app(scope, receive, with_headers)
        no = WebSocketClose(1008) if scope["type"] == "websocket" else None
        no = no or PlainTextResponse("this server talks to pages of its own alone", 403)
        await no(scope, receive, send)

    def is_own(self, scope):
        found = {}
        for name, value in scope["headers"]:
            found.setdefault(name, []).append(value.decode("latin-1"))
        hosts, origins = found.get(b"host", []), found.get(b"origin", [])
        if len(hosts) != 1 or host_of(f"//{hosts[0]}") not in HOSTS:
            return False
        return not origins or origins == [f"http://{hosts[0]}"]


def host_of(address):
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def make_app(model, checkpoint=None, soundfont=None, sounds=None):
    """The Starlette application for a model, of which checkpoint is the file, None: the shipped one.
    soundfont: a .sf2 file, or None. sounds: as one_shots gives them, rendered where left out. What is made
    once is there for the first click: the model plays already, in the thread that will."""
    playing = ThreadPoolExecutor(1, "play")
    warming = playing.submit(work.warm, model)
    sounds = sounds or one_shots(soundfont=soundfont)
    warming.result()
    about = work.about(model) | {"sounds": {voice: [*layers] for voice, layers in sounds.items()}}
    about["dials"] = DIALS
    on_cpu = next(model.parameters()).device.type == "cpu"
    jamming = ThreadPoolExecutor(1, "jam") if on_cpu else playing

    async def shot(request):
        voice, velocity = (request.path_params[name] for name in ("voice", "velocity"))
        if velocity not in sounds.get(voice, ()):
            raise HTTPException(404)
        return Response(sounds[voice][velocity], media_type="audio/wav")

    async def hear(request):
        data, asked = await body_of(request), request.query_params
        heard = partial(work.hear_file, data, asked.get("name", ""), asked.get("track") or None)
        return in_json(await on(playing, heard, asked.get("as") == "drums"))

    async def play(request):
        return in_json(await on(playing, work.play_message, model, parse(await body_of(request)), checkpoint))

    async def save(request):
        kind = request.path_params["kind"]
        if kind not in ("mid", "wav", "rhythm"):
            raise ValueError(f"{kind}: a take is saved as mid, wav or rhythm")
        data = await on(playing, work.file_of, model, parse(await body_of(request)), kind, soundfont)
        return Response(data, media_type="audio/wav" if kind == "wav" else "audio/midi")

    async def jam(socket):
        await socket.accept()
        session = Session(model)
        while True:
            try:
                answer = await on(jamming, session.answer, parse(await text_of(socket)))
            except WebSocketDisconnect:
                return
            except Exception as error:
                answer = {"type": "error", "error": sentence(error)}
            try:
                await socket.send_text(json_text(answer))
            except (WebSocketDisconnect, RuntimeError):  # it has gone meanwhile
                return

    return Starlette(
        routes=[
            Route("/api/about", lambda request: in_json(about)),
            Route("/api/sounds/{voice}/{velocity:int}.wav", shot),
            Route("/api/hear", hear, methods=["POST"]),
            Route("/api/play", play, methods=["POST"]),
            Route("/api/save/{kind}", save, methods=["POST"]),
            WebSocketRoute("/api/jam", jam),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(Guard)],
        exception_handlers={ValueError: failed, ClientDisconnect: failed, Exception: failed},
    )


async def on(executor, function, *arguments):
    return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)


async def body_of(request):
    """The body, as bytes. Raises TooLarge."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BODY:
            raise TooLarge(f"that is too large: a MIDI file has at most {MAX_BYTES >> 20} MiB")
    return bytes(data)


async def text_of(socket):
    """The next message of a WebSocket, text or bytes."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1000)
    return message.get("text") or message.get("bytes") or ""


def parse(text):
    """JSON, strictly. Raises ValueError."""

    def no(constant):
        raise ValueError

    try:
        return json.loads(text, parse_constant=no)
    except (ValueError, RecursionError):
        raise ValueError("a message must be JSON") from None


def in_json(value, status=200):
    return Response(json_text(value), status, media_type="application/json")


def sentence(error):
    """What to say of an error; one that nobody foresaw is for the terminal."""
    if isinstance(error, ValueError):
        return str(error)
    logging.getLogger("uvicorn.error").error("a message failed", exc_info=error)
    return UNKNOWN


async def failed(request, error):
    expected = isinstance(error, (ValueError, ClientDisconnect))
    status = 413 if isinstance(error, TooLarge) else 400 if expected else 500
    return in_json({"error": str(error) if expected else UNKNOWN}, status)
