"""Example: watch a JSON feed and pass what is new on to every browser."""
