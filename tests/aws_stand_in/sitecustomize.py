"""Put on PYTHONPATH: what boto3 sends goes through a Unix socket to the test (aws_answers.py), and nothing waits.

So a process without any network can still call AWS's API. Other connections are refused, also where the machine has a
network.
"""

import base64
import json
import os
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
    from botocore import httpsession
    from botocore.awsrequest import AWSResponse


class Raw:
    """What botocore reads a body from."""

    def __init__(self, body):
        self.body = body

    def stream(self, *_args, **_named):
        yield self.body


def send(self, request):
    body = request.body or b""
    body = body.read() if hasattr(body, "read") else body
    body = body if isinstance(body, bytes) else body.encode()
    headers = {name: value if isinstance(value, str) else value.decode() for name, value in request.headers.items()}
    message = {
        "method": request.method,
        "url": request.url,
        "headers": headers,
        "body": base64.b64encode(body).decode(),
    }
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ["AWS_ANSWERS"])
        line.sendall(json.dumps(message).encode() + b"\n")
        answer = json.loads(line.makefile().readline())
    return AWSResponse(request.url, answer["status"], answer["headers"], Raw(answer["body"].encode()))


if calls_aws:
    httpsession.URLLib3Session.send = send
