"""What the project's code asks of AWS, recorded while tests run that exist for other reasons: by verb, as IAM needs.

`ENTRIES` says where a verb begins: at the function that a buildspec's command or a Lambda function's event ends up in.
Whatever botocore is asked below it, moto or Stubber answering, is the verb's. What a test asks by itself is nobody's.
recorded_calls.json holds the result of every test file. A call that it has of no file is an error at the end of the
test file that made it, in whichever order and selection tests run. A call that no test makes any more is one at the end
of a run in which every test of the list's files passed. Written anew: UPDATE_RECORDED=1 python -m pytest tests
"""

import contextvars
import fcntl
import functools
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scarcegan.aws.names import BUCKET

HERE = Path(__file__).resolve().parents[1]
RECORDED = HERE / "infra" / "recorded_calls.json"
ENTRIES = {  # (end of a file's path, function) -> verb; "" for what no role does
    ("scarcegan/sagemaker/upsert.py", "with_volume_key"): "upsert",
    ("scarcegan/sagemaker/upsert.py", "apply_plan"): "upsert",
    ("scarcegan/sagemaker/start.py", "complete"): "start",
    ("scarcegan/sagemaker/start.py", "start_execution"): "start",
    ("scarcegan/release/release.py", "prepare_release"): "release prepare",
    ("scarcegan/release/release.py", "promote_served_version"): "release promote",
    ("scarcegan/release/smoke.py", "verify_stage"): "release smoke",
    ("scarcegan/release/smoke.py", "sender_to_stage.<locals>.send"): "release smoke",
    ("scarcegan/sagemaker/copies.py", "write_copy"): "",  # a person's; no role does it
    ("scarcegan/cli/pipeline.py", "copy_command"): "",
    ("scarcegan/cli/cloud.py", "upsert_command"): "upsert",
    ("scarcegan/cli/cloud.py", "start_command"): "start",
    ("scarcegan/cli/release.py", "prepare_command"): "release prepare",
    ("scarcegan/cli/release.py", "smoke_stage"): "release smoke",
    ("scarcegan/release/load.py", "load_sender.<locals>.send"): "release load",
    ("scarcegan/release/load.py", "model_latency"): "release load",
    ("scarcegan/cli/release.py", "load_stage"): "release load",
    ("scarcegan/cli/release.py", "promote_command"): "release promote",
    ("scarcegan/sagemaker/register_function.py", "handler"): "function register",
    ("registry/sagemaker/lineage.py", "record_lineage"): "function register",
    ("infra/lambdas/rare_share.py", "handler"): "function rare-share",
    ("infra/lambdas/check_approval.py", "handler"): "function check-approval",
}
LENT = ("infra/lambdas/check_approval.py", "prepared_file")  # asks with credentials that CodePipeline lends it
# Operation -> the actions that IAM asks for, where they are not called alike.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
ACTIONS = {
    "s3:HeadObject": ["s3:GetObject"],
    "s3:HeadBucket": ["s3:ListBucket"],
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:ListObjects": ["s3:ListBucket"],
    "s3:CopyObject": ["s3:GetObject", "s3:PutObject"],
    "s3:CreateMultipartUpload": ["s3:PutObject"],
    "s3:UploadPart": ["s3:PutObject"],
    "s3:CompleteMultipartUpload": ["s3:PutObject"],
    "s3:DeleteObjects": ["s3:DeleteObject"],
    "sts:GetCallerIdentity": [],  # nobody needs a right for it: …/STS/latest/APIReference/API_GetCallerIdentity.html
}
# What an encrypted bucket asks of its key besides; the bucket's key is the project's.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
KEY = {"s3:GetObject": ["kms:Decrypt"], "s3:PutObject": ["kms:GenerateDataKey", "kms:Decrypt"]}
SERVICES = {"monitoring": "cloudwatch"}  # name in a request's signature -> prefix in IAM, where they differ
OF_A_PARAMETER = {"Tags": "{service}:AddTags", "RoleArn": "iam:PassRole"}  # of a Create… or an Update…

verb: contextvars.ContextVar[str] = contextvars.ContextVar("verb", default="")
AGAIN = "Look whether each role may, then type: UPDATE_RECORDED=1 python -m pytest and the names of the test files"
Calls = set[tuple[str, str]]  # verb, need: an action and, after a space, what it is about


def entry() -> str:
    """The verb that this call is part of: by the outermost function on the stack that begins one, or by its thread."""
    found = verb.get()
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        path = code.co_filename.replace(os.sep, "/")
        if "/scarcegan/" in path or "/lambdas/" in path:
            tail = "/".join(path.split("/")[-3:])
            if (tail, code.co_qualname) == LENT:
                return ""
            begun = ENTRIES.get((tail, code.co_qualname))
            found = found if begun is None else with_options(begun, frame.f_locals)
        frame = frame.f_back  # type: ignore[assignment]
    return found


def with_options(begun: str, given: Mapping[str, Any]) -> str:
    """The verb with the option that makes it ask AWS for less; "" for what no role does, such as a start of scoring.

    given: the values of its function.
    """
    if begun == "start":
        pipeline = given.get("pipeline") or getattr(given.get("plan"), "pipeline", "")
        return begun if pipeline in ("", "training") else ""
    if begun != "upsert":
        return begun
    one = given.get("pipeline") or given.get("pipelines") or ()
    alone = ({one} if isinstance(one, str) else set(one)) == {"scoring"}
    return begun + " --upload-only" * bool(given.get("upload_only")) + " --pipeline scoring" * alone


def needs(service: str, operation: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    """What a call needs: "action resource"; the resource is what does not change from one run to the next."""
    for action in ACTIONS.get(f"{service}:{operation}", [f"{service}:{operation}"]):
        about = resource(service, action, parameters)
        yield f"{action} {about}".strip()
        yield from KEY.get(action, ())
    if operation.startswith(("Create", "Update")):
        for name, other in OF_A_PARAMETER.items():
            if parameters.get(name):
                yield other.format(service=service)


def resource(service: str, action: str, parameters: Mapping[str, Any]) -> str:
    """Of S3 the bucket or the key, of SSM the parameter, without what names a run; of others nothing."""
    if service == "ssm":
        return str(parameters.get("Name", "")).split("/", 2)[-1]
    if service != "s3":
        return ""
    ours = BUCKET.fullmatch(str(parameters.get("Bucket", "")))
    key = str(parameters.get("Key", ""))
    if not ours:
        return "elsewhere"
    return key_of(key) if action.endswith("Object") else "."


def key_of(key: str) -> str:
    """runs/3f2a/split/test/part-0.parquet -> runs/x/split/x: what a policy can tell apart, without what changes."""
    first, *rest = key.split("/")
    if rest and rest[-1] == ".empty":  # stands for an empty folder
        return key
    if first == "runs" and len(rest) > 2:
        return f"runs/x/{rest[1]}/x"
    if len(rest) == 1:
        return f"{first}/{re.sub(r'[0-9a-f]*[0-9][0-9a-f]*', 'x', rest[0])}"
    return f"{first}/x"


@contextmanager
def recording() -> Iterator[Calls]:
    """Record what botocore is asked inside the block. Nothing is recorded where AWS's SDK is not installed."""
    calls: Calls = set()
    try:
        from botocore.client import BaseClient
    except ModuleNotFoundError:
        yield calls
        return
    before = BaseClient._make_api_call, ThreadPoolExecutor.submit
    ask, submit = map(inspect.unwrap, before)  # inside another recording, the calls are this one's

    @functools.wraps(ask)
    def asked(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        whose = entry()
        if whose:
            name = client.meta.service_model.signing_name
            service = SERVICES.get(name, name)
            calls.update((whose, need) for need in needs(service, operation, parameters))
        return ask(client, operation, parameters)

    @functools.wraps(submit)
    def submitted(pool: ThreadPoolExecutor, function: Any, /, *args: Any, **more: Any) -> Any:
        """A thread's calls belong to the verb that started it."""
        whose = entry()
        if not whose:
            return submit(pool, function, *args, **more)
        context = contextvars.copy_context()
        context.run(verb.set, whose)
        return submit(pool, context.run, function, *args, **more)

    BaseClient._make_api_call, ThreadPoolExecutor.submit = asked, submitted  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        BaseClient._make_api_call, ThreadPoolExecutor.submit = before  # type: ignore[method-assign]


def recorded() -> dict[str, dict[str, list[str]]]:
    """Test file -> verb -> what it needed there, as the list in the repository has it."""
    return json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}


def by_verb(calls: Calls) -> dict[str, list[str]]:
    """Verb -> what it needed, in order."""
    return {name: sorted(need for whose, need in calls if whose == name) for name in sorted({c[0] for c in calls})}


def listed() -> Calls:
    """What the list in the repository has, of all files."""
    return {(name, need) for verbs in recorded().values() for name, needed in verbs.items() for need in needed}


def unlisted(file: str, calls: Calls) -> str:
    """What a test file's calls need that the list has of no file, as a sentence; "" for nothing."""
    new = by_verb(calls - listed())
    if not new:
        return ""
    return f"{file}: tests/infra/recorded_calls.json does not have that the code asks AWS for {new}. {AGAIN}"


def unmade(everything: Mapping[str, Calls]) -> str:
    """What the list has and no test asks for any more, as a sentence; "" for nothing, or where not all files ran.

    everything: test file -> its calls, of the files that ran whole.
    """
    if set(recorded()) - set(everything):
        return ""
    old = by_verb(listed() - set().union(*everything.values()))
    return f"tests/infra/recorded_calls.json has what no test asks AWS for: {old}. {AGAIN}" if old else ""


def update(file: str, calls: Calls, whole: bool) -> None:
    """Write one test file's part of the list; several processes may. whole: every test of the file ran."""
    with RECORDED.open("a+", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.seek(0)
        everything = json.loads(handle.read() or "{}")
        before = {(name, need) for name, needed in everything.get(file, {}).items() for need in needed}
        everything[file] = by_verb(calls if whole else calls | before)
        kept = {name: verbs for name, verbs in sorted(everything.items()) if verbs and (HERE.parent / name).exists()}
        handle.seek(0)
        handle.truncate()
        handle.write(json.dumps(kept, indent=1) + "\n")
