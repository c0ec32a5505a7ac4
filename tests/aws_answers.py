"""AWS as a build sees it: CloudFormation, STS, S3 and others, answered from a test over a Unix socket.

A stack becomes what is asked for at once, its outputs are made up, and `fails` names those that do not. Of S3 there are
HeadObject, HeadBucket and PutObject with If-None-Match; a bucket is there with the storage stack. Requests are read as
botocore writes them and answers are those of AWS's documentation; another action is an error.
"""

import base64
import hashlib
import json
import socketserver
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

import yaml

NOW = "2026-12-01T00:00:00Z"
REGION = "eu-west-1"


@dataclass
class Stack:
    """A stack that exists, or a change set of one that will.

    - earlier: the status before a deletion, which CloudFormation tells once more.
    - failures: its changes that failed, oldest first: CREATE or DELETE, and why.
    """

    parameters: dict[str, str]
    template: str = ""
    status: str = "CREATE_COMPLETE"
    tags: dict[str, str] = field(default_factory=dict)
    earlier: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Aws:
    """The account.

    - connection: its status, "" where there is none. fails: name of a stack -> why its creation or deletion fails.
    - objects: bucket/key -> content, of S3. values: name -> value of SSM's parameters.
    - groups: the model package groups that are there.
    """

    connection: str = "AVAILABLE"
    stacks: dict[str, Stack] = field(default_factory=dict)
    planned: dict[str, Stack] = field(default_factory=dict)
    fails: dict[str, str] = field(default_factory=dict)
    assumed: list[dict[str, str]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)

    def answer(self, message: Mapping[str, Any]) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers for a request."""
        if ".s3." in urlsplit(message["url"]).netloc:
            return self.answer_s3(message)
        status, body = self.answer_other(message)
        kind = "application/x-amz-json-1.0" if body.startswith("{") else "text/xml"
        return status, body, {"Content-Type": kind}

    def answer_s3(self, message: Mapping[str, Any]) -> tuple[int, str, dict[str, str]]:
        """S3's answer to the deployment role. https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""
        where, headers = urlsplit(message["url"]), {key.lower(): text for key, text in message["headers"].items()}
        assert "ASIADEPLOYER" in headers["authorization"], "only the deployment role may touch the project's bucket"
        bucket, method = where.netloc.split(".")[0], message["method"]
        self.calls.append(f"{method} {bucket}{where.path}")
        project = bucket.removesuffix(f"-123456789012-{REGION}")
        name, there = f"{bucket}{where.path}", f"{project}-storage" in self.stacks
        if method == "PUT" and there:
            assert headers["if-none-match"] == "*", "the bucket's policy denies it otherwise"
            if name in self.objects:
                return 412, "", {}
            self.objects[name] = base64.b64decode(message["body"])
            return 200, "", {"ETag": '"0a"'}
        assert method == "HEAD", f"{method} of {name} is not here"
        if where.path == "/" and there:
            return 200, "", {}
        if name not in self.objects:
            return 404, "", {}
        digest = base64.b64encode(hashlib.sha256(self.objects[name]).digest()).decode()
        return 200, "", {"ETag": '"0a"', "x-amz-checksum-sha256": digest, "x-amz-checksum-type": "FULL_OBJECT"}

    def answer_other(self, message: Mapping[str, Any]) -> tuple[int, str]:
        """Status and body for a request to another service."""
        body = base64.b64decode(message["body"]).decode()
        if "connections" in message["url"]:
            self.calls.append("GetConnection")
            if not self.connection:
                return 400, json.dumps({"__type": "ResourceNotFoundException", "Message": "Connection not found"})
            about = {"ConnectionName": "ours", "ConnectionStatus": self.connection}
            return 200, json.dumps({"Connection": {**about, **json.loads(body)}})
        target = {key.lower(): text for key, text in message["headers"].items()}.get("x-amz-target", "")
        if target:
            return self.answer_json(target.partition(".")[2], json.loads(body), message)
        asked = dict(parse_qsl(body, keep_blank_values=True))
        action = asked["Action"]
        self.calls.append(f"{action} {asked.get('StackName', '')}".strip())
        if action == "AssumeRole":
            # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining
            assert int(asked["DurationSeconds"]) <= 3600, "of a role that takes a role, an hour at most"
            tag = {asked["Tags.member.1.Key"]: asked["Tags.member.1.Value"]}
            self.assumed.append({"role": asked["RoleArn"], **tag})
            made = "<AccessKeyId>ASIADEPLOYER</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            inner = f"<Credentials>{made}<SessionToken>t</SessionToken><Expiration>{NOW}</Expiration></Credentials>"
            return 200, wrapped(action, inner)
        if action == "GetCallerIdentity":
            return 200, wrapped(action, "<Account>123456789012</Account><Arn>a</Arn><UserId>u</UserId>")
        if "ASIADEPLOYER" not in message["headers"].get("Authorization", ""):
            return 403, error("AccessDenied", "only the deployment role may touch stacks")
        return getattr(self, action)(asked)

    def answer_json(self, action: str, asked: Mapping[str, Any], message: Mapping[str, Any]) -> tuple[int, str]:
        """SSM's and SageMaker's answers to the deployment role."""
        name = asked.get("Name") or asked["ModelPackageGroupName"]
        self.calls.append(f"{action} {name}")
        assert "ASIADEPLOYER" in message["headers"]["Authorization"], "only the deployment role may look"
        if action == "PutParameter":
            assert asked["Overwrite"] is True and asked["Type"] == "String"
            self.values[name] = asked["Value"]
            return 200, "{}"
        if action == "GetParameter":
            if name not in self.values:
                return 400, json.dumps({"__type": "ParameterNotFound"})
            return 200, json.dumps({"Parameter": {"Name": name, "Value": self.values[name]}})
        assert action == "DescribeModelPackageGroup"
        group = f"arn:aws:sagemaker:{REGION}:123456789012:model-package-group/{name}"
        if name not in self.groups:
            return 400, json.dumps(
                {"__type": "ValidationException", "message": f"ModelPackageGroup {group} does not exist."}
            )
        return 200, json.dumps({"ModelPackageGroupName": name, "ModelPackageGroupArn": group})

    def CreateChangeSet(self, asked: Mapping[str, str]) -> tuple[int, str]:
        name, there = asked["StackName"], self.stacks.get(asked["StackName"])
        given: dict[str, str] = {}
        for key, value in asked.items():
            if key.startswith("Parameters.") and key.endswith("ParameterKey"):
                place = key.removesuffix("ParameterKey")
                kept = there.parameters.get(value, "") if there else ""
                given[value] = asked.get(f"{place}ParameterValue", kept)
        place = urlsplit(asked.get("TemplateURL", "")).path[1:]
        self.planned[name] = Stack(given, self.objects[place].decode() if place else asked["TemplateBody"])
        return 200, wrapped("CreateChangeSet", f"<Id>{arn(name, 'changeSet')}</Id><StackId>{arn(name)}</StackId>")

    def DescribeChangeSet(self, asked: Mapping[str, str]) -> tuple[int, str]:
        name = asked["StackName"]
        there, planned = self.stacks.get(name), self.planned[name]
        if there and (there.parameters, there.template) == (planned.parameters, planned.template):
            why = "The submitted information didn't contain changes."
            return 200, wrapped(
                "DescribeChangeSet", f"<Status>FAILED</Status><StatusReason>{escape(why)}</StatusReason>"
            )
        return 200, wrapped("DescribeChangeSet", "<Status>CREATE_COMPLETE</Status>")

    def DeleteChangeSet(self, asked: Mapping[str, str]) -> tuple[int, str]:
        return 200, wrapped("DeleteChangeSet", "")

    def ExecuteChangeSet(self, asked: Mapping[str, str]) -> tuple[int, str]:
        name = asked["StackName"]
        made = self.planned.pop(name)
        made.status = "ROLLBACK_COMPLETE" if name in self.fails else "CREATE_COMPLETE"
        made.failures = [("CREATE", self.fails[name])] if name in self.fails else []
        self.stacks[name] = made
        return 200, wrapped("ExecuteChangeSet", "")

    def DescribeStacks(self, asked: Mapping[str, str]) -> tuple[int, str]:
        name = asked["StackName"]
        bare = name.split("/")[1] if name.startswith("arn:") else name
        found = self.stacks.get(bare)
        if found is None or (found.status == "DELETE_COMPLETE" and bare == name):
            return 400, error("ValidationError", f"Stack with id {name} does not exist")
        given = members("Parameters", ("ParameterKey", "ParameterValue"), found.parameters)
        told = members("Outputs", ("OutputKey", "OutputValue"), outputs(found.template))
        now = found.earlier.pop() if found.earlier else found.status
        status = f"<StackStatus>{now}</StackStatus><CreationTime>{NOW}</CreationTime>"
        named = f"<StackName>{bare}</StackName><StackId>{arn(bare)}</StackId>"
        return 200, wrapped("DescribeStacks", f"<Stacks><member>{named}{status}{given}{told}</member></Stacks>")

    def DescribeStackEvents(self, asked: Mapping[str, str]) -> tuple[int, str]:
        """Of all changes that failed, newest first, two in an answer."""
        name = asked["StackName"].split("/")[1] if asked["StackName"].startswith("arn:") else asked["StackName"]
        whole = (name, arn(name), "AWS::CloudFormation::Stack")
        listed = [
            event
            for verb, why in reversed(self.stacks[name].failures)
            for event in (
                (*whole, f"{verb}_FAILED", "resources failed: Key, Alias"),
                ("Alias", "", "AWS::KMS::Alias", f"{verb}_FAILED", "cancelled, as another one failed"),
                ("Key", "", "AWS::KMS::Key", f"{verb}_FAILED", why),
                (*whole, f"{verb}_IN_PROGRESS", "User Initiated"),
            )
        ]
        first = int(asked.get("NextToken", 0))
        told = ""
        for number, (logical, physical, kind, status, why) in enumerate(listed[first : first + 2], first):
            fields = {
                "StackId": arn(name),
                "EventId": str(number),
                "StackName": name,
                "LogicalResourceId": logical,
                "PhysicalResourceId": physical,
                "ResourceType": kind,
                "Timestamp": NOW,
                "ResourceStatus": status,
                "ResourceStatusReason": why,
            }
            told += f"<member>{''.join(f'<{key}>{escape(value)}</{key}>' for key, value in fields.items())}</member>"
        more = f"<NextToken>{first + 2}</NextToken>" if first + 2 < len(listed) else ""
        return 200, wrapped("DescribeStackEvents", f"<StackEvents>{told}</StackEvents>{more}")

    def DeleteStack(self, asked: Mapping[str, str]) -> tuple[int, str]:
        name = asked["StackName"].split("/")[1] if asked["StackName"].startswith("arn:") else asked["StackName"]
        stack, then = self.stacks[name], "DELETE_FAILED" if name in self.fails else "DELETE_COMPLETE"
        stack.earlier, stack.status = [stack.status], then
        stack.failures += [("DELETE", self.fails[name])] if name in self.fails else []
        return 200, wrapped("DeleteStack", "")


@cache
def outputs(template: str) -> dict[str, str]:
    """A value for each output that the template declares, in the form that later templates want."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda *_: None)
    declared = yaml.load(template, Loader).get("Outputs", {}) if template else {}
    key = f"arn:aws:kms:{REGION}:123456789012:key/1234"
    return {output: key if output == "KeyArn" else f"made-{output.lower()}" for output in declared}


def arn(stack: str, kind: str = "stack") -> str:
    return f"arn:aws:cloudformation:{REGION}:123456789012:{kind}/{stack}/1"


def members(name: str, keys: tuple[str, str], values: Mapping[str, str]) -> str:
    key, value = keys
    listed = "".join(
        f"<member><{key}>{one}</{key}><{value}>{escape(text)}</{value}></member>" for one, text in values.items()
    )
    return f"<{name}>{listed}</{name}>"


def wrapped(action: str, inner: str) -> str:
    return f"<{action}Response><{action}Result>{inner}</{action}Result></{action}Response>"


def error(code: str, message: str) -> str:
    said = f"<Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message>"
    return f"<ErrorResponse><Error>{said}</Error></ErrorResponse>"


class Line(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        message = json.loads(self.rfile.readline())
        status, body, headers = self.server.aws.answer(message)  # type: ignore[attr-defined]
        answer = {"status": status, "headers": headers, "body": body}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingUnixStreamServer):
    """Answers at a socket file until it is closed. `aws` can be exchanged between builds."""

    daemon_threads = True

    def __init__(self, path: Path, aws: Aws) -> None:
        super().__init__(str(path), Line)
        self.aws = aws
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
