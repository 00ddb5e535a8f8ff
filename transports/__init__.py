"""Engine.IO: bytes on a connection become packets of a session, whatever the transport.

The layer below ``gateway``. ``transports.engine.Engine`` is the server; ``transports.hosts`` puts it on a
listening socket. Spec: Engine.IO protocol, version 4.
"""
