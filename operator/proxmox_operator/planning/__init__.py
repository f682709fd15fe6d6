"""All decisions, as pure functions: no I/O, no clock, no client library.

From what is wanted (``api``) and what was observed to what is to be done, and to what a person is told.
"""
