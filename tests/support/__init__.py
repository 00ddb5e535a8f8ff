"""What several suites need: servers to talk to, raw clients, waiting."""
