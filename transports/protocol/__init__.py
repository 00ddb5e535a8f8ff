"""Pure state machines and codecs: no sockets, tasks, clocks or randomness."""
