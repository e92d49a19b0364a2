"""The one door to the API: HTTP calls, and the certain answer to "was it sent?"."""

from apixo_async._transport.failures import REPLY_CAP
from apixo_async._transport.http import HttpTransport, Method, Session, Timeouts, Transport

__all__ = ["REPLY_CAP", "HttpTransport", "Method", "Session", "Timeouts", "Transport"]
