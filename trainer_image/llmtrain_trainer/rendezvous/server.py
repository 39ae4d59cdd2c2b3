"""Node 0's side of the rendezvous: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import defaultdict
from contextlib import suppress

from llmtrain_trainer.rendezvous import wire

_PROOF_SECONDS = 10.0
"""In which a new connection has to prove that it knows the secret."""

_MOST_STRANGERS = 256
"""Connections at a time that have not proved it. One more ends the oldest: who knows the secret proves it at once."""

_LONGEST_WAIT = 60.0
"""Seconds of one wait; the client asks again."""


class RendezvousServer:
    """Serves until the process ends. Whoever does not prove to know the secret is told nothing and changes nothing."""

    def __init__(self, listener: socket.socket, secret: bytes) -> None:
        self._listener, self._secret = listener, secret
        self._values: dict[str, bytes] = {}
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._strangers: dict[asyncio.StreamWriter, None] = {}
        self._loop = asyncio.new_event_loop()
        listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="rendezvous", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no longer, and end every connection."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._meet, sock=self._listener, limit=1 << 20))
        self._loop.run_forever()
        server.close()
        meetings = asyncio.all_tasks(self._loop)
        for meeting in meetings:
            meeting.cancel()
        self._loop.run_until_complete(asyncio.gather(*meetings, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))  # in which their sockets are closed
        self._loop.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, wire.WireError, asyncio.TimeoutError, asyncio.CancelledError):  # the last: `close`
            if await self._proved(reader, writer):
                while True:
                    length = wire.length_of(await reader.readexactly(4))
                    answer = await self._answer(wire.unpack(await reader.readexactly(length)))
                    writer.write(wire.pack(answer))
                    await writer.drain()
        with suppress(OSError):
            writer.close()

    async def _proved(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if len(self._strangers) >= _MOST_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.transport.abort()
        self._strangers[writer] = None
        try:
            ours = os.urandom(wire.NONCE)
            writer.write(wire.MAGIC + ours)
            said = await asyncio.wait_for(reader.readexactly(wire.NONCE + wire.PROOF), _PROOF_SECONDS)
        finally:
            self._strangers.pop(writer, None)
        theirs, proof = said[: wire.NONCE], said[wire.NONCE :]
        if not wire.same(proof, wire.client_proof(self._secret, ours, theirs)):
            return False
        writer.write(wire.server_proof(self._secret, ours, theirs))
        await writer.drain()
        return True

    async def _answer(self, request: list[bytes]) -> list[bytes]:
        """Raises WireError for what is no request, which ends the connection."""
        operation, *fields = request or [b""]
        try:
            keys = [field.decode() for field in fields] if operation in (wire.CHECK,) else [fields[0].decode()] if fields else []
            match operation:
                case wire.SET:
                    return self._set(keys[0], fields[1])
                case wire.GET:
                    return [wire.OK, self._values[keys[0]]] if keys[0] in self._values else [wire.ABSENT]
                case wire.ADD:
                    total = str(int(self._values.get(keys[0], b"0")) + int(fields[1])).encode()
                    return [*self._set(keys[0], total), total]
                case wire.APPEND:
                    return self._set(keys[0], self._values.get(keys[0], b"") + fields[1])
                case wire.COMPARE:
                    return [wire.OK, self._compare(keys[0], fields[1], fields[2])]
                case wire.CHECK:
                    return [wire.OK if all(key in self._values for key in keys) else wire.ABSENT]
                case wire.WAIT:
                    return [wire.OK if await self._wait(keys[0], float(fields[1])) else wire.ABSENT]
                case wire.DELETE:
                    return [wire.OK if self._values.pop(keys[0], None) is not None else wire.ABSENT]
                case wire.COUNT:
                    return [wire.OK, str(len(self._values)).encode()]
        except (IndexError, ValueError) as error:
            raise wire.WireError(str(error)) from error
        raise wire.WireError("no such operation")

    def _set(self, key: str, value: bytes) -> list[bytes]:
        self._values[key] = value
        for waiting in self._waiting.pop(key, ()):
            if not waiting.done():
                waiting.set_result(None)
        return [wire.OK]

    def _compare(self, key: str, expected: bytes, desired: bytes) -> bytes:
        """As torch's stores do: an absent key is as good as an expected empty value. Returns what the key holds then."""
        if key not in self._values:
            if expected:
                return expected
        elif self._values[key] != expected:
            return self._values[key]
        self._set(key, desired)
        return desired

    async def _wait(self, key: str, seconds: float) -> bool:
        if key in self._values:
            return True
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._waiting[key].add(waiting)
        try:
            await asyncio.wait_for(waiting, min(max(0.0, seconds), _LONGEST_WAIT))
        except TimeoutError:
            return False
        finally:
            if key in self._waiting:
                self._waiting[key].discard(waiting)
        return True
