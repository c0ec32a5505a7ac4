"""Upsert: what code, wheels and pipelines in AWS should be, as data; and the walk that makes it so. See cloud.py.

The plan needs no AWS, no credentials and no network, and two plans of one tree are the same bytes. Code lies under its
own digest, so a second walk uploads nothing, and the cache of unchanged steps outlives it.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from scarcegan.errors import UserError
from scarcegan.pipeline import aws
from scarcegan.pipeline.aws import Aws
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.names import UNKNOWN_ACCOUNT, Names

REQUIREMENTS = "requirements-jobs.txt"
MARKERS = ("champion/.empty", "empty/.empty")  # folders that steps may be pointed at from the first run on
COMPLETE = ".complete"  # written after the last wheel
# The jobs' image: Amazon Linux 2023 (glibc 2.34), Python 3.12.
# https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html
PLATFORMS = tuple(f"manylinux{glibc}_x86_64" for glibc in ("_2_34", "_2_28", "_2_26", "_2_24", "_2_17", "2014"))
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """objects: key in the bucket -> bytes. pipelines: training, scoring -> what compiling gave. wheels: prefix.

    template: the CloudFormation TemplateConfiguration of infra/pipeline.yaml.
    """

    names: Names
    root: Path
    objects: Mapping[str, bytes]
    wheels: str
    pipelines: Mapping[str, Any]
    template: Mapping[str, Any]

    @property
    def files(self) -> dict[str, str]:
        """What is written into build/: file name -> text."""
        definitions = {f"{name}.json": pretty(json.loads(made.definition)) for name, made in self.pipelines.items()}
        return {**definitions, "pipeline.json": pretty(self.template)}

    def describe(self) -> dict[str, Any]:
        """The plan as JSON holds it."""
        return {
            "account": self.names.account,
            "region": self.names.region,
            "bucket": self.names.bucket,
            "uploads": [{"key": key, "bytes": len(body)} for key, body in sorted(self.objects.items())],
            "wheels": {"prefix": self.wheels, "requirements": REQUIREMENTS},
            "pipelines": [
                {
                    "pipeline": made.name,
                    "role": self.names.role_arn("pipeline"),
                    "bytes": len(made.definition),
                    "steps": steps(json.loads(made.definition)),
                    "parameters": defaults(json.loads(made.definition)),
                }
                for made in self.pipelines.values()
            ],
        }


def make_plan(root: Path, config: Config, names: Names) -> Plan:
    """Bundle the code and compile both pipelines. UserError when the SageMaker SDK is not installed."""
    aws.library("sagemaker")
    from scarcegan.pipeline import bundle, cloud

    code = bundle.code_bundle(root)
    return Plan(
        names,
        root,
        {**code.objects, **dict.fromkeys(MARKERS, b"")},
        wheels_prefix(root),
        cloud.compile_all(config, names, code),
        template_configuration(config, code.objects),
    )


def wheels_prefix(root: Path) -> str:
    """Where the jobs' wheels lie: under the digest of their requirements."""
    path = root / REQUIREMENTS
    if not path.is_file():
        raise UserError(f"{REQUIREMENTS}: not there. It pins what the jobs install; take it from the template again.")
    return f"wheels/{sha256(path.read_bytes()).hexdigest()[:16]}/"


def template_configuration(config: Config, objects: Mapping[str, bytes]) -> dict[str, Any]:
    """What infra/pipeline.yaml cannot know by itself: where the register function's code lies, when to score, tags.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/continuous-delivery-codepipeline-cfn-artifacts.html
    """
    code = next((key for key in sorted(objects) if key.startswith("lambda/register-")), "")
    return {
        "Parameters": {"RegisterCodeKey": code, "ScoringSchedule": config.cloud.scoring_schedule},
        "Tags": {"sagemaker:project-name": config.project.name, **config.cloud.tags},
    }


def steps(definition: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name, type and instance type of every step, those behind a condition included, in order."""
    parameters = defaults(definition)

    def walk(level: list[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
        for step in level:
            arguments = step.get("Arguments", {})
            yield {"step": step["Name"], "type": step["Type"], "instance": instance(step, parameters)}
            for branch in ("IfSteps", "ElseSteps"):
                yield from walk(arguments.get(branch, []))

    return list(walk(definition["Steps"]))


def instance(step: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """The instance type of a step's job, "" for a step without one; a parameter counts with its default."""
    arguments = step.get("Arguments", {})
    place = arguments.get("ProcessingResources", {}).get("ClusterConfig") or arguments.get("ResourceConfig") or {}
    found = place.get("InstanceType", "")
    return str(parameters.get(found["Get"].split(".")[-1], "")) if isinstance(found, Mapping) else found


def defaults(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Pipeline parameter -> default value."""
    return {item["Name"]: item.get("DefaultValue", "") for item in definition.get("Parameters", [])}


def pretty(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def write(plan: Plan) -> list[Path]:
    """Write build/*.json; returns the files."""
    folder = plan.root / "build"
    folder.mkdir(exist_ok=True)
    for name, text in plan.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in plan.files]


def lines(plan: Plan) -> list[str]:
    """The plan for people."""
    about = plan.describe()
    names = plan.names
    unknown = names.account == UNKNOWN_ACCOUNT
    found = [f"{UNKNOWN_ACCOUNT} stands for your account; set AWS_ACCOUNT_ID to see its names"] if unknown else []
    found += [f"bucket    {names.bucket}"]
    found += [f"upload    {item['key']}  {item['bytes']:,} bytes" for item in about["uploads"]]
    found += [f"wheels    {plan.wheels}  of {REQUIREMENTS}; downloaded and uploaded unless they are complete there"]
    for item in about["pipelines"]:
        found += ["", f"pipeline  {item['pipeline']}  (role {names.role('pipeline')}, {item['bytes']:,} bytes)"]
        width = max(len(step["step"]) for step in item["steps"])
        found += [f"  {s['step']:<{width}}  {s['type']:<11}{s['instance']}".rstrip() for s in item["steps"]]
        found += ["  parameters: " + ", ".join(f"{key}={value}" for key, value in item["parameters"].items())]
    return found


def walk(plan: Plan, door: Aws, upload_only: bool, say: Say) -> dict[str, Any]:
    """Make AWS hold what the plan says. Safe to repeat, and to break off anywhere. Returns what was done."""
    require_bucket(door)
    uploaded = [key for key, body in sorted(plan.objects.items()) if put_if_absent(door, key, body, say)]
    wheels = upload_wheels(plan, door, say)
    made = {} if upload_only else {made.name: put_pipeline(plan, door, made, say) for made in plan.pipelines.values()}
    return {"uploaded": uploaded, "wheels": wheels, "pipelines": made}


def require_bucket(door: Aws) -> None:
    """UserError when the bucket is not there, or belongs to somebody else."""
    from botocore.exceptions import ClientError

    try:
        door.client("s3").head_bucket(Bucket=door.names.bucket, ExpectedBucketOwner=door.names.account)
    except ClientError as error:
        if aws.is_missing(error):
            raise UserError(aws.no_bucket(door.names)) from error
        raise


def exists(door: Aws, key: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        door.client("s3").head_object(Bucket=door.names.bucket, Key=key, ExpectedBucketOwner=door.names.account)
    except ClientError as error:
        if aws.is_missing(error):
            return False
        raise
    return True


def put(door: Aws, key: str, body: Any) -> None:
    """One object. The bucket's own default encrypts it; another account's bucket of that name is refused."""
    account = door.names.account
    door.client("s3").put_object(Bucket=door.names.bucket, Key=key, Body=body, ExpectedBucketOwner=account)


def put_if_absent(door: Aws, key: str, body: bytes, say: Say) -> bool:
    """Upload unless the key is there: it is named by its content, or it is a marker. Whether it was uploaded."""
    if exists(door, key):
        return False
    say(f"upload {key}")
    put(door, key, body)
    return True


def upload_wheels(plan: Plan, door: Aws, say: Say) -> int:
    """Download the jobs' wheels for their image and upload them, the mark of completeness last. How many."""
    if exists(door, plan.wheels + COMPLETE):
        return 0
    with tempfile.TemporaryDirectory() as folder:
        say(f"download the wheels of {REQUIREMENTS}")
        download(plan.root / REQUIREMENTS, Path(folder))
        wheels = sorted(Path(folder).glob("*.whl"))
        for wheel in wheels:
            say(f"upload {plan.wheels}{wheel.name}")
            with wheel.open("rb") as body:
                put(door, plan.wheels + wheel.name, body)
    put(door, plan.wheels + COMPLETE, b"")
    return len(wheels)


def download(requirements: Path, folder: Path) -> None:
    """Fetch the pinned wheels for the jobs' image, whatever this machine is. UserError with pip's last words."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "--abi=cp312", "--abi=abi3"]
    command += ["--abi=none", *(f"--platform={platform}" for platform in PLATFORMS)]
    command += ["--requirement", str(requirements), "--dest", str(folder)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()][-3:]
        raise UserError(
            f"pip could not download the wheels of {requirements.name} ({' '.join(said) or 'it said nothing'}). "
            "Look at the network and the package registry, then type the command again."
        )


def put_pipeline(plan: Plan, door: Aws, made: Any, say: Say) -> str:
    """Create or update one SageMaker pipeline: created, changed or unchanged.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html
    """
    client, role = door.client("sagemaker"), plan.names.role_arn("pipeline")
    wanted = {"PipelineDefinition": made.definition, "RoleArn": role}
    present = described(door, made.name)
    if present is None:
        say(f"create {made.name}")
        client.create_pipeline(PipelineName=made.name, Tags=tags(plan.names), **wanted)
        return "created"
    if {key: present.get(key) for key in wanted} == wanted:
        return "unchanged"
    say(f"change {made.name}")
    client.update_pipeline(PipelineName=made.name, **wanted)
    return "changed"


def described(door: Aws, name: str) -> dict[str, Any] | None:
    """DescribePipeline, or None when there is no such pipeline."""
    from botocore.exceptions import ClientError

    try:
        return door.client("sagemaker").describe_pipeline(PipelineName=name)
    except ClientError as error:
        if aws.is_missing(error):
            return None
        raise


def tags(names: Names) -> list[dict[str, str]]:
    """What Studio shows a project's pipelines by."""
    return [{"Key": "sagemaker:project-name", "Value": names.project}]
