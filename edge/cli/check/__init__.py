"""Commands about the config file."""
