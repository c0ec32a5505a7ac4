"""Put on PYTHONPATH: what boto3 sends goes through a Unix socket to the test (aws_answers.py), and nothing waits.

So a process without any network can still call AWS's API. Other connections are refused, also where the machine has a
network.
"""

import socket
import sys
import time

time.sleep = lambda seconds: None
connect = socket.socket.connect


def connect_here(self, address):
    if self.family != socket.AF_UNIX:
        raise OSError(f"no network in this build, not even {address}")
    return connect(self, address)


socket.socket.connect = connect_here  # type: ignore[method-assign]

calls_aws = any(word.endswith(("seed.py", "scarcegan")) for word in sys.orig_argv)  # the hooks need not wait for boto3
if calls_aws:
    import aws_line
    import yaml
    from botocore import httpsession

    httpsession.URLLib3Session.send = aws_line.send
    # It reads the same, and the project's templates are long.
    yaml.SafeLoader = yaml.CSafeLoader  # type: ignore[misc, assignment]
