"""Functions that are asked before handlers run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from transports.refusals import Refusal

from . import catalogue

#: ``(sid, environ, auth)``: False, or ``ConnectionRefusedError``, refuses the connection.
ConnectMiddleware = Callable[[str, dict[str, Any], Any], Any]
#: ``(sid, event, args)``: None passes, a list or tuple replaces the arguments, False drops the event.
EventMiddleware = Callable[[str, Any, list[Any]], Any]


class EventRefusedError(Exception):
    """Raised by an event middleware or a handler: a client that asked for an ack gets ``args``. Nothing is logged."""

    #: The row of the catalogue under which it is counted, and what its message names.
    refusal: ClassVar[Refusal | None] = None
    fields: Mapping[str, Any] = {}


class TooManyRoomsError(EventRefusedError, ValueError):
    """The client is in as many rooms as ``max_rooms`` allows."""

    refusal = catalogue.TOO_MANY_ROOMS

    def __init__(self, limit: int) -> None:
        self.fields = {"limit": limit}
        super().__init__({"message": catalogue.TOO_MANY_ROOMS.text(limit=limit)})


class Middlewares:
    """By namespace, "*" standing for all of them; asked in the order of their registration, those of "*" first."""

    def __init__(self) -> None:
        #: Read by those who ask for each event whether there are any.
        self.functions: dict[str, list[Callable[..., Any]]] = {}

    def __bool__(self) -> bool:
        return bool(self.functions)

    def add(self, function: Callable[..., Any], namespace: str) -> None:
        self.functions.setdefault(namespace, []).append(function)

    def _of(self, namespace: str) -> list[Callable[..., Any]]:
        return [*self.functions.get("*", ()), *self.functions.get(namespace, ())]

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
