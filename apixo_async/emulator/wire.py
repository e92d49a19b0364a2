"""Sending an answer, well or badly."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip

from aiohttp import web

from apixo_async.emulator.replies import Manner, Reply

_MIB = 1 << 20
HUGE_SIZE = 16 * _MIB
BOMB_SIZE = 32 * _MIB


async def send(
    request: web.BaseRequest, reply: Reply, *, drip_seconds: float
) -> web.StreamResponse:
    """Send *reply* in its manner; the server itself completes what is left open here."""
    response: web.StreamResponse
    match reply.manner:
        case Manner.PLAIN:
            response = _response(reply, reply.body)
        case Manner.CUT:
            response = _cut(request)
        case Manner.DRIP:
            response = await _drip(request, reply, drip_seconds)
        case Manner.TRUNCATED:
            response = _response(reply, reply.body[: len(reply.body) // 2])
        case Manner.PARTIAL:
            response = await _partial(request, reply)
        case Manner.HUGE:
            response = _response(reply, reply.body.rjust(HUGE_SIZE))
        case Manner.GZIP_BOMB:
            response = _response(reply, await asyncio.to_thread(_bomb, reply.body))
            response.headers["Content-Encoding"] = "gzip"
    return response


def _response(reply: Reply, body: bytes) -> web.Response:
    response = web.Response(body=body, status=reply.status, content_type=reply.content_type)
    if reply.headers:
        response.headers.update(reply.headers)
    return response


def _cut(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _open(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send the headers of an answer whose body is announced in full."""
    response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
    response.content_type = reply.content_type
    response.content_length = len(reply.body)
    response.force_close()
    await response.prepare(request)
    return response


async def _drip(request: web.BaseRequest, reply: Reply, seconds: float) -> web.StreamResponse:
    response = await _open(request, reply)
    pause = seconds / max(1, len(reply.body))
    with contextlib.suppress(ConnectionError):  # the client did not wait for the end
        for byte in reply.body:
            await response.write(bytes([byte]))
            await asyncio.sleep(pause)
    return response


async def _partial(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response = await _open(request, reply)
    await response.write(reply.body[: len(reply.body) // 2])
    if request.transport is not None:
        # close, not abort: what was written has to arrive.
        request.transport.close()
    return response


def _bomb(body: bytes) -> bytes:
    """Pack *body* behind blanks; gzip members may follow each other."""
    return _blanks() + gzip.compress(body)


@functools.cache
def _blanks() -> bytes:
    return gzip.compress(b" " * BOMB_SIZE)
