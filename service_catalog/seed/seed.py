"""The build `scarcegan-projects-seed`: renders the template with a form's answers, pushes it, deploys its toolchain.

It needs the repository and AWS's API, and no other network. buildspec.yml brings the template, the libraries and this
file; what is to be done stands in the environment. How it ended is written as JSON into the file that is named:
{"outputs": …, "reason": …} or {"reason": …}.

Modes: create, update and delete. Each may be repeated, and interrupted at any time. An update starts this file once
more, in the mode render, when it needs an earlier version of the template.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).resolve().parents[2]
SOURCE = TEMPLATE / "<<cookiecutter.project_slug>>/src"  # copied as it is into every project
RECORD = ".cruft.json"
MARK = "Scarcegan-Project"  # in the messages of this build's commits of a whole rendered project
KEPT = "storage"  # holds key, buckets and model package group; the next project of that name takes it over
SERVES = "production"
WORKFLOWS = ".github/workflows"
SHOWN = 5  # names in a sentence: CloudFormation takes an answer of 4,096 bytes
POLL_SECONDS = 5
LONGEST_SESSION = 3600  # seconds, of a role that a role assumes
# https://docs.aws.amazon.com/codecommit/latest/userguide/setting-up-https-unixes.html; connections take it too.
GIT = ("git", "-c", "credential.helper=!aws codecommit credential-helper $@", "-c", "credential.UseHttpPath=true")
EMPTY = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's tree without files
IDENTITY = {"NAME": "scarcegan-projects-seed", "EMAIL": "scarcegan-projects-seed@noreply.invalid"}


class Refusal(Exception):
    """A sentence for the person who filled in the form: the fact, what was there, the next move."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    - answers: question of cookiecutter.json -> answer; without those that the template derives.
    - asked: the other fields of the form, and SageMakerProjectId.
    - version: of the template.
    - template_url: where `cruft update` finds the template later.
    - role: the administrator's deployment role, as ARN.
    - parameters: of the toolchain, that the administrator gives to every project.
    """

    mode: str
    answers: Mapping[str, str]
    asked: Mapping[str, str]
    version: str
    template_url: str
    role: str
    parameters: Mapping[str, str]

    @classmethod
    def from_environment(cls) -> "Request":
        asked = json.loads(os.environ["ANSWERS"])
        answers = {name: text for name, text in asked.pop("Answers").items() if text}
        return cls(
            os.environ["MODE"],
            answers,
            asked,
            os.environ["TEMPLATE_VERSION"],
            os.environ["TEMPLATE_REPOSITORY_URL"],
            os.environ["DEPLOYMENT_ROLE_ARN"],
            json.loads(os.environ.get("TOOLCHAIN_PARAMETERS", "") or "{}"),
        )

    @property
    def project(self) -> str:
        return self.answers["project_slug"]

    @property
    def repository(self) -> str:
        return self.asked["Repository"]

    @property
    def url(self) -> str:
        """Where git finds the repository."""
        return repository_url(self.repository, self.asked.get("ConnectionArn", ""), self.answers["aws_region"])

    @cached_property
    def deployer(self) -> Mapping[str, str]:
        """The deployment role's credentials, as the variables that boto3 reads.

        The session's tag opens what is named after the project, and nothing of other projects.
        """
        assumed = boto3_client("sts").assume_role(
            RoleArn=self.role,
            RoleSessionName=f"seed-{self.project}",
            DurationSeconds=LONGEST_SESSION,
            Tags=[{"Key": "project", "Value": self.project}],
        )["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": assumed["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": assumed["SecretAccessKey"],
            "AWS_SESSION_TOKEN": assumed["SessionToken"],
        }

    @cached_property
    def stacks(self) -> Any:
        """CloudFormation, as the deployment role."""
        return self.client("cloudformation")

    def client(self, service: str) -> Any:
        """A boto3 client of a service, as the deployment role."""
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        return boto3_client(service, **{name: self.deployer[name.upper()] for name in names})

    @property
    def heir(self) -> str:
        """The SSM parameter with the address of the repository that may take over what a deleted project leaves."""
        return f"/{self.project}/repository"


def boto3_client(service: str, **credentials: str) -> Any:
    import boto3

    return boto3.client(service, **credentials)


def repository_url(repository: str, connection: str, region: str) -> str:
    """The address for git of a repository behind a connection, or of CodeCommit without one."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if not connection:
        return f"https://git-codecommit.{region}.{domain}/v1/repos/{repository}"
    _, _, service, where, account, kind = connection.split(":")
    return f"https://{service}.{where}.{domain}/git-http/{account}/{where}/{kind.split('/')[1]}/{repository}.git"


# -- the three modes ------------------------------------------------------------------------------------------------


def create(request: Request) -> dict[str, Any]:
    """Push the rendered project into an empty repository and deploy its toolchain."""
    refuse_unusable_connection(request)
    refuse_other_projects(request)
    kept = find_stack(request, KEPT)
    refuse_what_another_project_left(request, kept)
    refuse_existing_group(request, kept)
    with tempfile.TemporaryDirectory() as scratch:
        repository = Repository(request, Path(scratch))
        repository.refuse_foreign()
        project = render(request, Path(scratch))
        done = repository.push_first(project)
        return {"outputs": outputs(request, deploy(request, project), done), "reason": done}


def update(request: Request) -> dict[str, Any]:
    """Propose the changes of template and answers as a branch, and bring the toolchain up to date."""
    refuse_unusable_connection(request)
    refuse_other_projects(request)
    with tempfile.TemporaryDirectory() as scratch:
        repository = Repository(request, Path(scratch))
        project = render(request, Path(scratch))
        branch, done = repository.propose(project)
        return {"outputs": outputs(request, deploy(request, project), done, branch or "none"), "reason": done}


def delete(request: Request) -> dict[str, Any]:
    """Delete the stacks that hold no data. Models, data and repository stay."""
    project = request.project
    kept = find_stack(request, KEPT)
    if kept is None:
        return {"outputs": {}, "reason": f"{project} has no toolchain. The repository stays."}
    owner = parameters(kept).get("SageMakerProjectId")
    if owner != request.asked["SageMakerProjectId"]:
        return {"outputs": {}, "reason": f"the toolchain of {project} belongs to {owner}, so nothing was deleted"}
    refuse_while_production_serves(request)
    request.client("ssm").put_parameter(Name=request.heir, Type="String", Value=request.url, Overwrite=True)
    for name in deletable():
        delete_stack(request, name)
    apart = "".join(f"in account {account} {stacks}; " for account, stacks in elsewhere(request, kept).values())
    return {
        "outputs": {},
        "reason": f"These stay: {apart}the repository {request.repository}; the stack {project}-{KEPT} with the key, "
        f"the buckets, all data and models, and their group; the SageMaker pipelines {project}-training, with its "
        f"copies {project}-training-…, and {project}-scoring; models and endpoint configs of earlier releases; the SSM "
        f"parameters /{project}/champion and {request.heir}; logs; outside of IAM's home region, a stack "
        f"{project}-{request.answers['aws_region']}-forward in that region",
    }


def deletable() -> list[str]:
    """The stacks that hold no data, each before those that it needs, as the project's own code lists them.

    It is not `scarcegan teardown`, which also takes production down, and the storage that a later project of this name
    takes over.
    """
    return [name for name in project_code("aws.teardown").DELETION_ORDER if name not in (SERVES, KEPT)]


def project_code(module: str) -> Any:
    """A module of the project's own code, such as aws.teardown."""
    if str(SOURCE) not in sys.path:
        sys.path.append(str(SOURCE))
    return import_module(f"scarcegan.{module}")


def refuse_while_production_serves(request: Request) -> None:
    """Raises Refusal while there is a production, or releases go to one in another account, where nobody can look.

    A toolchain that was never made, as after a creation that failed, or that is half deleted, releases nothing.
    """
    project, again = request.project, "then delete the project again"
    if find_stack(request, SERVES):
        raise Refusal(
            f"the stack {project}-{SERVES} still serves a model. Delete that stack in CloudFormation if nobody needs "
            f"it, {again}"
        )
    toolchain = find_stack(request, "toolchain")
    if toolchain is None or re.match("CREATE_FAILED|ROLLBACK|DELETE", toolchain["StackStatus"]):
        return
    if SERVES in elsewhere(request, toolchain):
        account, stacks = elsewhere(request, toolchain)[SERVES]
        raise Refusal(
            f"production of {project} is in account {account}, where a model may still be served. If nobody needs it, "
            f"delete there {stacks}, in this order, type `scarcegan toolchain deploy --set ProductionAccount=` in the "
            f"project, {again}"
        )


def elsewhere(request: Request, stack: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Stage -> its account and its stacks there, of the stages that a stack of the toolchain puts into other accounts.

    Of the two stacks the first is deleted first.
    """
    accounts, own = project_code("aws.accounts"), stack["StackId"].split(":")[4]
    return {
        stage: (account, f"the stacks {request.project}-{stage} and {request.project}-{accounts.target_stack(stage)}")
        for stage, account in accounts.accounts_of_stages(parameters(stack), own).items()
    }


def render_here(request: Request) -> dict[str, Any]:
    """Render the template that the environment names, in a process that has imported nothing of another version."""
    project = render(request, Path(os.environ["RENDER_INTO"]), Path(os.environ["RENDER_TEMPLATE"]))
    return {"outputs": {"project": str(project)}, "reason": "rendered"}


MODES: Mapping[str, Callable[[Request], dict[str, Any]]] = {
    "create": create,
    "update": update,
    "delete": delete,
    "render": render_here,
}


def outputs(request: Request, deployed: Mapping[str, str], note: str, branch: str = "none") -> dict[str, str]:
    """The attributes of the custom resource.

    - deployed: output of the toolchain's stacks -> value.
    - note: what was done and is left to do, in a sentence.
    - branch: the one that an update opened.
    """
    return {
        "Repository": request.repository,
        "RepositoryUrl": request.url,
        "BuildPipeline": deployed["BuildPipeline"],
        "DeployPipeline": deployed["DeployPipeline"],
        "ModelPackageGroup": deployed["ModelPackageGroup"],
        "Bucket": deployed["BucketName"],
        "TemplateVersion": request.version,
        "UpdateBranch": branch,
        "Note": note,
    }


# -- what must be so before anything is written ---------------------------------------------------------------------


def refuse_unusable_connection(request: Request) -> None:
    """Raises Refusal for a connection that does not exist, or is not available."""
    from botocore.exceptions import ClientError

    connection = request.asked.get("ConnectionArn", "")
    if not connection:
        if "/" in request.repository:
            raise Refusal(
                f"the repository {request.repository} needs a connection: without one it is CodeCommit's, whose names "
                "have no owner. Name the connection, or for CodeCommit the repository alone"
            )
        return
    try:
        found = boto3_client(connection.split(":")[2]).get_connection(ConnectionArn=connection)["Connection"]
    except ClientError as error:
        raise Refusal(
            f"the connection {connection} cannot be used: {error.response['Error']['Message']}. Ask the administrator "
            "which connections there are"
        ) from error
    if found["ConnectionStatus"] != "AVAILABLE":
        raise Refusal(
            f"the connection {found['ConnectionName']} is {found['ConnectionStatus']}, not AVAILABLE. Open it in the "
            "console (Developer Tools, Connections), choose 'Update pending connection', then try again"
        )


def refuse_other_projects(request: Request) -> None:
    """Raises Refusal when a toolchain of that name belongs to another project, or this one's cannot change so."""
    found = find_stack(request, "toolchain")
    if found is None:
        return
    deployed = parameters(found)
    owner = deployed.get("SageMakerProjectId")
    if owner != request.asked["SageMakerProjectId"]:
        raise Refusal(
            f"there is a toolchain named {request.project} already, of the project {owner}. Choose another name"
        )
    group = request.answers.get("model_package_group", request.project).rpartition("/")[2]
    fixed = {"Repository": request.repository, "ModelPackageGroupName": group}
    for name, value in fixed.items():
        if deployed.get(name, value) != value:
            raise Refusal(
                f"{name} is {deployed[name]} and cannot become {value} in a project that exists. Restore it, or create "
                "another project"
            )


def refuse_what_another_project_left(request: Request, kept: Mapping[str, Any] | None) -> None:
    """Raises Refusal when data of an earlier project of that name is there, and is not left to this repository.

    - kept: CloudFormation's description of the storage stack. One that was rolled back holds nothing.
    """
    if kept is None or kept["StackStatus"] == "ROLLBACK_COMPLETE":
        return
    owner = parameters(kept).get("SageMakerProjectId")
    if owner == request.asked["SageMakerProjectId"] or heir_of(request) == request.url:
        return
    raise Refusal(
        f"the stack {request.project}-{KEPT} holds data and models of an earlier project ({owner}), which are not left "
        f"to the repository {request.repository}. Choose another name. Or an administrator hands them over: aws ssm "
        f"put-parameter --region {request.answers['aws_region']} --overwrite --type String --name {request.heir} "
        f"--value {request.url}"
    )


def heir_of(request: Request) -> str:
    """The address of the repository that may take over what a deleted project left, "" for none."""
    from botocore.exceptions import ClientError

    try:
        return str(request.client("ssm").get_parameter(Name=request.heir)["Parameter"]["Value"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ParameterNotFound":
            return ""
        raise


def refuse_existing_group(request: Request, kept: Mapping[str, Any] | None) -> None:
    """Raises Refusal for the name of a model package group that is there already: the storage stack would make it.

    - kept: CloudFormation's description of that stack, which may have made it.
    """
    from botocore.exceptions import ClientError

    group = request.answers.get("model_package_group", request.project)
    if group.startswith("arn:") or (kept and parameters(kept).get("ModelPackageGroupName") == group):
        return
    try:
        found = request.client("sagemaker").describe_model_package_group(ModelPackageGroupName=group)
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return
        raise
    raise Refusal(
        f"there is a model package group {group} already. To register models in it, give its ARN instead: "
        f"{found['ModelPackageGroupArn']}. Otherwise name another group"
    )


def find_stack(request: Request, name: str) -> Mapping[str, Any] | None:
    """CloudFormation's description of a stack of the project, None when there is none.

    One with a change set that was never executed counts as none: it has neither resources nor parameters.
    """
    from botocore.exceptions import ClientError

    try:
        found: Mapping[str, Any] = request.stacks.describe_stacks(StackName=f"{request.project}-{name}")["Stacks"][0]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise
    return None if found["StackStatus"] == "REVIEW_IN_PROGRESS" else found


def parameters(stack: Mapping[str, Any]) -> dict[str, str]:
    return {item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", [])}


# -- rendering ------------------------------------------------------------------------------------------------------


def render(request: Request, out: Path, template: Path = TEMPLATE) -> Path:
    """Render a template into a folder of `out`, with the record that `cruft create` would write. Returns the folder.

    Raises Refusal when the template refuses an answer, or cannot be rendered.
    """
    from cookiecutter.exceptions import CookiecutterException
    from cookiecutter.generate import generate_context, generate_files
    from cookiecutter.prompt import prompt_for_config
    from jinja2 import TemplateError

    version = (template / "VERSION").read_text(encoding="utf-8").strip()
    if version != request.version:
        raise Refusal(f"the template published as {request.version} says that it is {version}. Publish it again")
    sys.path.insert(0, str(template))  # cookiecutter.json names a module there
    try:
        questions = template / "cookiecutter.json"
        unknown = sorted(set(request.answers) - set(json.loads(questions.read_text(encoding="utf-8"))))
        if unknown:
            raise Refusal(f"version {version} of the template does not ask for {', '.join(unknown)}")
        context = generate_context(str(questions), extra_context=dict(request.answers))
        context["cookiecutter"] = prompt_for_config(context, no_input=True)
        about = {"_template": request.template_url, "_commit": commit_of(template)}
        context["cookiecutter"] |= about
        project = Path(generate_files(repo_dir=str(template), context=context, output_dir=str(out)))
    except (CookiecutterException, TemplateError) as error:
        raise Refusal(f"the template {version} cannot be rendered with these answers: {error}") from error
    record = {
        "template": about["_template"],
        "commit": about["_commit"],
        "checkout": None,  # a tag here would stay the newest version for ever
        "context": context,
        "directory": None,
    }
    text = json.dumps(record, ensure_ascii=False, indent=2, separators=(",", ": "))
    (project / RECORD).write_text(f"{text}\n", encoding="utf-8")
    return project


def commit_of(template: Path) -> str:
    """The commit that `git archive` wrote into a template. Raises Refusal when the zip was made otherwise."""
    hook = (template / "hooks/post_gen_project.py").read_text(encoding="utf-8")
    found = re.search(r'^ARCHIVED = "([0-9a-f]{40})"', hook, re.MULTILINE)
    if not found:
        raise Refusal("the published template does not tell its commit. Publish it again with publish.py")
    return found[1]


def render_earlier(request: Request, record: str, scratch: Path) -> Path:
    """Render the version and the answers that a project's record names. Returns the folder.

    record: the text of cruft's record. Raises Refusal when that version was not published, or renders otherwise.
    """
    told = json.loads(record)["context"]["cookiecutter"]
    commit, answers = facts_of(record)
    out = scratch / "earlier"
    out.mkdir()
    template = published(str(told.get("_version")), out)
    environment = {
        **os.environ,
        "MODE": "render",
        "RENDER_TEMPLATE": str(template),
        "RENDER_INTO": str(out),
        "TEMPLATE_VERSION": (template / "VERSION").read_text(encoding="utf-8").strip(),
        "ANSWERS": json.dumps({"Answers": {**answers, "project_slug": request.project}}),
    }
    answer = out / "result.json"
    done = subprocess.run(
        [sys.executable, "-B", __file__, str(answer)], env=environment, capture_output=True, text=True
    )
    print(done.stderr, end="", file=sys.stderr)
    rendered = json.loads(answer.read_text(encoding="utf-8"))
    if "outputs" not in rendered:
        raise Refusal(rendered["reason"])
    project = Path(rendered["outputs"]["project"])
    if facts(project) != (commit, answers):
        raise Refusal(
            f"its {RECORD} names the commit {commit[:8]} of the template, and the one published as "
            f"{told['_version']} is {facts(project)[0][:8]}, or has other questions"
        )
    return project


def published(version: str, out: Path) -> Path:
    """The folder of a published version of the template: this one's own, or one downloaded into a folder of `out`.

    Raises Refusal when it is not in the bucket.
    """
    if version == (TEMPLATE / "VERSION").read_text(encoding="utf-8").strip():
        return TEMPLATE
    packed = out / "template.zip"
    address = f"s3://{os.environ['TEMPLATES_BUCKET']}/seed/{version}/template.zip"
    done = subprocess.run(
        ["aws", "s3", "cp", "--only-show-errors", address, str(packed)], capture_output=True, text=True
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise Refusal(f"its {RECORD} names version {version} of the template, which cannot be read from the bucket")
    zipfile.ZipFile(packed).extractall(out)
    return out / "template"


# -- the repository -------------------------------------------------------------------------------------------------


class Repository:
    """The project's repository: a bare one here, with what the remote one holds on the branch.

    Raises Refusal when the remote one cannot be read.
    """

    def __init__(self, request: Request, scratch: Path) -> None:
        self.request = request
        self.branch = request.asked.get("Branch") or "main"
        self.folder = scratch / ".git"  # no project is called so
        self.git("init", "--quiet", "--bare", str(self.folder), inside=False)
        told = self.remote("read", "ls-remote", "--heads", "--tags", request.url)
        self.refs = {line.split("\t")[1] for line in told.split("\n") if line}  # a name may hold other line breaks
        self.tip = ""
        if f"refs/heads/{self.branch}" in self.refs:
            self.remote("read", "fetch", "--quiet", request.url, f"refs/heads/{self.branch}")
            self.tip = self.git("rev-parse", "FETCH_HEAD")

    def refuse_foreign(self) -> None:
        """Raises Refusal unless the repository is empty, or begins with this build's push of a project of that name."""
        first = self.git("rev-list", "--max-parents=0", self.tip).splitlines() if self.tip else []
        if self.refs and not any(self.is_mine(commit) for commit in first):
            held = sorted(ref.removeprefix("refs/heads/") for ref in self.refs)
            raise Refusal(
                f"the repository {self.request.repository} is not empty (it holds {listed(held)}). Name an empty one, "
                "made without README and licence"
            )

    def push_first(self, project: Path) -> str:
        """Push a rendered project, unless it is there. Returns what was done.

        Raises Refusal when people have committed on an earlier push of other answers.
        """
        tree, tip = self.tree_of(project), self.tip
        if tip and self.git("rev-parse", f"{tip}^{{tree}}") == tree:
            return f"{self.request.repository} holds this project already"
        if tip and not all(map(self.is_mine, self.git("rev-list", tip).splitlines())):
            if self.recorded()[1] == facts(project)[1]:
                return f"{self.request.repository} holds this project already, with later commits"
            raise Refusal(
                f"the repository {self.request.repository} is not empty: it holds {self.request.project} with other "
                "answers, and people's commits on them. Name an empty one, or give the same answers"
            )
        missing = self.push(project, tree, f"Create {self.request.project} from its template", tip, self.branch)
        return f"{self.request.repository}: the code is on the branch {self.branch}{missing}"

    def propose(self, project: Path) -> tuple[str, str]:
        """Push what a rendered project changes as a branch, for people to merge.

        Returns its name, "" without one, and what is left to do, as a sentence. Raises Refusal when the branch that
        people work on does not record what it was made from.
        """
        if not self.recorded()[0]:
            raise Refusal(
                f"the repository {self.request.repository} has no {RECORD} on {self.branch} that names the template's "
                "commit and the answers, so changes cannot be worked out. Restore that file from an earlier commit, or "
                "name the branch that has it"
            )
        if self.recorded() == facts(project):
            return "", "The code is up to date"
        tree, pushed = self.tree_of(project), self.pushed()
        name = f"template-{self.request.version}-{tree[:7]}-{self.tip[:7]}"  # one of other times may be merged already
        if pushed:  # git knows what the template changed since then
            return name, f"Merge the branch {name}, which holds the changes{self.offer(project, tree, pushed, name)}"
        return self.propose_change(project, tree, name)

    def pushed(self) -> str:
        """The latest commit of a whole rendered project that has today's record; "" when there is none.

        cruft may have brought a later version since then. A squashed or rebased commit is another one, by somebody
        else, and holds people's changes too.
        """
        by_us = (f"--grep=^{MARK}: {self.request.project}$", f"--committer=<{IDENTITY['EMAIL']}>")
        for commit in self.git("rev-list", *by_us, self.tip).splitlines():
            if not self.git("diff", "--name-only", commit, self.tip, "--", RECORD):
                return commit
        return ""

    def propose_change(self, project: Path, tree: str, name: str) -> tuple[str, str]:
        """Push the difference between the recorded version and a rendered project, on top of what people have.

        What people deleted stays deleted, and what they edited stays. Where the difference does not fit, the branch
        holds it alone. tree: of the project. name: of the branch. Returns as `propose` does.
        """
        record = self.git("show", f"{self.tip}:{RECORD}")
        try:
            earlier = render_earlier(self.request, record, self.folder.parent)
        except Refusal as refusal:
            return "", (
                f"The code stays as it is on {self.branch}, because {refusal}. There, `make update` takes the newest "
                "version, and answers are changed by hand"
            )
        old, new = self.tree_of(earlier), tree
        old = self.with_path(RECORD, self.tip, old)  # so that this file alone always fits
        if not self.git("ls-tree", self.tip, WORKFLOWS):  # as where GitHub did not take them
            old, new = (self.with_path(WORKFLOWS, self.tip, one) for one in (old, new))
        base = self.commit(old, "The template as it was", "", whole=False)
        merged = self.merge(base, new)
        if merged.unfitting:
            self.offer(project, new, base, name, whole=False)
            return name, (
                f"The changes do not fit {self.branch} in {listed(merged.unfitting)}. Take them by hand, there: "
                f"`git fetch`, `git cherry-pick origin/{name}`, resolve what git names, push"
            )
        missing = self.offer(project, merged.tree, self.tip, name, whole=False)
        done = f"Merge the branch {name}, which holds the changes{missing}"
        if not merged.left:
            return name, done
        print(self.git("--literal-pathspecs", "diff", old, new, "--", *merged.left))
        return name, (
            f"{done}. Not among them, as {self.branch} deleted a file that the template changed, or changed one that "
            f"the template deleted: {listed(merged.left)}; the build's log shows them"
        )

    def merge(self, base: str, new: str) -> "Merged":
        """Merge what leads from a commit to a tree into what people have, with git's three-way merge.

        https://git-scm.com/docs/git-merge-tree, of git 2.38
        """
        ours = self.commit(f"{self.tip}^{{tree}}", "ours", base, whole=False)
        theirs = self.commit(new, "theirs", base, whole=False)
        try:
            told = self.git("merge-tree", "--write-tree", "--no-messages", "-z", ours, theirs)
        except subprocess.CalledProcessError as error:
            if error.returncode != 1:  # of a merge with conflicts
                raise
            told = error.stdout
        tree, *conflicts = told.split("\0")
        stages: dict[str, str] = {}
        for about, _, path in (line.partition("\t") for line in conflicts if line):
            stages[path] = stages.get(path, "") + about[-1]  # 1: before, 2: ours, 3: theirs
        left = [path for path in stages if stages[path] in ("12", "13")]
        for path in left:
            tree = self.with_path(path, self.tip, tree)
        return Merged(tree, left, sorted(set(stages) - set(left)))

    def with_path(self, path: str, commit: str, tree: str) -> str:
        """A tree whose file or folder is that of a commit, or is missing as there. Returns the tree's name."""
        self.git("read-tree", tree)
        held = self.git("--literal-pathspecs", "ls-files", "-z", "--", path).split("\0")
        gone = "".join(f"0 {'0' * 40}\t{one}\0" for one in held if one)
        there = self.git("ls-tree", "-r", "-z", "--full-tree", commit, path)
        self.git("update-index", "-z", "--index-info", told=f"{gone}{there}")
        return self.git("write-tree")

    def offer(self, project: Path, tree: str, parent: str, branch: str, whole: bool = True) -> str:
        """Push a tree as a new branch, unless it is there. Returns as `push` does."""
        if f"refs/heads/{branch}" in self.refs:
            return ""
        return self.push(
            project, tree, f"Take version {self.request.version} of the template", parent, branch, whole=whole
        )

    def push(self, project: Path, tree: str, subject: str, parent: str, branch: str, whole: bool = True) -> str:
        """Push a commit of a tree onto a branch. Returns what is missing there, as the end of a sentence.

        whole: as of `commit`. GitHub takes workflows only from apps that may write them, and it is not documented that
        the app of AWS's connections may:
        https://docs.github.com/en/rest/authentication/permissions-required-for-github-apps
        """
        try:
            self.push_commit(self.commit(tree, subject, parent, whole), branch)
        except Refusal as refusal:
            if "workflow" not in str(refusal) or not (project / WORKFLOWS).is_dir():
                raise
            without = self.with_path(WORKFLOWS, parent or EMPTY, tree)
            self.push_commit(self.commit(without, subject, parent, whole), branch)
            names = ", ".join(sorted(path.name for path in (project / WORKFLOWS).iterdir()))
            return f", without {WORKFLOWS}/{names}, which GitHub takes from people only: copy it from the template"
        return ""

    def push_commit(self, commit: str, branch: str) -> None:
        self.remote("push to", "push", "--quiet", self.request.url, f"{commit}:refs/heads/{branch}")

    def recorded(self) -> tuple[str, Mapping[str, Any]]:
        """The template's commit and the answers that the branch records; ("", {}) without a record."""
        try:
            return facts_of(self.git("show", f"{self.tip}:{RECORD}"))
        except (ValueError, KeyError, TypeError, subprocess.CalledProcessError):
            return "", {}

    def is_mine(self, commit: str) -> bool:
        """Whether this build made a commit, for a project of that name."""
        return f"{MARK}: {self.request.project}" in self.git("show", "-s", "--format=%B", commit).splitlines()

    def tree_of(self, project: Path) -> str:
        """The tree that holds every file of a rendered project as it is, ignored ones too."""
        self.git("-c", "core.autocrlf=false", "--work-tree", str(project), "add", "--all", "--force", folder=project)
        return self.git("write-tree")

    def commit(self, tree: str, subject: str, parent: str, whole: bool = True) -> str:
        """Make a commit; it is not on a branch yet.

        parent: "" for the first one. whole: whether the tree is a rendered project, without people's changes.
        """
        message = f"{subject}\n\nVersion {self.request.version} of {self.request.template_url}"
        mark = f"\n\n{MARK}: {self.request.project}" if whole else ""
        parents = ["-p", parent] if parent else []
        return self.git("commit-tree", tree, *parents, "-m", f"{message}{mark}")

    def remote(self, act: str, *words: str) -> str:
        """Run git against the remote repository. Raises Refusal with what git said. act: such as "read"."""
        try:
            return self.git(*words)
        except subprocess.CalledProcessError as error:
            told = shown(error.stderr)
            said = "; ".join(line.strip() for line in told.strip().splitlines()[-4:])
            print(told, file=sys.stderr)
            raise Refusal(
                f"git cannot {act} the repository {self.request.repository}: {said}. Correct its name, or ask "
                "whether the seed may use it (the branch's rules; the tag sagemaker=true on connection or repository)"
            ) from error

    def git(self, *words: str, inside: bool = True, folder: Path | None = None, told: str = "") -> str:
        """Run git. told: its stdin. Returns what it printed. Raises CalledProcessError when it fails.

        Names and messages may be any bytes: those that are no UTF-8 are surrogates, as in Python's names of files.
        """
        where = ["--git-dir", str(self.folder)] if inside else []
        identity = {f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in IDENTITY.items()}
        environment = {**os.environ, **identity, "GIT_TERMINAL_PROMPT": "0"}
        done = subprocess.run(
            [*GIT, *where, *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=True,
            input=told,
        )
        return done.stdout.strip()


@dataclass(frozen=True)
class Merged:
    """What git made of a merge.

    - tree: its files. left: files as people have them, which the template changed and they deleted, or the reverse.
    - unfitting: files with a conflict.
    """

    tree: str
    left: list[str]
    unfitting: list[str]


def listed(names: Sequence[str]) -> str:
    """Names for a sentence, not all of them when they are many."""
    rest = len(names) - SHOWN
    return shown(", ".join(names[:SHOWN])) + (f" and {rest} more" if rest > 0 else "")


def shown(text: str) -> str:
    """A text of git's with its bytes that are no UTF-8 written out, such as \\xfc."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def facts(project: Path) -> tuple[str, Mapping[str, Any]]:
    """The template's commit and the answers of a rendered project."""
    return facts_of((project / RECORD).read_text(encoding="utf-8"))


def facts_of(record: str) -> tuple[str, Mapping[str, Any]]:
    """The template's commit and the answers, from the text of cruft's record."""
    told = json.loads(record.encode("utf-8", "surrogateescape"))
    asked = told["context"]["cookiecutter"].items()
    return told["commit"], {name: value for name, value in asked if not name.startswith("_")}


# -- the toolchain --------------------------------------------------------------------------------------------------


def deploy(request: Request, project: Path) -> dict[str, str]:
    """Run `scarcegan toolchain deploy` of a rendered project, as the deployment role. Returns the stacks' outputs.

    Raises Refusal with the last line that it printed when it fails.
    """
    given = {
        **request.parameters,
        "SageMakerProjectId": request.asked["SageMakerProjectId"],
        "Branch": request.asked.get("Branch") or "main",
    }
    words = ["--repository", request.repository]
    words += ["--connection-arn", request.asked.get("ConnectionArn", "")]
    words += ["--notification-email", request.asked.get("NotificationEmail", "")]
    words += [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    path = os.pathsep.join(filter(None, [str(project / "src"), os.environ.get("PYTHONPATH", "")]))
    with tempfile.TemporaryFile("w+") as answer:  # a pipe would fill up while the other one is read
        run = subprocess.Popen(
            [sys.executable, "-B", "-m", "scarcegan", "toolchain", "deploy", *words, "--json"],
            cwd=project,
            env={**os.environ, **request.deployer, "PYTHONPATH": path},
            stdout=answer,
            stderr=subprocess.PIPE,
            text=True,
        )
        last = ""
        for line in run.stderr or ():
            print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
        if run.wait():
            raise Refusal(f"the toolchain was not deployed: {last.removeprefix('error: ')}")
        answer.seek(0)
        return dict(json.load(answer)["outputs"])


def delete_stack(request: Request, name: str) -> None:
    """Delete a stack of the project, if there is one, and wait. Raises Refusal when CloudFormation cannot."""
    found = find_stack(request, name)
    if found is None:
        return
    stack = found["StackId"]  # by its id, a deleted stack can still be described
    print(f"{request.project}-{name}: is being deleted", flush=True)
    request.stacks.delete_stack(StackName=stack)
    earlier = found["StackStatus"]  # CloudFormation may tell it once more
    while (status := request.stacks.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]) != "DELETE_COMPLETE":
        if status.endswith("_FAILED") and status != earlier:
            raise Refusal(
                f"the stack {request.project}-{name} cannot be deleted: {first_failure(request, stack)}. Correct the "
                "cause, then delete the project again"
            )
        earlier = ""
        time.sleep(POLL_SECONDS)


def first_failure(request: Request, stack: str) -> str:
    """The resource that kept a stack from being deleted this time, and why."""
    found = project_code("aws.toolchain").first_failure(request.stacks, stack) or {}
    return f"{found.get('LogicalResourceId', 'no resource')}: {found.get('ResourceStatusReason', 'no reason given')}"


@contextmanager
def result(path: Path) -> Iterator[dict[str, Any]]:
    """What the block puts into the dictionary is written as JSON, and an error as its reason."""
    found: dict[str, Any] = {}
    try:
        yield found
    except Refusal as refusal:
        found["reason"] = str(refusal)
        print(f"\nerror: {refusal}", file=sys.stderr)
    except Exception as error:
        found["reason"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    finally:
        # What no UTF-8 has, such as half of a pair, becomes an escape of JSON.
        path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")


def main(arguments: Sequence[str]) -> int:
    """Do what the environment asks for. Returns the exit code."""
    with result(Path(arguments[0])) as found:
        request = Request.from_environment()
        found |= MODES[request.mode](request)
        print(found["reason"])
    return 0 if "outputs" in found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
