"""Versions of the template: what one consists of, which are published, and plans to publish, offer and withdraw them.

A version is offered (new projects can choose it), kept for updates (projects that have it can be updated to it), or
withdrawn. In Service Catalog that is the guidance DEFAULT, the guidance DEPRECATED, and not active. For a template in
S3 it is two tags: Studio lists objects with the first, and StudioUserPolicy reads objects with the second.
"""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

from acts import STACK, Act, Aws, Call, UserError, find_stack

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = "service_catalog/project.yaml"
BUILDSPEC = "service_catalog/seed/buildspec.yml"
BUNDLE = "template.bundle"  # key of the template with its history: a git repository as one file
UNPUBLISHED = "Default: unpublished"  # of project.yaml's parameter TemplateVersion
ROUTES = ("service-catalog", "s3")
LISTED, READABLE = "sagemaker:studio-visibility", "servicecatalog:provisioning"
OFFERED, KEPT, WITHDRAWN, ABSENT = "offered", "for updates", "withdrawn", "-"
TAGS = {
    OFFERED: {LISTED: "true", READABLE: "true"},
    KEPT: {LISTED: "false", READABLE: "true"},
    WITHDRAWN: {LISTED: "false", READABLE: "false"},
}
CODEBUILD = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")  # what the seed's image can install
NUMBER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


# -- what a version consists of ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package:
    """A version as files on this machine.

    - files: key in the bucket of templates -> file; project.yaml last, so that nobody sees it before its seed is there.
    - handler, buildspec: likewise one key and file each, of the seed itself.
    - root: the clone that it was made from.
    """

    version: str
    commit: str
    files: Mapping[str, Path]
    handler: tuple[str, Path]
    buildspec: tuple[str, Path]
    root: Path = ROOT

    @property
    def template(self) -> str:
        """The key of project.yaml."""
        return key_of(self.version)


def key_of(version: str) -> str:
    return f"projects/{version}/project.yaml"


def order(version: str) -> tuple[int, ...]:
    """The sort key of a version."""
    return tuple(int(part) for part in version.split("."))


def version_of(root: Path) -> str:
    """The version that is in the file VERSION. Raises UserError when it is no version."""
    version = (root / "VERSION").read_text(encoding="utf-8").strip()
    if not NUMBER.fullmatch(version):
        raise UserError(f"VERSION holds '{version}'. Write three numbers, such as 1.4.0.")
    return version


def commit_of(root: Path, version: str) -> str:
    """The commit to publish.

    Raises UserError where a file tells another version, for a tree that is not clean, and for a version that was tagged
    elsewhere.
    """
    refuse_other_numbers(root, version)
    commit = git(root, "rev-parse", "HEAD")
    tag = tagged_commit(root, version)
    if tag and tag != commit:
        raise UserError(
            f"the tag v{version} is at {tag[:10]}, not at {commit[:10]}. Check out v{version}, or raise VERSION."
        )
    changed = git(root, "status", "--porcelain").splitlines()
    if changed:
        raise UserError(
            f"the working tree is not clean ({changed[0].strip()}{' …' if changed[1:] else ''}). A commit is "
            "published: commit or stash your changes first."
        )
    return commit


def refuse_other_numbers(root: Path, version: str) -> None:
    """Raises UserError where cookiecutter.json or the newest heading of CHANGELOG.md tells another version."""
    for place, pattern in (("cookiecutter.json", r'"_version": *"(.*?)"'), ("CHANGELOG.md", r"^## (\S+)")):
        found = re.search(pattern, (root / place).read_text(encoding="utf-8"), re.MULTILINE)
        told = found[1] if found else "none"
        if told != version:
            raise UserError(
                f"VERSION is {version}, in {place} it is {told}. Write the same number in VERSION, as _version in "
                "cookiecutter.json and as the first heading in CHANGELOG.md."
            )


def tagged_commit(root: Path, version: str) -> str:
    """The commit at a version's tag, "" where the clone has no such tag."""
    return git(root, "rev-parse", "--verify", "--quiet", f"v{version}^{{commit}}", fails=True)


def git(root: Path, *words: str, fails: bool = False) -> str:
    """What git prints. Raises UserError where it fails, unless `fails` says that it may; then it returns ""."""
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    if done.returncode and not fails:
        raise UserError(f"{root} is no git repository with a commit ({done.stderr.strip()}). Publish from a clone.")
    return done.stdout.strip()


def build(root: Path, version: str, commit: str, out: Path, *, fetch: bool = True) -> Package:
    """Write a version into a folder. The same commit gives the same bytes.

    - fetch: download the wheels that are not there. Otherwise those are named by their package, and have no bytes.

    Raises UserError when project.yaml does not have its default version once, or the wheels cannot be downloaded.
    """
    seed = seed_package(root)
    out.mkdir(parents=True, exist_ok=True)
    text = (root / TEMPLATE).read_text(encoding="utf-8")
    if text.count(UNPUBLISHED) != 1:
        raise UserError(f"{TEMPLATE}: '{UNPUBLISHED}' must stand there once, as the default of TemplateVersion.")
    template = write(out / "project.yaml", text.replace(UNPUBLISHED, f"Default: {version}").encode())
    archive = write(out / "template.zip", seed.template_zip(root, commit))
    handler, buildspec = seed.handler_zip(), (root / BUILDSPEC).read_bytes()
    wheels = download(seed.wheel_requirements(), out / "wheels") if fetch else named(seed.wheel_requirements(), out)
    files = {f"seed/{version}/template.zip": archive}
    files |= {f"seed/{version}/wheels/{wheel.name}": wheel for wheel in wheels}
    return Package(
        version,
        commit,
        {**files, key_of(version): template},
        (f"handler/{digest(handler)[:16]}.zip", write(out / "handler.zip", handler)),
        (f"handler/{digest(buildspec)[:16]}.yml", write(out / "buildspec.yml", buildspec)),
        root,
    )


def bundle(root: Path, names: Mapping[str, str], path: Path) -> None:
    """Write the template with its history, as projects take later versions of it: a git bundle.

    It holds no branch of the clone, only what is named. https://git-scm.com/docs/git-bundle

    - names: reference -> its commit, as `references` returns it.
    - path: the file to write.

    Raises UserError in a clone without its whole history.
    """
    if git(root, "rev-parse", "--is-shallow-repository") == "true":
        raise UserError("this clone lacks earlier commits. Type: git fetch --unshallow --tags")
    objects = Path(git(root, "rev-parse", "--path-format=absolute", "--git-path", "objects"))
    with TemporaryDirectory() as folder:
        bare = Path(folder)
        git(bare, "init", "--quiet", "--bare", "--initial-branch", "main")
        (bare / "objects/info/alternates").write_text(f"{objects}\n", encoding="utf-8")
        for name, commit in names.items():
            git(bare, "update-ref", name, commit)
        git(bare, "bundle", "create", "--quiet", str(path.resolve()), "HEAD", "main", "--tags")


def references(commits: Mapping[str, str], withdrawn: Mapping[str, str]) -> dict[str, str]:
    """Name -> commit of what a bundle holds: a tag for each version, and the branch main at the newest one.

    A withdrawn version has a tag of another name: a project that has it is compared with main by that commit.

    - commits: version -> its commit. withdrawn: likewise, of those that are withdrawn.
    """
    tags = {f"refs/tags/v{version}": commits[version] for version in sorted(commits, key=order)}
    tags |= {f"refs/tags/withdrawn-v{version}": withdrawn[version] for version in sorted(withdrawn, key=order)}
    return {**tags, "refs/heads/main": commits[max(commits, key=order)]}


def seed_package(root: Path) -> Any:
    """The module seed/package.py, which says what the seed needs in AWS."""
    return module_at(root / "service_catalog/seed/package.py")


def module_at(path: Path) -> Any:
    """The module in a file."""
    import importlib.util

    about = importlib.util.spec_from_file_location(path.stem, path)
    assert about and about.loader
    module = importlib.util.module_from_spec(about)
    about.loader.exec_module(module)
    return module


def download(requirements: Path, folder: Path) -> list[Path]:
    """Download wheels for the seed's machine. Returns their paths. Raises UserError when pip cannot.

    https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-available.html
    """
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    command += ["--only-binary", ":all:", "--python-version", "3.12", "--implementation", "cp"]
    command += [word for platform in CODEBUILD for word in ("--platform", platform)]
    done = subprocess.run([*command, "-r", str(requirements), "-d", str(folder)], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"the seed's wheels could not be downloaded: {last}. Try again, or set pip's index first.")
    return wheels_of(requirements, folder)


def pins(requirements: Path) -> list[str]:
    """What is pinned, as the beginnings of the wheels' names."""
    text = requirements.read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return [f"{re.sub('[-_.]+', '_', name).lower()}-{version}-" for name, version in found]


def wheels_of(requirements: Path, folder: Path) -> list[Path]:
    """The wheels in a folder that are pinned."""
    wanted = tuple(pins(requirements))
    return sorted(path for path in folder.glob("*.whl") if path.name.lower().startswith(wanted))


def named(requirements: Path, out: Path) -> list[Path]:
    """The wheels that are in the folder; without any, a name for each that is pinned."""
    there = wheels_of(requirements, out / "wheels")
    return there or [out / "wheels" / f"{start}….whl" for start in pins(requirements)]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# -- which are published ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Artifact:
    """A version of the product in Service Catalog. state: OFFERED, KEPT or WITHDRAWN."""

    id: str
    state: str


@dataclass(frozen=True)
class Bundle:
    """The bundle in the bucket. Without one, all is empty.

    - tags: digest of its tags. etag: of the object.
    - withdrawn: the versions that were withdrawn when it was made.
    """

    tags: str = ""
    etag: str = ""
    withdrawn: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """What is published in an account.

    - bucket, product: of the administration's stack; "" for one that there is not.
    - stack: its status; "" without one.
    - artifacts: version -> Artifact.
    - templates: version -> OFFERED, KEPT or WITHDRAWN, of those in S3.
    - unlisted: version -> whether Studio's users can read its template, of those published to Service Catalog only.
    - digests: key -> SHA-256 of the object in the bucket.
    - parameters: of the administration's stack.
    - bundle: of the template.
    - known: whether AWS was asked. Otherwise the product is written as <product>, and nothing is published.
    """

    bucket: str
    product: str
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    unlisted: Mapping[str, bool] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    bundle: Bundle = Bundle()
    stack: str = ""
    known: bool = True

    def template(self, version: str) -> str:
        return self.templates.get(version, ABSENT)

    @property
    def versions(self) -> list[str]:
        """All that are published, oldest first."""
        return sorted({*self.artifacts, *self.templates} - {*self.strays}, key=order)

    @property
    def strays(self) -> list[str]:
        """Names of somebody else's templates in the bucket, and versions of the product, which are no numbers."""
        return sorted(name for name in {*self.artifacts, *self.templates} if not NUMBER.fullmatch(name))

    def is_offered(self, version: str) -> bool:
        artifact = self.artifacts.get(version)
        return self.templates.get(version) == OFFERED or (artifact is not None and artifact.state == OFFERED)

    def is_withdrawn(self, version: str) -> bool:
        """Whether it is withdrawn by any route. A withdrawal that was killed is not undone by what comes after it."""
        return True in self.withdrawn_by_route(version)

    @property
    def withdrawn(self) -> frozenset[str]:
        return frozenset(version for version in self.versions if self.is_withdrawn(version))

    def is_half_withdrawn(self, version: str) -> bool:
        return self.withdrawn_by_route(version) == {True, False}

    def withdrawn_by_route(self, version: str) -> set[bool]:
        """Whether it is withdrawn, of each route that it was published by. Its template in S3 serves both routes."""
        artifact, found = self.artifacts.get(version), set()
        if artifact:
            found.add(artifact.state == WITHDRAWN)
        if version in self.templates:
            found.add(self.templates[version] == WITHDRAWN)
        elif artifact and version in self.unlisted:
            found.add(not self.unlisted[version])
        return found


def bucket_name(aws: Aws, hub: str = "") -> str:
    """The name of the bucket of templates, as administration.yaml has it."""
    return f"scarcegan-projects-{hub or aws.account}-{aws.region}"


def unknown_state(aws: Aws) -> State:
    """What a plan is made from when nobody can be asked."""
    return State(bucket_name(aws), "<product>", known=False)


def read_state(aws: Aws, keys: Sequence[str] = ()) -> State:
    """Ask AWS what is published. keys: whose objects' digests are wanted.

    Raises UserError while the stack is being taken down, as any of it may be gone, and botocore's ClientError for what
    may not be read.
    """
    state = read_stack(aws)
    bucket, product = state.bucket, state.product
    if state.stack.startswith("DELETE_"):
        raise UserError(
            f"stack {STACK} is {state.stack}: it is being taken down. Type publish.py administration teardown, which "
            "completes that."
        )
    about = dict(heads(aws, bucket, [BUNDLE])).get(BUNDLE)
    tags = dict(tags_of_templates(aws, bucket)) if bucket else {}
    listed = {
        version: state for version, found in tags.items() for state in TAGS if TAGS[state].items() <= found.items()
    }
    return replace(
        state,
        artifacts=dict(artifacts(aws, product)) if product else {},
        templates=listed,
        unlisted={version: found.get(READABLE) == "true" for version, found in tags.items() if version not in listed},
        digests={key: about["Metadata"].get("sha256", "") for key, about in heads(aws, bucket, keys)},
        bundle=bundle_of(about) if about else Bundle(),
    )


def read_stack(aws: Aws) -> State:
    """Ask AWS about the administration's stack, and nothing of what it consists of."""
    stack = find_stack(aws) or {}
    outputs = {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", [])}
    return State(
        outputs.get("TemplatesBucket", ""),
        outputs.get("ProductId", ""),
        stack=stack.get("StackStatus", ""),
        parameters=parameters,
    )


def bundle_of(about: Mapping[str, Any]) -> Bundle:
    """The bundle as S3 describes it. about: HeadObject's answer."""
    metadata = about["Metadata"]
    return Bundle(metadata.get("tags", ""), about["ETag"], frozenset(metadata.get("withdrawn", "").split()))


def artifacts(aws: Aws, product: str) -> Iterator[tuple[str, Artifact]]:
    """Version and Artifact of every version of the product."""
    listed = aws.client("servicecatalog").list_provisioning_artifacts(ProductId=product)  # it takes no page token
    for item in listed["ProvisioningArtifactDetails"]:
        state = (KEPT if item.get("Guidance") == "DEPRECATED" else OFFERED) if item.get("Active") else WITHDRAWN
        yield item["Name"], Artifact(item["Id"], state)


def tags_of_templates(aws: Aws, bucket: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Version and tags of every template in S3. One that is not LISTED was published to Service Catalog only."""
    s3 = aws.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="projects/"):
        for item in page.get("Contents", []):
            version = item["Key"].split("/")[1]
            if item["Key"] == key_of(version):
                found = s3.get_object_tagging(Bucket=bucket, Key=item["Key"])["TagSet"]
                yield version, {tag["Key"]: tag["Value"] for tag in found}


def heads(aws: Aws, bucket: str, keys: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Key and HeadObject's answer of those that are there. What publish.py did not write has no metadata."""
    from botocore.exceptions import ClientError

    for key in keys if bucket else ():
        try:
            yield key, aws.client("s3").head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
                raise


# -- plans ------------------------------------------------------------------------------------------------------------


def plan_publish(package: Package, state: State, region: str, routes: Sequence[str] = ROUTES) -> list[Act]:
    """Return the acts that publish a version by the routes. What is published already is left out.

    Raises UserError when there is no product yet, and as plan_files does.
    """
    if state.known and not state.bucket:
        raise UserError("this account has no administration yet. Type: publish.py administration deploy --dry-run")
    if "service-catalog" in routes and not state.product:
        raise UserError(
            "this account has no product: it is a spoke, or its deployment was not finished. Publish in the hub, where "
            "spokes see it at once; or type publish.py administration deploy again."
        )
    template = package.files[package.template]
    plan = plan_files(package, state, routes)
    if "service-catalog" in routes and package.version not in state.artifacts:
        plan.append(
            Call(
                f"{package.version} is a version of the product, and offered",
                "servicecatalog",
                "create_provisioning_artifact",
                {
                    "ProductId": state.product,
                    "Parameters": {
                        "Name": package.version,
                        "Description": f"Commit {package.commit[:10]}",
                        "Info": {"LoadTemplateFromURL": template_url(state.bucket, region, package.version)},
                        "Type": "CLOUD_FORMATION_TEMPLATE",
                    },
                    "IdempotencyToken": f"v{package.version.replace('.', '-')}-{digest(template.read_bytes())[:16]}",
                },
            )
        )
    return plan


def plan_files(package: Package, state: State, routes: Sequence[str] = ROUTES) -> list[Act]:
    """Return the acts that upload a version's files.

    Raises UserError when one is there with other bytes, or the version is withdrawn.
    """
    if state.is_withdrawn(package.version):
        raise UserError(
            f"version {package.version} is withdrawn. Raise VERSION and publish a correction, or bring it back: "
            f"publish.py make-default {package.version}"
        )
    tags = TAGS[OFFERED] if "s3" in routes else {READABLE: "true"}
    plan: list[Act] = []
    for key, path in package.files.items():
        told = {"Tagging": urlencode(tags)} if key == package.template else {}
        plan += plan_bundle(package, state) if key == package.template else []
        plan += upload(key, path, state, f"Version {package.version} is published with other bytes", **told)
    there = package.template in state.digests and package.version not in state.templates
    if there and "s3" in routes:
        plan.append(retag(state, package.version, OFFERED, TAGS[OFFERED]))
    return plan


def plan_bundle(package: Package, state: State) -> list[Act]:
    """Return the act that uploads the template with its history, none when the same is there.

    Projects without a repository of the template are updated from it, to the newest version that is not withdrawn.

    Raises UserError when a newer version is published whose tag this clone lacks.
    """
    commits = {**tagged(package.root, state), package.version: package.commit}
    for version in state.versions:
        if version not in commits and not state.is_withdrawn(version) and order(version) > order(package.version):
            raise lacks_tag(version)
    path = package.files[package.template].with_name(BUNDLE)
    return replace_bundle(package.root, state, commits, state.withdrawn, path)


def plan_bundle_without(withdrawn: frozenset[str], state: State, root: Path, path: Path) -> list[Act]:
    """Return the act after which the bundle ends at the newest version that is not withdrawn; none when it does.

    - withdrawn: the versions that will be. root: a clone. path: where the bundle may be written.

    Raises UserError when no version is left, or this clone lacks the tag of the newest one or of one that comes back.
    """
    left = [version for version in state.versions if version not in withdrawn]
    if not left:
        raise UserError("every version is withdrawn. Publish a correction.")
    commits = tagged(root, state)
    for version in left:
        if version not in commits and (version == left[-1] or version in state.bundle.withdrawn):
            raise lacks_tag(version)
    return replace_bundle(root, state, commits, withdrawn, path)


def tagged(root: Path, state: State) -> dict[str, str]:
    """Version -> commit of what is published, as far as the clone has its tag."""
    found = {version: tagged_commit(root, version) for version in state.versions}
    return {version: commit for version, commit in found.items() if commit}


def lacks_tag(version: str) -> UserError:
    return UserError(f"version {version} is published, and its tag v{version} is not here. Type: git fetch --tags")


def replace_bundle(
    root: Path, state: State, commits: Mapping[str, str], withdrawn: frozenset[str], path: Path
) -> list[Act]:
    """Write the bundle, and return the act that uploads it; none when the same is there.

    - commits: version -> its commit, of the withdrawn ones too.
    """
    there = state.bundle
    held = {version: commit for version, commit in commits.items() if version not in withdrawn}
    names = references(held, {version: commit for version, commit in commits.items() if version in withdrawn})
    tags = digest("".join(f"{name} {commit}\n" for name, commit in names.items()).encode())
    if (tags, withdrawn) == (there.tags, there.withdrawn):
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    bundle(root, names, path)
    about = {"tags": tags} | ({"withdrawn": " ".join(sorted(withdrawn, key=order))} if withdrawn else {})
    asked = {"Bucket": state.bucket, "Key": BUNDLE, "Body": path, "Metadata": about}
    condition = {"IfMatch": there.etag} if there.etag else {"IfNoneMatch": "*"}
    return [Call(f"{BUNDLE} holds {', '.join(sorted(held, key=order))}", "s3", "put_object", {**asked, **condition})]


def upload(key: str, path: Path, state: State, refusal: str, **more: str) -> list[Act]:
    """Return the act that uploads a file, none when it is there. Raises UserError when other bytes are there."""
    found = digest(path.read_bytes()) if path.is_file() else "…"  # in a dry run, a wheel that is not downloaded
    if key in state.digests:
        if state.digests[key] == found:
            return []
        raise UserError(f"{refusal} ({key}). Raise VERSION, commit, and publish that.")
    asked = {"Bucket": state.bucket, "Key": key, "Body": path, "IfNoneMatch": "*", **more}
    return [Call(f"{key} is in the bucket", "s3", "put_object", {**asked, "Metadata": {"sha256": found}})]


def template_url(bucket: str, region: str, version: str) -> str:
    """The address of a template. It equals that of FirstVersion in administration.yaml."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{bucket}.s3.{region}.{domain}/{key_of(version)}"


def plan_state(version: str, wanted: str, state: State) -> list[Act]:
    """Return the acts after which a version is OFFERED, KEPT or WITHDRAWN, wherever it is published.

    Raises UserError for a version that is not published.
    """
    artifact, template = state.artifacts.get(version), state.template(version)
    if artifact is None and template == ABSENT:
        there = ", ".join(state.versions) or "none"
        raise UserError(f"version {version} is not published (published: {there}).")
    plan: list[Act] = []
    if artifact and artifact.state != wanted:
        guidance = {"Guidance": "DEFAULT" if wanted == OFFERED else "DEPRECATED"} if wanted != WITHDRAWN else {}
        asked = {"ProductId": state.product, "ProvisioningArtifactId": artifact.id, "Active": wanted != WITHDRAWN}
        operation = "update_provisioning_artifact"
        plan.append(
            Call(f"{version}: {wanted}, in Service Catalog", "servicecatalog", operation, {**asked, **guidance})
        )
    readable = wanted != WITHDRAWN
    if template not in (wanted, ABSENT):
        plan.append(retag(state, version, wanted, TAGS[wanted]))
    elif state.unlisted.get(version, readable) != readable:  # of Service Catalog only, and stays so
        plan.append(retag(state, version, wanted, {READABLE: TAGS[wanted][READABLE]}))
    return plan


def plan_default(version: str, state: State) -> list[Act]:
    """Return the acts after which a version is the only one that is offered; of the others, none comes back.

    Raises UserError when it is not there.
    """
    plan = plan_state(version, OFFERED, state)
    for other in state.versions:
        if other != version and state.is_offered(other):
            plan += plan_state(other, WITHDRAWN if state.is_withdrawn(other) else KEPT, state)
    return plan


def plan_roll_back(state: State) -> list[Act]:
    """Return the acts after which the version before the newest offered one is the only one that is offered.

    Raises UserError when there is none.
    """
    offered = [version for version in state.versions if state.is_offered(version)]
    if not offered:
        raise UserError("no version is offered. Type: publish.py make-default VERSION")
    older = [v for v in state.versions if order(v) < order(offered[-1]) and not state.is_withdrawn(v)]
    if not older:
        raise UserError(f"there is no version before {offered[-1]} that is not withdrawn. Publish a corrected one.")
    return plan_default(older[-1], state)


def retag(state: State, version: str, wanted: str, tags: Mapping[str, str]) -> Call:
    tag_set = [{"Key": key, "Value": value} for key, value in tags.items()]
    asked = {"Bucket": state.bucket, "Key": key_of(version), "Tagging": {"TagSet": tag_set}}
    return Call(f"{version}: {wanted}, in S3", "s3", "put_object_tagging", asked)
