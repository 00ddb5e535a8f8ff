"""Why a session ended: the words given to disconnect handlers, logs and counters.

The first five are python-engineio's own (``engineio.AsyncServer.reason``).
"""

SERVER_DISCONNECT = "server disconnect"
CLIENT_DISCONNECT = "client disconnect"
PING_TIMEOUT = "ping timeout"
TRANSPORT_CLOSE = "transport close"
TRANSPORT_ERROR = "transport error"

#: The peer sent what the protocol does not allow.
PARSE_ERROR = "parse error"
#: More waited for the client than ``max_buffered_bytes``.
SLOW_CLIENT = "slow client"
#: All buffers together were over ``max_total_buffered_bytes``, and this client's was the largest.
MEMORY_SHED = "memory shed"
#: No namespace was joined within ``connect_timeout``.
CONNECT_TIMEOUT = "connect timeout"
#: The process is draining; the client should come back.
SERVER_SHUTDOWN = "server shutting down"
#: The client has come back on another connection before this one was known to be dead.
CONNECTION_REPLACED = "connection replaced"
#: A handler of a ``gateway.SocketConnection`` raised.
HANDLER_FAILED = "handler failed"
#: More events of a connection wait for its handlers than may.
TOO_MANY_EVENTS = "too many events waiting"
#: ``on_open`` of a ``gateway.SocketConnection`` refused; the session itself goes on.
REFUSED = "connection refused"

#: Nobody is there to hear it, or it could not be written.
WITHOUT_GOODBYE = frozenset((SLOW_CLIENT, MEMORY_SHED, TRANSPORT_CLOSE, TRANSPORT_ERROR, CONNECTION_REPLACED))
#: A client without an open request is given time to come for the news. Others have broken the protocol or gone.
WAITS_FOR_CLIENT = frozenset((SERVER_DISCONNECT, SERVER_SHUTDOWN, CONNECT_TIMEOUT, HANDLER_FAILED, TOO_MANY_EVENTS))
