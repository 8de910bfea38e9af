"""Edge camera runtime: int8 detection and color on camera boards, published over MQTT."""

__version__ = "0.1.0"
