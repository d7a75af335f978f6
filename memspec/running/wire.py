"""Messages between a run and the processes that hold its memories: one line of JSON each, over a local socket."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

LARGEST = 1 << 28
"""Bytes of one message; a longer one is damage, not a message."""
GONE = ".gone"
"""Behind the path of a server: the file that says that it has ended, to processes that cannot ask for its status."""


_as_json = json.JSONEncoder(default=str).encode  # whatever becomes of json.dumps


class Closed(Exception):
    """The other side is gone."""


class Damaged(Closed):
    """What came is no message of ours."""


class Channel:
    """One end of a conversation."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(True)
        self._waiting = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, **message: Any) -> None:
        """Send one message.

        Raises:
            Closed: if nobody is there to read it.
        """
        try:
            self._socket.sendall(_as_json(message).encode() + b"\n")
        except OSError as error:
            raise Closed(str(error)) from error

    def receive(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next message, or None if none has come after ``timeout`` seconds.

        Raises:
            Closed: if the other side has ended.
            Damaged: if it sent something else.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (cut := self._waiting.find(b"\n")) < 0:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([self._socket], [], [], left)[0]:
                return None
            try:
                part = self._socket.recv(1 << 20)
            except OSError as error:
                raise Closed(str(error)) from error
            if not part or len(self._waiting) > LARGEST:
                raise Closed("the other side has ended")
            self._waiting += part
        line = bytes(self._waiting[:cut])
        del self._waiting[: cut + 1]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Damaged(f"it sent what is no message: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise Damaged(f"it sent what is no message: {line[:80]!r}")
        return message

    def close(self) -> None:
        self._socket.close()


class Listener:
    """Where others connect: a socket in a private folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(64)
        self._early: dict[str, Channel] = {}

    def fileno(self) -> int:
        return self._socket.fileno()

    def next(self) -> Channel:
        """The next connection, whoever it is."""
        return Channel(self._socket.accept()[0])

    def accept(self, name: str, timeout: float) -> Channel | None:
        """The connection that calls itself ``name``; None if it has not come after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while name not in self._early:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self], [], [], left)[0]:
                return None
            channel = self.next()
            try:
                hello = channel.receive(timeout=5.0)
            except Closed:
                continue
            if hello is not None and isinstance(hello.get("name"), str):
                self._early[hello["name"]] = channel
        return self._early.pop(name)

    def close(self) -> None:
        self._socket.close()


def connect(path: str, name: str = "") -> Channel:
    """A connection to a :class:`Listener`; with a name, it says it first.

    Raises:
        OSError: if nobody listens there (yet).
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    channel = Channel(connection)
    if name:
        channel.send(name=name)
    return channel
