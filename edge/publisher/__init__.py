"""The connection to the broker: delivers events at least once, retains states, takes commands.

The daemon uses `Publisher`; none of its methods waits on the network.
"""

from edge.publisher.event_sender import EventQueue
from edge.publisher.inbox import IncomingCommand
from edge.publisher.publisher import ConnectionState, Publisher

__all__ = ["ConnectionState", "EventQueue", "IncomingCommand", "Publisher"]
