"""The other workers: how connections and requests reach the one that owns their session."""
