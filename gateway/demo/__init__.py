"""The live demo: what this machine is doing, once a second, to every browser that looks."""

from gateway.demo.app import install

__all__ = ["install"]
