"""Brokers: how the nodes of a cluster hear of one another's messages.

``base`` says what a broker promises. ``memory`` joins nodes of one process, ``unix`` those of one host, ``redis``
any.
"""
