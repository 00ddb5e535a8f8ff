"""Which application function handles an event, and calling it.

python-socketio's rules of precedence, resolved once for each namespace and event and then remembered:
functions of the namespace, its catch-all, those of catch-all namespaces, class namespaces. Patterns registered
with ``Server.of`` come after exact names.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from socketio import AsyncNamespace

if TYPE_CHECKING:
    from .server import Server

logger = logging.getLogger("tidegate.dispatch")

#: What a namespace registered for many names is known by: a pattern, or a function of the name.
NamespaceMatcher = re.Pattern[str] | Callable[[str], bool]

#: Resolved names kept, and characters in one: names come from clients.
MAX_REMEMBERED: Final = 10_000
MAX_REMEMBERED_LENGTH: Final = 200


class Unanswered:
    """In place of a handler's result: a plain event gets no ack. One sent with ``tidegate:once`` is told why."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


#: Returned by a handler: nobody has handled the event.
NOT_HANDLED: Final = Unanswered("NOT_HANDLED")
#: The handler raised, which has been logged.
FAILED: Final = Unanswered("FAILED")
#: The handler did not run, or was cancelled: should the event come again, it may.
CANCELLED: Final = Unanswered("CANCELLED")

RESERVED: Final = ("connect", "disconnect")


class Target(NamedTuple):
    """``prefix``: what the handler is given before the sid: catch-alls are told event and namespace."""

    handler: Callable[..., Any]
    prefix: tuple[Any, ...]
    is_coroutine: bool


class Dispatcher:
    """Finds handlers. ``forget`` when a registration has changed."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._targets: dict[tuple[str, Any], Target | None] = {}
        self._matchers: list[tuple[NamespaceMatcher, str]] = []

    def forget(self) -> None:
        self._targets.clear()

    def add_matcher(self, matcher: NamespaceMatcher) -> str:
        """The name under which handlers of all namespaces that match are registered."""
        for known, name in self._matchers:
            if known is matcher or known == matcher:
                return name
        name = f"*{len(self._matchers)}"
        self._matchers.append((matcher, name))
        self.forget()
        return name

    def matches(self, namespace: str) -> bool:
        """Whether a pattern or predicate accepts the name."""
        return self._matched(namespace) is not None

    def _matched(self, namespace: str) -> str | None:
        for matcher, name in self._matchers:
            accepted = matcher.fullmatch(namespace) if isinstance(matcher, re.Pattern) else matcher(namespace)
            if accepted:
                return name
        return None

    def target(self, event: Any, namespace: str) -> Target | None:
        """The handler of ``event``, or None."""
        key = (namespace, event)
        try:
            return self._targets[key]
        except KeyError:
            pass
        target = self._resolve(event, namespace)
        if len(namespace) + len(str(event)) <= MAX_REMEMBERED_LENGTH:
            if len(self._targets) >= MAX_REMEMBERED:
                self._targets.clear()
            self._targets[key] = target
        return target

    def is_told(self, event: str, namespace: str) -> bool:
        """Whether anybody wants to know of ``connect`` or ``disconnect``."""
        return "_trigger_event" in self._server.__dict__ or self.target(event, namespace) is not None

    def is_told_of_end(self, namespace: str) -> bool:
        """``is_told`` of ``disconnect``. Never raises: a connection has to end whatever the application does."""
        try:
            return self.is_told("disconnect", namespace)
        except Exception:  # a function given to ``of``
            logger.exception("disconnect handler of %s failed", namespace)
            return False

    def _resolve(self, event: Any, namespace: str) -> Target | None:
        server = self._server
        handler, prefix = server._get_event_handler(event, namespace, ())
        if handler is None:
            matched = self._matched(namespace)
            if matched is not None:
                handlers = server.handlers.get(matched, {})
                if event in handlers:
                    handler, prefix = handlers[event], (namespace,)
                elif event not in RESERVED and "*" in handlers:
                    handler, prefix = handlers["*"], (event, namespace)
        if handler is None:
            return self._resolve_class(event, namespace)
        return Target(_fitted(handler, event, len(prefix)), tuple(prefix), inspect.iscoroutinefunction(handler))

    def _resolve_class(self, event: Any, namespace: str) -> Target | None:
        server = self._server
        instance, prefix = server._get_namespace_handler(namespace, ())
        if instance is None:
            matched = self._matched(namespace)
            instance = None if matched is None else server.namespace_handlers.get(matched)
            prefix = (namespace,)
        if instance is None or not isinstance(event, str):
            return None
        if type(instance).trigger_event is not AsyncNamespace.trigger_event:
            # The application dispatches for itself.
            return Target(_TriggeredNamespace(instance, event), tuple(prefix), True)
        method = getattr(instance, "on_" + event, None)
        if method is None:
            return None
        return Target(_fitted(method, event, len(prefix)), tuple(prefix), inspect.iscoroutinefunction(method))


class _TriggeredNamespace:
    """``trigger_event`` of a class namespace, for one event."""

    def __init__(self, instance: Any, event: str) -> None:
        self._instance = instance
        self._event = event

    async def __call__(self, *arguments: Any) -> Any:
        return await self._instance.trigger_event(self._event, *arguments)


def _fitted(handler: Callable[..., Any], event: str, prefix_length: int) -> Callable[..., Any]:
    """Handlers of the older signatures, without ``auth`` or ``reason``, are called without it."""
    if event not in RESERVED:
        return handler
    arguments = prefix_length + (3 if event == "connect" else 2)
    try:
        inspect.signature(handler).bind(*range(arguments))
    except TypeError:
        if inspect.iscoroutinefunction(handler):

            async def call_shorter(*given: Any) -> Any:
                return await handler(*given[:-1])

            return call_shorter
        return lambda *given: handler(*given[:-1])
    except ValueError:
        pass  # a builtin without a signature
    return handler
