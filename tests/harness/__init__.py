"""What integration tests share: the operator in the test's process, and the world around it."""
