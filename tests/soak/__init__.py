"""One server, hours of clients that come, misbehave and go: bystanders lose nothing, and nothing is left behind.

``docs/design/testing.md`` says how to run it.
"""
