"""Events between servers, which clients never see: Node's ``serverSideEmit``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from .brokers.base import Broker, BrokerLimits, WhenDown
from .cluster import Cluster
from .envelope import Message, MessageKind
from .node_messages import NodeError, encode_value, read_result
from .topics import SERVERS

if TYPE_CHECKING:
    from .channels import ChannelManager
    from .foreign_emitters import ForeignEmitters
    from .server import Server

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class NodeAnswers:
    """What other servers answered to a server-side event.

    answers: by node id
    failed: nodes whose handler raised, or that have none, with what was said
    missing: nodes that did not answer in time
    """

    answers: dict[str, Any]
    failed: dict[str, str]
    missing: tuple[str, ...]


class ServerSide:
    """The part of a server that joins others and speaks to them as such."""

    #: The other servers; None without a broker.
    cluster: Cluster | None
    manager: ChannelManager

    def _joined(self) -> Cluster:
        if self.cluster is None:
            raise ValueError("this server has no broker, so there are no other servers")
        return self.cluster

    def join(
        self, broker: Broker | str, limits: BrokerLimits | None = None, foreign_emitters: ForeignEmitters | None = None
    ) -> Cluster:
        """What the option ``broker`` does, for a server that was made without, before it has clients.

        Raises: ValueError for one that has a broker or clients; BrokerConfigError.
        """
        if self.cluster is not None:
            raise ValueError("this server has a broker already")
        if self.manager.rooms:
            raise ValueError("a server joins others before it has clients: the ids of those here name no node")
        self.cluster = self.manager.cluster = Cluster(cast("Server", self), broker, limits, foreign_emitters)
        return self.cluster

    def _run_cluster_with(self, app: Any) -> None:
        """Be joined while the application runs, if there is a broker by then, and until its clients have left."""

        async def start(_: Any) -> None:
            if self.cluster is not None:
                await self.cluster.start()

        async def close(_: Any) -> None:
            if self.cluster is not None:
                await self.cluster.close()

        app.on_startup.append(start)
        app.on_shutdown.append(close)

    @overload
    def on_server_event(self, event: str, handler: Handler) -> Handler: ...

    @overload
    def on_server_event(self, event: str) -> Callable[[Handler], Handler]: ...

    def on_server_event(self, event: str, handler: Any = None) -> Any:
        """Register what other servers call by ``server_side_emit`` and ``server_side_call``; also as a decorator.

        What it returns, or its coroutine, is the answer. Raises: ValueError without a broker.
        """
        handlers = self._joined().node.handlers

        def register(function: Any) -> Any:
            handlers[event] = function
            return function

        return register if handler is None else register(handler)

    async def server_side_emit(
        self, event: str, *arguments: Any, when_down: WhenDown = "wait", durable: bool = False
    ) -> None:
        """Call the handlers of ``event`` on all other servers. ``when_down``, ``durable``: as for ``emit``.

        Raises: ValueError without a broker; TypeError, ValueError for arguments that MessagePack cannot carry;
            BrokerError.
        """
        payload = server_event(event, arguments)
        await self._joined().running().publish(SERVERS, payload, durable=durable, when_down=when_down)

    async def server_side_call(
        self,
        event: str,
        *arguments: Any,
        timeout: float = 5.0,  # noqa: ASYNC109 - part of the answer, not a cancellation
    ) -> NodeAnswers:
        """As ``server_side_emit``, and what the handlers return, by node; never raises for nodes that do not answer.

        Raises: as ``server_side_emit``, and at once where the broker cannot be reached.
        """
        cluster = self._joined()
        payload = server_event(event, arguments)
        answers = await cluster.running().request(payload, topic=SERVERS, timeout_s=timeout)
        found: dict[str, Any] = {}
        failed = dict(answers.failed)
        for node_id, data in answers.answered.items():
            try:
                found[node_id] = read_result(node_id, data)
            except (NodeError, ValueError, TypeError, KeyError) as error:
                failed[node_id] = error.text if isinstance(error, NodeError) else f"{type(error).__name__}: {error}"
        servers = cluster.nodes()
        return NodeAnswers(found, failed, tuple(node_id for node_id in answers.missing if node_id in servers))


def server_event(event: str, arguments: tuple[Any, ...]) -> bytes:
    """Raises: TypeError, ValueError for what MessagePack cannot carry."""
    if not isinstance(event, str):
        raise TypeError(f"the name of a server-side event is text, not {event!r}")
    encode_value(arguments)
    return Message(MessageKind.SERVER_SIDE_EMIT, arguments=(event, *arguments)).encode()
