"""Send each event to the CloudWatch agent on this machine, over its socket for EMF events.

The CloudWatch agent must be configured to listen:

    {"logs": {"metrics_collected": {"emf": {"service_address": "tcp://127.0.0.1:25888"}}}}
"""

import json
import socket

from strands import Agent
from strands_token_telemetry import TokenUsageHook


class CloudWatchAgentSocket:
    """Sends an event as one line and waits until the CloudWatch agent has read it.

    If that fails or takes longer than the timeout, it raises an `OSError`, and the hook logs the event.
    """

    def __init__(self, log_group, host="127.0.0.1", port=25888, timeout=1):
        self.log_group, self.address, self.timeout = log_group, (host, port), timeout

    def __call__(self, event):
        event["_aws"]["LogGroupName"] = self.log_group  # the CloudWatch agent requires a log group
        line = json.dumps(event) + "\n"
        with socket.create_connection(self.address, timeout=self.timeout) as connection:
            connection.sendall(line.encode())
            # Sending succeeds even if nobody reads. After the shutdown, the CloudWatch agent reads to the
            # end and closes the connection, which ends this recv.
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)


agent = Agent(hooks=[TokenUsageHook(emitter=CloudWatchAgentSocket("/agents"))])
