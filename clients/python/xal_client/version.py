"""The version of this client; the service's own version does not follow it."""

__version__ = "0.1.0"
