"""The plugin is opt-in: name it, in the conftest at the root of your tests."""

pytest_plugins = ["wif.emulator"]
