"""The toolchain in AWS: a plan of its CloudFormation stacks as data, and their deployment.

The plan needs no AWS, no credentials and no network. The deployment uses change sets, like `aws cloudformation deploy`:
a stack that does not exist is created, one that differs is updated, one that does not differ is left alone. What people
type is in cli/toolchain.py.
"""

import difflib
import hashlib
import json
import re
import shlex
import subprocess
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from scarcegan.aws import client
from scarcegan.aws.client import Aws, none_if_missing
from scarcegan.aws.names import LACKING, Names, project_tags
from scarcegan.aws.parameter_rules import combination_problem, value_problem
from scarcegan.aws.stack_states import creation_was_undone, is_new, refuse_unless_changeable
from scarcegan.aws.storage import project_bucket
from scarcegan.errors import UserError, shortened
from scarcegan.pipeline.config import Config
from scarcegan.progress import PrintLine

# In order of deployment: each may need those before it.
STACKS = ("storage", "roles-models", "roles-build", "roles-release", "security", "toolchain")
LATER_TEMPLATES = ("pipeline", "endpoint")  # deployed by the CodePipelines …
LATER_STACKS = ("pipeline", "staging", "production")  # … as these stacks
GROUP = "AWS::SageMaker::ModelPackageGroup"
OPTIONS = {
    "Repository": "--repository",
    "ConnectionArn": "--connection-arn",
    "NotificationEmail": "--notification-email",
}
FROM_CONFIG = {
    "SageMakerProjectName": "project.name",
    "ModelPackageGroupName": "project.model_package_group",
    "ModelPackageGroupDescription": "project.description",
    "MlflowAppArn": "cloud.mlflow_app",
    "ScoringSchedule": "cloud.scoring_schedule",
}
LARGEST_REQUEST = 51_200  # bytes of a template in a request; in S3 it may have 1 MB:
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
LONGEST_TEMPLATE_VALUE = 4096  # of a value, in characters: CloudFormation's quota
LARGEST_NUMBER = 2**31 - 1  # of a value, such as of the days of S3's rules, which are 32-bit integers
STACK_POLL_SECONDS = 5
LONGEST_WAIT = 3600  # seconds for what a teardown ends or deletes: a shift of traffic may take as long
NO_CHANGES = re.compile(r"didn't contain changes|No updates are to be performed")


# -- the plan -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """One CloudFormation stack as it should be.

    - name: the name of the stack in AWS.
    - template: the path of its template, relative to the project's folder.
    - parameters: template parameter -> value, for those that config.yaml or the command line gives. One that is not
      given keeps its value in AWS.
    - inputs: further template parameter -> name in AWS of the earlier stack whose output of the same name is its value.
    - required: names of the template parameters that have no default and that no other stack's output sets.
    - declared: names of all parameters of the template.
    - capabilities: what CloudFormation must be allowed, such as CAPABILITY_NAMED_IAM for a template with roles.
    - template_key: key in the project's bucket for a template that is too large for a request; "" for others.
    """

    name: str
    template: Path
    parameters: Mapping[str, str]
    inputs: Mapping[str, str]
    required: Sequence[str]
    declared: Sequence[str]
    capabilities: Sequence[str]
    template_key: str = ""


@dataclass(frozen=True)
class FunctionCode:
    """The code of the Lambda functions, which only the deployment of the toolchain brings to AWS.

    - objects: key in the project's bucket -> zip file. A key holds a digest of the code; its object is written once.
    - parameters: template parameter -> value: the key of each function's code, and ToolchainVersion, a digest of the
      toolchain's templates and of this code.
    """

    objects: Mapping[str, bytes]
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class ToolchainPlan:
    """The plan of a deployment of the toolchain.

    - region: the AWS region to deploy into.
    - stacks: in the order in which they are deployed.
    - tags: tag -> value, for every stack.
    - code: of the Lambda functions; it is uploaded before the stack that needs it, the last one.
    - notes: sentences about what the region lacks for the stacks that the pipelines deploy later.
    """

    region: str
    stacks: Sequence[Stack]
    tags: Mapping[str, str]
    code: FunctionCode
    notes: Sequence[str] = ()

    def describe(self) -> dict[str, Any]:
        """Return the plan as values that JSON can hold: region, tags, the keys of the functions' code, and a dictionary
        of fields for each stack.
        """
        stacks = [{**asdict(stack), "template": stack.template.as_posix()} for stack in self.stacks]
        return {"region": self.region, "tags": dict(self.tags), "functions": list(self.code.objects), "stacks": stacks}

    def needs_code(self, stack: Stack) -> bool:
        """Whether a stack takes the key of a function's code as a parameter."""
        return not self.code.parameters.keys().isdisjoint(stack.declared)

    @property
    def given(self) -> dict[str, str]:
        """Template parameter -> value, of all stacks, for those that config.yaml or the command line gives."""
        return {name: value for stack in self.stacks for name, value in stack.parameters.items()}

    @property
    def ungiven(self) -> list[str]:
        """The names of the template parameters that have no default and no value in the plan, sorted, each once.

        The first deployment of the toolchain needs a value of each from the command line.
        """
        return sorted({name for stack in self.stacks for name in stack.required if name not in stack.parameters})


class TemplateLoader(yaml.SafeLoader):
    """YAML loader for CloudFormation templates: a value written with a function (!Ref, !Sub, …) is read as None."""


TemplateLoader.add_multi_constructor("!", lambda loader, suffix, node: None)


def plan_toolchain(root: Path, config: Config, given: Mapping[str, str], code: FunctionCode) -> ToolchainPlan:
    """Return the plan of the stacks that the templates in `root`/infra describe. Makes no call to AWS.

    - root: the project's folder.
    - given: template parameter -> value, from the command line. Each stack gets those that its template has.
    - code: of the Lambda functions.

    Raises UserError for an unknown parameter, for one that comes from config.yaml, the code or another stack, for a
    value that a template or AWS would refuse or that contradicts config.yaml, for a config.yaml without a region, for a
    region that lacks a resource of these stacks, for a connection or a group of another region, and for a template that
    is missing or damaged.
    """
    region = client.region_of(config)
    bodies = {name: read_template(root, Path("infra") / f"{name}.yaml") for name in STACKS}
    makers = {output: name for name, body in bodies.items() for output in body.get("Outputs", {})}
    declared = {name: about for body in bodies.values() for name, about in body["Parameters"].items()}
    check_given_parameters(given, declared, makers, code)
    refuse_against_settings(given, config)
    values = {**from_config(config), **code.parameters, **given}
    refuse_lacking_region(region, bodies, config, values)
    for name, value in values.items():
        if name not in declared:
            raise UserError(
                f"no template has the parameter {name}, which {where_given(name)} sets. Restore infra/*.yaml."
            )
        why = why_refused(declared[name], value) or value_problem(name, value, region)
        if why:
            raise UserError(f"{where_given(name)}: '{shortened(value)}' is refused for {name}: {why}")
    refuse_other_region("--connection-arn", "connection", values.get("ConnectionArn", ""), region)
    group = config.project.model_package_group
    refuse_other_region("config.yaml: project.model_package_group", "group", group, region)
    project = config.project.name
    stacks = [
        Stack(
            f"{project}-{name}",
            Path("infra") / f"{name}.yaml",
            {key: values[key] for key in body["Parameters"] if key in values},
            {key: f"{project}-{makers[key]}" for key in body["Parameters"] if key in makers},
            [key for key, about in body["Parameters"].items() if "Default" not in about and key not in makers],
            list(body["Parameters"]),
            ["CAPABILITY_NAMED_IAM"] if creates_roles(body) else [],
            "" if name == STACKS[0] else template_key(root / "infra" / f"{name}.yaml"),  # that one makes the bucket
        )
        for name, body in bodies.items()
    ]
    return ToolchainPlan(region, stacks, project_tags(config), code, later_notes(root, region))


def refuse_other_region(where: str, what: str, arn: str, region: str) -> None:
    """Raise UserError for an ARN of another region than the project's; a name and "" pass.

    A pipeline's source action runs in the pipeline's own region, and the model registry is asked in the project's.
    https://docs.aws.amazon.com/codepipeline/latest/userguide/actions-create-cross-region.html

    - where: where the user gives the ARN.
    - what: what it is of, such as connection.
    """
    if arn.startswith("arn:") and arn.split(":")[3] != region:
        raise UserError(
            f"{where}: the {what} is in {arn.split(':')[3]}, the project in {region} "
            f"(config.yaml: project.region). Give a {what} of that region."
        )


def folder_in_repository(root: Path) -> str | None:
    """Return the project's folder in its git repository as ProjectFolder has it, such as models/fraud/; "" at its top.

    None where git does not track the project's templates, or is missing.

    - root: the project's folder.
    """
    template = f"infra/{STACKS[-1]}.yaml"
    command = ["git", "-C", str(root), "ls-files", "-z", "--full-name", template]
    try:
        listed = subprocess.run(command, capture_output=True, text=True).stdout.rstrip("\0")
    except FileNotFoundError:
        return None
    return listed.removesuffix(template) if listed else None


def read_template(root: Path, template: Path) -> dict[str, Any]:
    """Read a CloudFormation template from a file. Returns its content, with None in place of each !Ref, !Sub, ….

    - root: the project's folder.
    - template: the path of the file, relative to it.

    Raises UserError when there is no such file, or it is no text, no YAML, or has no Parameters or Resources.
    """
    try:
        body = yaml.load((root / template).read_text(encoding="utf-8"), TemplateLoader)
        if not all("Type" in about for part in ("Parameters", "Resources") for about in body[part].values()):
            raise TypeError
    except FileNotFoundError:
        raise UserError(f"{template}: no such file. Restore it, or run the command in the project's folder.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{template}: not UTF-8 text ({error.reason} at byte {error.start}). Restore it.") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{template}, line {mark.line + 1}" if mark else str(template)
        what = shortened(getattr(error, "problem", None) or error)
        raise UserError(f"{where}: not valid YAML: {what}. Correct that line.") from None
    except (TypeError, KeyError, AttributeError):
        raise UserError(f"{template}: no CloudFormation template with Parameters and Resources. Restore it.") from None
    return body


def template_key(path: Path) -> str:
    """Return the key in the project's bucket for a template that is too large for a request; "" for any other.

    It is below functions/, where nothing is replaced and no role of the project writes. Its form is the AWS CLI's, so
    that `aws cloudformation deploy`, which could not upload to there, finds the template.
    https://github.com/aws/aws-cli/blob/develop/awscli/customizations/s3uploader.py
    """
    template = path.read_bytes()
    if len(template) <= LARGEST_REQUEST:
        return ""
    return f"functions/{hashlib.md5(template, usedforsecurity=False).hexdigest()}.template"


def lacking_types(region: str, body: Mapping[str, Any]) -> list[str]:
    """Return the types of a template's resources that CloudFormation does not have in a region, sorted.

    - body: the content of the template, as `read_template` returns it.
    """
    return sorted({about["Type"] for about in body["Resources"].values() if region in LACKING.get(about["Type"], ())})


def refuse_lacking_region(
    region: str, bodies: Mapping[str, Mapping[str, Any]], config: Config, values: Mapping[str, str]
) -> None:
    """Check that CloudFormation has every resource of the stacks in a region.

    - bodies: stack -> content of its template.
    - values: template parameter -> value; with CreateModelPackageGroup "no", the group is not created.

    Raises UserError for the first resource that the region lacks, with what to do instead.
    """
    lacking = [(kind == GROUP, kind, name) for name, body in bodies.items() for kind in lacking_types(region, body)]
    for is_group, kind, name in sorted(lacking):  # the group last, as one can do without its resource
        fact = f"CloudFormation in {region} has no {kind}, which infra/{name}.yaml creates"
        if not is_group:
            raise UserError(f"{fact}. Choose another region under project.region in config.yaml.")
        if values.get("CreateModelPackageGroup") != "no":
            group = values["ModelPackageGroupName"]
            arn = Names(config.project.name, "<account>", region).arn("sagemaker", f"model-package-group/{group}")
            raise UserError(
                f"{fact}. Create it once (aws sagemaker create-model-package-group --region {region} "
                f"--model-package-group-name {group}), then set project.model_package_group in config.yaml to its "
                f"ARN: {arn}"
            )


def later_notes(root: Path, region: str) -> tuple[str, ...]:
    """Return a sentence for each template that the pipelines deploy and of which CloudFormation lacks resources in a
    region; () for most regions.

    Raises UserError when a template is missing or damaged.
    """
    lacking = {
        name: lacking_types(region, read_template(root, Path("infra") / f"{name}.yaml")) for name in LATER_TEMPLATES
    }
    return tuple(
        f"CloudFormation in {region} has no {', '.join(kinds)}: everything but infra/{name}.yaml can be used there."
        for name, kinds in lacking.items()
        if kinds
    )


def update_note(root: Path, schedule: str) -> str:
    """Return a sentence when no build could look for a later version of the template; "" when one could.

    - root: the project's folder.
    - schedule: the value of UpdateSchedule; "" for none, of which nothing is said.
    """
    record = root / ".cruft.json"
    if schedule and not record.exists():
        return (
            "UpdateSchedule: this project has no .cruft.json, so no build can look for later templates. Type the "
            "`cruft link` command of .template.yaml, then commit (README, 'Later changes of the template')."
        )
    if not schedule:
        return ""
    try:
        address = json.loads(record.read_bytes())["template"]
    except (ValueError, KeyError, TypeError):
        return ""  # the build says what is wrong with it
    if not re.match(r"[./~]|file:|[A-Za-z]:[\\/]", str(address)):
        return ""
    return (
        f"UpdateSchedule: .cruft.json names {shortened(address)}, which only this machine has. Write the address of "
        'the template\'s repository there, under "template", then commit.'
    )


def creates_roles(body: Mapping[str, Any]) -> bool:
    """Whether a template has resources of IAM, which CloudFormation must be allowed to create.

    - body: the content of the template, as `read_template` returns it.
    """
    return any(about["Type"].startswith("AWS::IAM::") for about in body["Resources"].values())


def from_config(config: Config) -> dict[str, str]:
    """Return template parameter -> value for those that config.yaml sets, which are:

    - SageMakerProjectName.
    - ModelPackageGroupName, without the rest of the ARN if config.yaml gives an ARN, and ModelPackageGroupDescription,
      without characters that SageMaker refuses.
    - CreateModelPackageGroup "no" and ModelPackageGroupAccount, only if config.yaml gives the group by its ARN, because
      then the group exists already.
    - MlflowAppArn, "" without an MLflow app, and ScoringSchedule, "" without one.
    """
    group = config.project.model_package_group
    found = {"SageMakerProjectName": config.project.name, "ModelPackageGroupName": group.rpartition("/")[2]}
    if group.startswith("arn:"):
        found |= {"CreateModelPackageGroup": "no", "ModelPackageGroupAccount": group.split(":")[4]}
    found["ModelPackageGroupDescription"] = "".join(printable(config.project.description))
    return {**found, "MlflowAppArn": config.cloud.mlflow_app, "ScoringSchedule": config.cloud.scoring_schedule}


def printable(text: str) -> Iterator[str]:
    """Yield the characters of a text, except those of Unicode's category C, which SageMaker refuses in descriptions.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackageGroup.html
    """
    yield from (character for character in text if not unicodedata.category(character).startswith("C"))


def check_given_parameters(
    given: Mapping[str, str], declared: Mapping[str, Any], makers: Mapping[str, str], code: FunctionCode
) -> None:
    """Check that the template parameters given on the command line may be given there.

    - given: template parameter -> value.
    - declared: template parameter -> its declaration, of all templates.
    - makers: output of a stack -> the stack that has it.
    - code: of the Lambda functions.

    Raises UserError for a parameter that comes from config.yaml, the code or another stack, or that no template has.
    """
    free = [name for name in declared if name not in {*makers, *FROM_CONFIG, *code.parameters}]
    for name in given:
        if name in FROM_CONFIG:
            raise UserError(f"--set {name}: it is {FROM_CONFIG[name]} in config.yaml. Change it there.")
        if name in code.parameters:
            raise UserError(
                f"--set {name}: it is computed from infra/ and src/ of this project. Change the code there."
            )
        if name in declared and name in makers:
            raise UserError(f"--set {name}: it is an output of the stack '{makers[name]}' and is not given by hand.")
        if name not in free:
            near = difflib.get_close_matches(shortened(name), free, 1)
            move = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(sorted(free))}."
            raise UserError(f"--set {shortened(name)}: no template of the toolchain has that parameter. {move}")


def refuse_against_settings(given: Mapping[str, str], config: Config) -> None:
    """Check that the template parameters given on the command line do not contradict config.yaml.

    - given: template parameter -> value.

    Raises UserError for another value than follows from the group's ARN, and when outputs of steps would go before the
    cache forgets them.
    """
    for name, value in from_config(config).items():
        if given.get(name, value) != value:
            raise UserError(
                f"--set {name}={shortened(given[name])}: project.model_package_group in config.yaml is an ARN, from "
                f"which {name}={value} follows. Leave --set {name} out, or name the group there without its ARN."
            )
    days, cached = given.get("KeepRunsDays", ""), config.cloud.cache_days
    if days.isdigit() and 0 < int(days) <= cached:
        raise UserError(
            f"--set KeepRunsDays={days}: steps come from the cache for cloud.cache_days ({cached}) days, and their "
            f"outputs must still be there. Give more than {cached}, or lower cloud.cache_days in config.yaml."
        )


def why_refused(about: Mapping[str, Any], value: str) -> str:
    """Return why a template refuses a value of a parameter, as the end of a sentence; "" when nothing was found.

    Checked are AllowedValues, MinValue, MaxValue, MinLength, MaxLength and AllowedPattern, and that a Number is a whole
    number. The values of a list are separated by commas; of several none is empty or named twice, which AWS refuses of
    accounts in a policy.

    - about: the declaration of the parameter in the template.
    """
    items = value.split(",") if "List" in about["Type"] else [value]
    allowed = [str(known) for known in about.get("AllowedValues", [])]
    if allowed and not set(items) <= set(allowed):
        return f"it is one of {', '.join(allowed)}."
    if about["Type"] == "Number":
        least, most = about.get("MinValue", 0), about.get("MaxValue")
        number = int(value) if value.isascii() and value.isdigit() else -1
        if number > LARGEST_NUMBER:
            return f"it is a number of at most {LARGEST_NUMBER}."
        if number >= least and (most is None or number <= most):
            return ""
        return f"it is a number from {least} on." if most is None else f"it is a number from {least} to {most}."
    shortest, longest = about.get("MinLength", 0), about.get("MaxLength", LONGEST_TEMPLATE_VALUE)
    if len(value) < shortest:
        return f"it has at least {shortest} characters."
    if len(value) > longest:
        return f"it has at most {longest} characters."
    if not all(re.fullmatch(about.get("AllowedPattern", "(?s).*"), item, re.ASCII) for item in items):
        return about.get("ConstraintDescription") or f"it must match {about['AllowedPattern']}"
    if len(items) > 1 and not all(items):
        return "there is nothing between two of its commas, or at its end."
    twice = [item for item, times in Counter(items).items() if times > 1]
    return f"it names {twice[0]} twice." if twice else ""


def where_given(name: str) -> str:
    """Return, as text for errors, where the user sets a template parameter.

    That is a key ("config.yaml: project.name"), an option ("--repository"), or "--set <name>" for all others.
    """
    return f"config.yaml: {FROM_CONFIG[name]}" if name in FROM_CONFIG else OPTIONS.get(name, f"--set {name}")


def shell_commands(plan: ToolchainPlan) -> list[str]:
    """Return the plan as lines of shell commands with the AWS CLI, to be typed in the project's folder.

    A command has several lines. The commands are joined by &&, so that the first failure ends them. An output of a
    stack that a later stack needs goes into a shell variable with the output's name. Before the stack that needs it,
    the code of the functions is uploaded from the files of `write_function_files`, and a template that is too large for
    a request from its own file. Template parameters that have no value in the plan (`ungiven`) are not in the commands.
    Values and tags are quoted for the shell.
    """
    chain: list[str] = []
    for stack in plan.stacks:
        bucket = {"BucketName": plan.stacks[0].name} if stack.template_key else {}
        needed = {**stack.inputs, **bucket}
        missing = {name: maker for name, maker in needed.items() if not is_fetched(chain, name)}
        chain += [output_command(plan, name, maker) for name, maker in missing.items()]
        if plan.needs_code(stack):
            chain += [upload_command(plan, key, f"build/{key}") for key in plan.code.objects]
        if stack.template_key:
            chain.append(upload_command(plan, stack.template_key, stack.template.as_posix()))
        values = [shlex.quote(f"{name}={value}") for name, value in stack.parameters.items()]
        values += [f'{name}="${name}"' for name in stack.inputs]
        kinds = ["--capabilities", *stack.capabilities] if stack.capabilities else []
        kinds += ["--s3-bucket", '"$BucketName"', "--s3-prefix", "functions"] if stack.template_key else []
        parts = [
            f"aws cloudformation deploy --region {shlex.quote(plan.region)} --stack-name {stack.name}",
            " ".join([f"--template-file {stack.template.as_posix()} --no-fail-on-empty-changeset", *kinds]),
            "--parameter-overrides " + " ".join(values),
            "--tags " + " ".join(shlex.quote(f"{key}={value}") for key, value in plan.tags.items()),
        ]
        chain.append(" \\\n    ".join(parts))
    return " &&\n".join(chain).split("\n")


def upload_command(plan: ToolchainPlan, key: str, file: str) -> str:
    """Return the shell command that uploads the code of a function or a template, unless it is there.

    It is no `aws s3 cp`: the bucket refuses an upload to functions/ that could replace an object.

    - key: of the object.
    - file: its path, relative to the project's folder.
    """
    where = f'--region {shlex.quote(plan.region)} --bucket "$BucketName" --key {key}'
    return (
        f"{{ aws s3api head-object {where} > /dev/null 2>&1 ||\n"
        f"    aws s3api put-object {where} --body {file} \\\n"
        f"    --if-none-match '*' --checksum-algorithm SHA256; }}"
    )


def write_function_files(plan: ToolchainPlan, root: Path) -> list[Path]:
    """Write the code of the functions as zip files into build/functions of the project's folder. Returns their paths.

    They are there for `shell_commands`. Zip files of earlier code are deleted.

    - root: the project's folder.
    """
    folder = root / "build" / "functions"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {root / "build" / key: code for key, code in plan.code.objects.items()}
    for old in set(folder.glob("*.zip")) - paths.keys():
        old.unlink()
    for path, code in paths.items():
        path.write_bytes(code)
    return list(paths)


def output_command(plan: ToolchainPlan, output: str, maker: str) -> str:
    """Return the shell command that asks AWS for an output of a stack and assigns it to a variable of that name.

    - output: the name of the output and of the variable.
    - maker: the name in AWS of the stack that has the output.
    """
    query = f"Stacks[0].Outputs[?OutputKey=='{output}'].OutputValue"
    asked = f"aws cloudformation describe-stacks --region {shlex.quote(plan.region)} --stack-name {maker}"
    return f'{output}=$({asked} \\\n    --query "{query}" --output text)'


def is_fetched(chain: Sequence[str], output: str) -> bool:
    """Whether one of the shell commands in `chain` already assigns this output of a stack to a variable."""
    return any(command.startswith(f"{output}=$(") for command in chain)


# -- the walk -------------------------------------------------------------------------------------------------------


def deploy_toolchain(plan: ToolchainPlan, root: Path, aws: Aws, report: PrintLine) -> dict[str, Any]:
    """Create and update the stacks in AWS as the plan has them, one after the other, and wait for each.

    A stack whose first deployment failed is deleted and created again. Safe to repeat, and to interrupt at any time.

    - root: the project's folder, in which the templates lie.
    - report: called with a line of text when the change of a stack begins, and with one per stack when it has ended.

    Returns {"stacks": name of the stack -> created, updated or unchanged, "outputs": output -> value, of all stacks}.

    Raises UserError before any change for a stack that cannot be changed now, a parameter that nobody gave, values that
    do not fit each other, and a model package group that is there already; later for a change that CloudFormation
    refuses or fails to make, with the first resource that failed.
    """
    present = {stack.name: find_stack(aws, stack.name) for stack in plan.stacks}
    for name, found in present.items():
        if not creation_was_undone(found):
            refuse_unless_changeable(name, aws.names.region, found)
    kept = {key: value for found in present.values() for key, value in parameters_of(found).items()}
    refuse_without_values(plan, kept, aws.names.account)
    refuse_taken_group(plan, present[plan.stacks[0].name], aws)
    done: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for stack in plan.stacks:
        found = present[stack.name]
        if found and creation_was_undone(found):
            report(f"{stack.name}: its first deployment failed, so what is left of it is deleted")
            delete_stack(aws, found)
            found = None
        if plan.needs_code(stack):
            upload_functions(plan, aws, report)
        request = change_set_parameters(stack, parameters_of(found), kept, outputs)
        done[stack.name] = deploy_stack(plan, stack, root, aws, request, new=is_new(found), report=report)
        report(f"{stack.name}: {done[stack.name]}")
        outputs |= outputs_of(find_stack(aws, stack.name))
    return {"stacks": done, "outputs": outputs}


def upload_functions(plan: ToolchainPlan, aws: Aws, report: PrintLine) -> None:
    """Upload the code of the functions that is not in the project's bucket yet.

    - report: called with a line of text per upload.

    Raises UserError when there is an object with the key of a function's code, but with another content.
    """
    bucket = project_bucket(aws)
    for key, code in plan.code.objects.items():
        if bucket.put_once(key, code):
            report(f"uploaded {key}")


def find_stack(aws: Aws, name: str) -> dict[str, Any] | None:
    """Ask AWS for a stack, by its name in AWS. Returns CloudFormation's description, or None when it does not exist."""
    found = none_if_missing(lambda: aws.client("cloudformation").describe_stacks(StackName=name))
    return found["Stacks"][0] if found else None


def refuse_without_values(plan: ToolchainPlan, kept: Mapping[str, str], account: str) -> None:
    """Check that every template parameter without a default has a value, in the plan or in AWS, and that all values
    fit each other and the account (`combination_problem`).

    - kept: template parameter -> value in AWS, of all stacks.

    Raises UserError, with the names of the parameters without a value, or with the problem.
    """
    missing = [name for name in plan.ungiven if name not in kept]
    if missing:
        needed = " ".join(f"{OPTIONS[n]} …" if n in OPTIONS else f"--set {n}=…" for n in missing)
        raise UserError(f"the toolchain needs {', '.join(missing)}. Type the command again with {needed}")
    refused = combination_problem({**kept, **plan.given}, account)
    if refused:
        raise UserError(refused)


def makes_group(found: Mapping[str, Any] | None, wanted: Mapping[str, str]) -> bool:
    """Whether the next deployment makes the model package group.

    - found: CloudFormation's description of the stack `storage`; None when it is missing.
    - wanted: template parameter -> value, as that deployment has them.
    """
    is_there = found is not None and not is_new(found) and not creation_was_undone(found)
    before = parameters_of(found) if is_there else {}
    made = before.get("CreateModelPackageGroup", "yes") == "yes" and (
        before.get("ModelPackageGroupName") == wanted["ModelPackageGroupName"]
    )
    return wanted.get("CreateModelPackageGroup", "yes") == "yes" and not made


def refuse_taken_group(plan: ToolchainPlan, storage: Mapping[str, Any] | None, aws: Aws) -> None:
    """Check that the model package group that the first stack is to make is not there already.

    Whoever may not look is not stopped: CloudFormation then finds it.

    - storage: CloudFormation's description of the first stack; None when it is missing.

    Raises UserError with the two ways to keep the group.
    """
    from botocore.exceptions import ClientError

    if not makes_group(storage, {**parameters_of(storage), **plan.given}):
        return
    group = plan.given["ModelPackageGroupName"]
    try:
        found = none_if_missing(
            lambda: aws.client("sagemaker").describe_model_package_group(ModelPackageGroupName=group)
        )
    except ClientError as error:
        if not client.is_denied(error):
            raise
        return
    if found:
        raise UserError(
            f"the model package group {group} is there already. {keep_group(found['ModelPackageGroupArn'])}"
        )


def keep_group(arn: str) -> str:
    """Return what to do about a model package group that is there although the toolchain is to make it."""
    return (
        f"To keep it, write project.model_package_group: {arn} in config.yaml, or type: scarcegan toolchain deploy "
        "--set CreateModelPackageGroup=no. Or delete it, or name another there."
    )


def parameters_of(found: Mapping[str, Any] | None) -> dict[str, str]:
    """Return template parameter -> value from CloudFormation's description of a stack; {} for None, a missing stack."""
    return {item["ParameterKey"]: item["ParameterValue"] for item in (found or {}).get("Parameters", [])}


def outputs_of(found: Mapping[str, Any] | None) -> dict[str, str]:
    """Return output -> value from CloudFormation's description of a stack; {} for None, a missing stack."""
    return {item["OutputKey"]: item["OutputValue"] for item in (found or {}).get("Outputs", [])}


def change_set_parameters(
    stack: Stack, own: Mapping[str, str], kept: Mapping[str, str], outputs: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the list "Parameters" that CloudFormation's CreateChangeSet takes for a stack.

    Each entry has "ParameterKey", and either "ParameterValue" or "UsePreviousValue": True. A parameter that is an
    output of an earlier stack (Stack.inputs) takes that output, and one that the plan gives (Stack.parameters) takes
    the given value. Any other keeps its value in this stack, else takes the one it has in another stack, which is there
    when an earlier deployment was interrupted before this stack was made. A parameter without any value is left out, so
    that the template's default counts.

    - own: template parameter -> value in AWS, of this stack.
    - kept: template parameter -> value in AWS, of all stacks.
    - outputs: output -> value, of the stacks before this one; every one of Stack.inputs must be there.
    """
    found: list[dict[str, Any]] = []
    for name in stack.declared:
        if name in stack.inputs:
            found.append({"ParameterKey": name, "ParameterValue": outputs[name]})
        elif name in stack.parameters:
            found.append({"ParameterKey": name, "ParameterValue": stack.parameters[name]})
        elif name in own:
            found.append({"ParameterKey": name, "UsePreviousValue": True})
        elif name in kept:
            found.append({"ParameterKey": name, "ParameterValue": kept[name]})
    return found


def deploy_stack(
    plan: ToolchainPlan,
    stack: Stack,
    root: Path,
    aws: Aws,
    parameters: list[dict[str, Any]],
    *,
    new: bool,
    report: PrintLine,
) -> str:
    """Create or update one stack, and wait until that has ended. Returns "created", "updated" or "unchanged".

    - root: the project's folder.
    - parameters: the list that `change_set_parameters` returns.
    - new: whether the stack has no resources yet.
    - report: called with a line of text when the change begins; not called for an unchanged stack.

    Raises UserError when CloudFormation refuses the change, or fails to make it.
    """
    cloudformation = aws.client("cloudformation")
    change_set = {"StackName": stack.name, "ChangeSetName": f"{stack.name}-{int(time.time())}"}
    with refusals_as_sentences(stack):
        cloudformation.create_change_set(
            **change_set,
            ChangeSetType="CREATE" if new else "UPDATE",
            **template_in_request(stack, root, aws),
            Parameters=parameters,
            Capabilities=list(stack.capabilities),
            Tags=[{"Key": key, "Value": value} for key, value in plan.tags.items()],
        )
    made = wait_while_in_progress(lambda: cloudformation.describe_change_set(**change_set), "Status")
    if made["Status"] == "FAILED":
        cloudformation.delete_change_set(**change_set)
        reason = client.flat(made.get("StatusReason", "no reason given"))
        if NO_CHANGES.search(reason):
            return "unchanged"
        raise UserError(refused_sentence(stack, reason))
    report(f"{stack.name}: is being {'created' if new else 'updated'}")
    cloudformation.execute_change_set(**change_set)
    time.sleep(STACK_POLL_SECONDS)
    ended = wait_while_in_progress(
        lambda: cloudformation.describe_stacks(StackName=stack.name)["Stacks"][0], "StackStatus"
    )
    if ended["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise UserError(failure_sentence(aws, stack.name, ended))
    return "created" if new else "updated"


def template_in_request(stack: Stack, root: Path, aws: Aws) -> dict[str, str]:
    """Return the argument of CreateChangeSet that says the template of a stack: its text, or where it lies in S3.

    A large template is uploaded. CloudFormation reads it with the rights of whoever asks.

    - root: the project's folder.

    Raises UserError when there is an object with the key of that template, but with another content.
    """
    path = root / stack.template
    if not stack.template_key:
        return {"TemplateBody": path.read_text(encoding="utf-8")}
    bucket = project_bucket(aws)
    bucket.put_once(stack.template_key, path)
    return {"TemplateURL": f"{bucket.s3.meta.endpoint_url}/{bucket.name}/{stack.template_key}"}


def wait_while_in_progress(describe: Callable[[], dict[str, Any]], key: str) -> dict[str, Any]:
    """Call `describe` at once and every STACK_POLL_SECONDS until the status in its answer is final; return that answer.

    - key: the key of the status in the answer. A status is final unless it ends in _PENDING or _IN_PROGRESS.
    """
    found = describe()
    while found[key].endswith(("_PENDING", "_IN_PROGRESS")):
        time.sleep(STACK_POLL_SECONDS)
        found = describe()
    return found


@contextmanager
def refusals_as_sentences(stack: Stack) -> Iterator[None]:
    """Context manager: replace a ValidationError of CloudFormation inside the block by a UserError.

    Its sentence names the stack and its template. Other errors pass unchanged.

    Raises UserError for a ValidationError.
    """
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        reason = client.flat(error.response["Error"]["Message"])
        raise UserError(
            f"CloudFormation refuses {stack.template.as_posix()} for stack {stack.name}: {reason}."
        ) from error


def refused_sentence(stack: Stack, reason: str) -> str:
    """Return the sentence for users about a change set that CloudFormation could not make.

    - reason: why it could not, in the words of CloudFormation.
    """
    template = stack.template.as_posix()
    return f"CloudFormation refuses {template} for stack {stack.name}: {client.flat(reason)}. It is unchanged."


def failure_sentence(aws: Aws, name: str, ended: Mapping[str, Any]) -> str:
    """Return sentences for users about a stack that failed: its first failed resource, the reason, and what to do next.

    The events of the stack are read from AWS. Without a failed resource among them, the stack's own status and reason
    are given instead.

    - name: the name of the stack in AWS.
    - ended: CloudFormation's description of the stack.
    """
    first = first_failure(aws.client("cloudformation"), name)
    if first is None:
        reason = client.flat(ended.get("StackStatusReason", "no reason given"))
        return f"stack {name} is {ended['StackStatus']}: {reason}. Read its events in CloudFormation's console."
    reason = client.flat(first.get("ResourceStatusReason", "no reason given"))
    what = f"{first['LogicalResourceId']} ({first['ResourceType']})"
    left = "It is left from an earlier toolchain, or another project's (docs/toolchain.md, 'Take it down'). "
    return (
        f"stack {name} failed at {what}: {reason}. {left if 'already exists' in reason else ''}"
        "CloudFormation has undone the changes of this stack. Correct the cause, then type the same command again."
    )


def first_failure(cloudformation: Any, stack: str) -> Mapping[str, Any] | None:
    """Return CloudFormation's event of the first resource that failed in the last change of a stack, None without one.

    The last change is the last creation, update or deletion. Later failures of the same change are mostly resources
    that CloudFormation gave up because of the first. An answer holds part of the events, so it is asked for more until
    that change begins.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackEvents.html

    - cloudformation: boto3's client.
    - stack: the name or the id of the stack.
    """
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack)
    found = None
    for event in (event for page in pages for event in page["StackEvents"]):  # newest first
        status = event.get("ResourceStatus", "")
        of_the_stack = event["ResourceType"] == "AWS::CloudFormation::Stack"
        if of_the_stack and status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"):
            break  # older events are of an earlier change
        if status in ("CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED") and not of_the_stack:
            found = event
    return found


def delete_stack(aws: Aws, found: Mapping[str, Any]) -> None:
    """Delete a stack, and wait until it is gone.

    It is described by its id: a stack that is gone is found by its id for 90 days, as DELETE_COMPLETE, and never by its
    name. Until CloudFormation knows of the deletion, its answers have the status before it, which is waited through.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html

    - found: CloudFormation's description of the stack.

    Raises UserError when CloudFormation refuses to delete it or cannot, with the first resource that failed, and after
    LONGEST_WAIT seconds.
    """
    from botocore.exceptions import ClientError

    name, stack_id = found["StackName"], found["StackId"]
    try:
        aws.client("cloudformation").delete_stack(StackName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        reason = client.flat(error.response["Error"]["Message"])
        raise UserError(f"CloudFormation refuses to delete stack {name}: {reason}.") from error
    time.sleep(STACK_POLL_SECONDS)  # an earlier DELETE_FAILED looks like a new one
    last: dict[str, Any] = {}

    def ended() -> bool:
        last.clear()
        last.update(find_stack(aws, stack_id) or {"StackStatus": "DELETE_COMPLETE"})
        return last["StackStatus"] in ("DELETE_COMPLETE", "DELETE_FAILED")

    wait_until(ended, f"delete stack {name}")
    if last["StackStatus"] == "DELETE_FAILED":
        raise UserError(deletion_failure(aws, name, last))


def deletion_failure(aws: Aws, stack: str, found: Mapping[str, Any]) -> str:
    """Return a sentence for users about a stack that could not be deleted: the first resource that failed, and why.

    - found: CloudFormation's description of the stack.
    """
    first = first_failure(aws.client("cloudformation"), stack)
    reason = client.flat(
        (first or found).get("ResourceStatusReason" if first else "StackStatusReason", "no reason given")
    )
    why = f"{first['LogicalResourceId']} ({first['ResourceType']}): {reason}" if first else reason
    return f"stack {stack} is {found['StackStatus']}: {why}. Correct the cause, then type the same command again."


def wait_until(ended: Callable[[], bool], what: str) -> None:
    """Call `ended` every STACK_POLL_SECONDS until it is true.

    - what: what is waited for, as a line of text.

    Raises UserError after LONGEST_WAIT seconds.
    """
    waited = 0.0
    while not ended():
        if waited >= LONGEST_WAIT:
            raise UserError(
                f"{what}: it has not ended after {LONGEST_WAIT / 60:.0f} minutes. Wait, then type this again."
            )
        time.sleep(STACK_POLL_SECONDS)
        waited += STACK_POLL_SECONDS
