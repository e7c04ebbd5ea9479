"""What every test run has: the store's fixtures."""

pytest_plugins = ["shared_store.testing.fixtures"]
