"""What every test run has: the store's fixtures, and hypothesis without a deadline, since no test asserts timing."""

from hypothesis import settings

pytest_plugins = ["shared_store.testing.fixtures"]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
