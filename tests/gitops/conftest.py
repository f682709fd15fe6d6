"""The world of the integration tests, for those in which Git and its tools look at it."""

from integration.conftest import shared_world, world

__all__ = ["shared_world", "world"]
