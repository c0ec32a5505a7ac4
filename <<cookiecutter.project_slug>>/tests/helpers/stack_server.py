"""CloudFormation's DescribeStacks over HTTP, for stacks that a test puts into STACKS. moto's would need more libraries.

Processes that a test starts find it as well, by the environment variable that `environment` returns.
https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html
"""

import threading
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from scarcegan.aws.names import Names

STACKS: dict[str, tuple[str, Mapping[str, str]]] = {}  # name -> (status, outputs)


class Handler(BaseHTTPRequestHandler):
    """Answers DescribeStacks of one stack; any other call is an error."""

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        name = asked.get("StackName", [""])[0]
        if asked["Action"] == ["DescribeStacks"] and name in STACKS:
            self.answer(200, described(name, *STACKS[name]))
        else:
            message = f"Stack with id {escape(name)} does not exist" if name else "Not known here"
            about = f"<Type>Sender</Type><Code>ValidationError</Code><Message>{message}</Message>"
            self.answer(400, f"<ErrorResponse><Error>{about}</Error></ErrorResponse>")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests' output stays theirs."""


def described(name: str, status: str, outputs: Mapping[str, str]) -> str:
    """The answer about one stack, as CloudFormation writes it."""
    members = "".join(
        f"<member><OutputKey>{key}</OutputKey><OutputValue>{escape(value)}</OutputValue></member>"
        for key, value in outputs.items()
    )
    times = "<CreationTime>2026-12-01T09:00:00Z</CreationTime>"
    about = f"<StackName>{name}</StackName><StackStatus>{status}</StackStatus>{times}<Outputs>{members}</Outputs>"
    stacks = f"<Stacks><member>{about}</member></Stacks>"
    return f"<DescribeStacksResponse><DescribeStacksResult>{stacks}</DescribeStacksResult></DescribeStacksResponse>"


@cache
def environment() -> dict[str, str]:
    """The environment variable by which boto3 finds the server; the first call starts it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return {"AWS_ENDPOINT_URL_CLOUDFORMATION": f"http://127.0.0.1:{server.server_address[1]}"}


def serve(
    session: Any, names: Names, stage: str, version: int, arn: str, *, instance: str = "ml.m5.large", mark: str = ""
) -> None:
    """A stage that serves a package: its endpoint with config and model in moto, and its stack.

    mark: another one for another config of the same version.
    """
    sagemaker, config, endpoint = session.client("sagemaker"), f"{stage}-{version}{mark}", names.endpoint(stage)
    about = {"ModelName": config, "ExecutionRoleArn": names.role_arn(f"serve-{stage}")}
    sagemaker.create_model(**about, PrimaryContainer={"ModelPackageName": arn})
    variant = {"VariantName": "AllTraffic", "ModelName": config, "InitialInstanceCount": 1, "InstanceType": instance}
    sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant])
    if endpoint in [found["EndpointName"] for found in sagemaker.list_endpoints()["Endpoints"]]:
        sagemaker.delete_endpoint(EndpointName=endpoint)  # moto has no UpdateEndpoint
    sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    outputs = {"EndpointName": endpoint, "EndpointConfigName": config, "Version": str(version)}
    STACKS[names.stack(stage)] = ("UPDATE_COMPLETE", outputs)
