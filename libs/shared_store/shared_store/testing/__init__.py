"""Fixtures for tests: real servers, never a fake. Not for production code."""
