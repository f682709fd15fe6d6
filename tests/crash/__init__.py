"""The operator is stopped at every call it makes, and the world must end up as if it had not been."""
