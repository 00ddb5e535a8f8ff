"""Passing a request on to another worker, and its answer back, where the connection itself cannot be handed over."""
