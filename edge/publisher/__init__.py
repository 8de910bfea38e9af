"""The connection to the broker: events at least once, states retained, commands in.

`Publisher` is what the daemon uses; nothing in it waits on the network.
"""

from edge.publisher.event_sender import EventQueue
from edge.publisher.inbox import IncomingCommand
from edge.publisher.publisher import ConnectionState, Publisher

__all__ = ["ConnectionState", "EventQueue", "IncomingCommand", "Publisher"]
