"""Functions that are asked before handlers run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

#: ``(sid, environ, auth)``: False, or ``ConnectionRefusedError``, refuses the connection.
ConnectMiddleware = Callable[[str, dict[str, Any], Any], Any]
#: ``(sid, event, args)``: None passes, a list or tuple replaces the arguments, False drops the event.
EventMiddleware = Callable[[str, Any, list[Any]], Any]


class EventRefusedError(Exception):
    """Raised by an event middleware: the handler does not run, and a client that asked for an ack gets ``args``."""


class Middlewares:
    """By namespace, "*" standing for all of them; asked in the order of their registration, those of "*" first."""

    def __init__(self) -> None:
        self._functions: dict[str, list[Callable[..., Any]]] = {}

    def __bool__(self) -> bool:
        return bool(self._functions)

    def add(self, function: Callable[..., Any], namespace: str) -> None:
        self._functions.setdefault(namespace, []).append(function)

    def _of(self, namespace: str) -> list[Callable[..., Any]]:
        return [*self._functions.get("*", ()), *self._functions.get(namespace, ())]

    async def admit(self, namespace: str, sid: str, environ: dict[str, Any], auth: Any) -> bool:
        """Whether all of them let the client connect."""
        for function in self._of(namespace):
            answer = function(sid, environ, auth)
            if inspect.isawaitable(answer):
                answer = await answer
            if answer is False:
                return False
        return True

    async def pass_event(self, namespace: str, sid: str, event: Any, arguments: list[Any]) -> list[Any] | None:
        """The arguments with which the handler is to be called; None where the event was dropped."""
        for function in self._of(namespace):
            answer = function(sid, event, arguments)
            if inspect.isawaitable(answer):
                answer = await answer
            if answer is False:
                return None
            if answer is not None:
                arguments = list(answer)
        return arguments
