"""The registry in AWS: a model package group of SageMaker's Model Registry; files and records in the project's bucket.

Only packages that the record of a set lists are shown (see set_record.py); packages registered by hand are ignored.
Decisions are stored with the package in SageMaker, so that those made in Studio count too.

The champion is the package that the deploy pipeline has promoted: champion/package.tar.gz and an SSM parameter with
its ARN.
boto3 is imported when the first method is called.
"""

import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from scarcegan.archive import pack, unpack
from scarcegan.aws.client import DEPLOY_TOOLCHAIN, Aws, client_error_sentence, is_missing, none_if_missing
from scarcegan.aws.names import Names
from scarcegan.aws.storage import Bucket, Changed, download, path_below, split_s3_uri
from scarcegan.errors import UserError, short
from scarcegan.jsonfile import read_json
from scarcegan.pipeline.code import hash_file
from scarcegan.registry.contract import (
    APPROVED,
    FIGURES,
    PENDING,
    REJECTED,
    ApprovalStatus,
    Decision,
    ModelPackage,
    PackageRequest,
    champion_not_rejected,
    check_model,
    check_set,
    figures_digest,
    iso,
    one_line,
    package_json,
    replace_folder,
    unknown_version,
)
from scarcegan.registry.sagemaker.package_facts import DIGESTS, with_decision
from scarcegan.registry.sagemaker.package_group import GROUP_ARN, Group, Response, decisions_of, model_package
from scarcegan.registry.sagemaker.package_request import MODEL, SERVED_DIGEST, served_digest
from scarcegan.registry.sagemaker.register_set import Registration, package_key
from scarcegan.registry.sagemaker.set_record import PARALLEL_READS, Records

CHAMPION_KEY = "champion/package.tar.gz"
NOTE_LENGTH = 1024


class SageMakerRegistry:
    """The Registry (contract.py) on SageMaker's Model Registry and S3.

    - names: the names of the project's resources in AWS.
    - group: the name of the model package group, or the ARN of one that another account shares with this one.
    - session: a boto3 session; None: a new one is made.
    - made_by: ARN of the pipeline execution that registers, or "".
    - clock, sleep: functions that return the present time, and that wait for seconds; tests give their own.
    - user: a function that returns the name to store with decisions; None: the AWS identity of this process.
    - patience_seconds: how long to wait while another process registers the same set.

    Raises UserError for the ARN of a group in another region. Every method but `fetch` and `put` raises it, too, for an
    error that AWS returns.
    """

    def __init__(
        self,
        names: Names,
        group: str,
        session: Any = None,
        *,
        made_by: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        user: Callable[[], str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = 300,
    ) -> None:
        self.names, self._name_or_arn, self._aws, self._made_by = names, group, Aws(names, session), made_by
        self._clock, self._user, self._sleep, self._patience = clock, user or self._caller, sleep, patience_seconds
        shared = GROUP_ARN.fullmatch(group)
        self.group = shared["name"] if shared else group
        self._account = shared["account"] if shared else names.account
        if shared and shared["region"] != names.region:
            raise UserError(
                f"{group} is in another region than the project ({names.region}). "
                "Set project.model_package_group in config.yaml to a group of that region."
            )

    # -- reading ----------------------------------------------------------------------------------------------------

    def packages(self) -> list[ModelPackage]:
        """Return every registered package, lowest version first; [] when there is none. Model sets that are incomplete
        are left out.
        """
        with self.errors_as_sentences():
            return list(self._packages().values())

    def package(self, version: int) -> ModelPackage:
        """Return the package with this version number. Raises UserError when there is none."""
        return self._find(version)[1]

    def arn(self, version: int) -> str:
        """Return the ARN of the package with this version number. Raises UserError when there is none."""
        return self._find(version)[0]

    def champion(self) -> ModelPackage | None:
        """Return the package that `promote` made the champion last, or None if there is none."""
        return next((package for package in self.packages() if package.champion), None)

    def history(self) -> list[Decision]:
        """Return all approvals and rejections of registered packages, oldest first, including those made in Studio."""
        with self.errors_as_sentences():
            found = [decision for _, _, response in self._registered() for decision in decisions_of(response)]
            return sorted(found, key=lambda decision: decision.at)

    def export(self, version: int, folder: Path) -> Path:
        """Write the files of the package with this version into `folder`, with its present status in package.json.
        Returns `folder`.

        An existing folder that does not hold the same is replaced, see replace_folder.

        Raises UserError for an unknown version, missing files, a model.tar.gz that has not the digest that was
        registered, or a package that was changed in SageMaker to serve another model than was evaluated, or with
        another image than the project's.
        """
        arn, package = self._find(version)
        with self.errors_as_sentences(), replace_folder(folder) as unfinished:
            self._fetch(arn, package, unfinished)
        return folder

    def uri(self, package: ModelPackage, path: str) -> str:
        """Return the S3 URI of a file of a package, whether it exists or not.

        - path: inside the package: model.tar.gz, evaluation/…, baseline/… or package.json.
        """
        return self._bucket.uri(package_key(package.set_id, package.definition, path))

    def fetch(self, uri: str, folder: Path, below: str = "", only: Collection[str] = ()) -> Path:
        """Download from S3 into `folder`: a .tar.gz, which is unpacked, or all below a prefix. Returns `folder`.

        uri, below, only: as in `download` of aws/storage.py.

        Raises what that raises.
        """
        return download(self.client("s3"), uri, folder, below, only, self.names.account)

    def put(self, path: Path, uri: str) -> None:
        """Upload the file at `path` to S3 under its own name, and replace an object that has this name there.

        - uri: s3://<bucket>/<folder>, the folder to put it in; the bucket belongs to the project's account.

        Raises UserError for a `uri` that is not an S3 address.
        """
        bucket, folder = split_s3_uri(uri)
        Bucket(self.client("s3"), bucket, self.names.account).put(f"{folder.rstrip('/')}/{path.name}", path)

    # -- deciding ---------------------------------------------------------------------------------------------------

    def approve(self, version: int, note: str = "") -> ModelPackage:
        """Approve the package with this version and return it; AWS then starts the deploy pipeline.

        The package is the champion only after that pipeline has called `promote`. Nothing changes when it is the
        approved champion already; an approved package that is not the champion is approved again.

        - note: why it is approved.

        Raises UserError for an unknown version and a note of more than NOTE_LENGTH characters.
        """
        arn, found = self._find(version)
        return found if found.champion and found.status == APPROVED else self._decide(arn, found, APPROVED, note)

    def reject(self, version: int, note: str = "") -> ModelPackage:
        """Reject the package with this version and return it. Nothing changes when it is rejected already, unless there
        is a new note.

        - note: why it is rejected.

        Raises UserError for the champion, an unknown version and a note of more than NOTE_LENGTH characters.
        """
        arn, found = self._find(version)
        if found.champion:
            raise champion_not_rejected(found)
        known = found.status == REJECTED and one_line(note) in ("", found.note)
        return found if known else self._decide(arn, found, REJECTED, note)

    def promote(self, version: int) -> ModelPackage:
        """Make the approved package with this version the champion, and return it.

        Later trainings are then compared with it, and scoring uses it. Its files are packed into the S3 object
        champion/package.tar.gz, which is replaced in one step; then the SSM parameter of the champion is set to the ARN
        of the package. The same package gives the same bytes.

        Raises UserError for an unknown version and for a package that is not approved, lacks files or was changed in
        SageMaker.
        """
        arn, package = self._find(version)
        if package.status != APPROVED:
            raise UserError(
                f"version {version} ({package.definition}) is {package.status}, only an approved one becomes the "
                f"champion. Type: scarcegan approve {version} --cloud"
            )
        promoted = replace(package, champion=True)
        with self.errors_as_sentences(), TemporaryDirectory() as scratch:
            folder = Path(scratch, "package")
            self._fetch(arn, promoted, folder)
            files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            self._bucket.put(CHAMPION_KEY, pack(files, Path(scratch, "package.tar.gz")))
            self.client("ssm").put_parameter(
                Name=self.names.parameter("champion"), Value=arn, Type="String", Overwrite=True
            )
        return promoted

    def checked_champion(self) -> ModelPackage:
        """Return the package that SSM names as the champion, after comparing it with the record of its registration.

        Raises UserError when there is no champion, or when its package was changed in SageMaker.
        """
        champion = self.champion()
        if champion is None:
            raise UserError(
                f"{self.group} has no champion yet: nothing was released to production. Approve a model first."
            )
        with self.errors_as_sentences():
            self._check_served(self.arn(champion.version), champion)
        return champion

    def check_champion(self) -> None:
        """Check that the champion's files in S3, which scoring reads, are those of the package that SSM names.

        Raises UserError when there is no champion, when its archive holds another package or a changed model, or when
        the package no longer has the digest that it was registered with.
        """
        champion = self.checked_champion()
        with self.errors_as_sentences(), TemporaryDirectory() as scratch:
            folder = self.fetch(self._bucket.uri(CHAMPION_KEY), Path(scratch, "package"))
            facts, digest = read_json(folder / "package.json", "Release the version again."), check_model(folder)
        if (facts.get("version"), digest) != (champion.version, champion.model_digest):
            raise UserError(
                f"{self._bucket.uri(CHAMPION_KEY)} holds version {facts.get('version')} with the model "
                f"{short(digest)}, but the champion is version {champion.version} with "
                f"{short(champion.model_digest)}. A promotion was interrupted, or somebody has "
                "changed the object (CloudTrail). Retry the stage Production of the "
                f"deploy pipeline, or type: scarcegan release --rollback {champion.version}"
            )

    def _decide(self, arn: str, found: ModelPackage, status: ApprovalStatus, note: str) -> ModelPackage:
        """Write a decision to the package with this ARN in SageMaker, and return the package as it then is.

        Status, note and history are written in one call, because a change of metadata alone would send the event of an
        approval again (https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-approve.html).

        - found: the package before.
        - status: the new one, APPROVED or REJECTED.
        - note: why.

        Raises UserError for a note of more than NOTE_LENGTH characters.
        """
        if len(note) > NOTE_LENGTH:
            raise UserError(f"the note has {len(note)} characters, SageMaker allows {NOTE_LENGTH}. Shorten it.")
        with self.errors_as_sentences():
            response = self._group.describe(arn)
            decision = Decision(iso(self._clock()), found.version, cast(Any, status.lower()), self._user(), note)
            properties, removed = with_decision(response.get("CustomerMetadataProperties", {}), decision)
            self.client("sagemaker").update_model_package(
                ModelPackageArn=arn,
                ModelApprovalStatus=status,
                ApprovalDescription=one_line(note),
                CustomerMetadataProperties=properties,
                **({"CustomerMetadataPropertiesToRemove": removed} if removed else {}),
            )
            return self._package(found.set_id, vars(found), self._group.describe(arn), arn if found.champion else "")

    # -- registering ------------------------------------------------------------------------------------------------

    def register_set(self, set_id: str, requests: Sequence[PackageRequest]) -> list[ModelPackage]:
        """Register packages as one model set, pending approval, and return them in the order of the requests.

        All packages are registered or none. Several processes may try at once, and again: the set is registered once,
        and keeps its versions and decisions.

        - set_id: the name of the set.

        Raises UserError for a set that `check_set` refuses, when SageMaker cannot create a package, and when another
        process registers the set for more than patience_seconds or takes over this process's expired claim.
        """
        check_set(requests)
        with self.errors_as_sentences():
            self._registration().register(set_id, requests)
            return self._of_set(set_id, requests)

    def _registration(self) -> Registration:
        """Return a Registration, which registers model sets in this group, with this registry's settings."""
        return Registration(
            self.group,
            self._group,
            self._bucket,
            self._records,
            self.names.image("inference"),
            self._made_by,
            self._clock,
            self._sleep,
            self._patience,
        )

    def _of_set(self, set_id: str, requests: Sequence[PackageRequest]) -> list[ModelPackage]:
        """Return the packages of a registered set: for each request, in order, the one with the request's definition.

        The set's record names them. Each is read with a call of its own, because SageMaker's listing may be out of
        date. Raises KeyError for a definition that the record lacks.
        """
        record, champion = self._records.read(set_id), self._champion()
        found = {facts["definition"]: facts for facts in record.packages} if record else {}
        wanted = [found[request.definition] for request in requests]
        return [self._package(set_id, facts, self._group.describe(facts["arn"]), champion) for facts in wanted]

    # -- SageMaker's side -------------------------------------------------------------------------------------------

    def _packages(self) -> dict[str, ModelPackage]:
        """ARN -> package, for every registered package, lowest version first."""
        champion = self._champion()
        found = {
            response["ModelPackageArn"]: self._package(set_id, facts, response, champion)
            for set_id, facts, response in self._registered()
        }
        return dict(sorted(found.items(), key=lambda item: item[1].version))

    def _find(self, version: int) -> tuple[str, ModelPackage]:
        """Return the ARN of the package with this version, and the package.

        Raises UserError, which lists the versions there are, when there is none.
        """
        with self.errors_as_sentences():
            found = self._packages()
        for arn, package in found.items():
            if package.version == version:
                return arn, package
        there = [package.version for package in found.values()]
        raise unknown_version(self.group, version, there, "scarcegan models --cloud")

    def _registered(self) -> Iterator[tuple[str, Mapping[str, Any], Response]]:
        """Yield (set_id, entry in the set's record, package as SageMaker returns it), in no particular order.

        There is one for each package that is in a record and still exists in SageMaker. AWS is asked, and its errors
        are raised, only when the first is taken.
        """
        records, listed = self._records.all(), self._group.listed()
        named = [(set_id, facts) for set_id, record in records.items() for facts in record.packages]
        there = [(set_id, facts) for set_id, facts in named if facts["arn"] in listed]
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            response = pool.map(lambda each: self._with_decision(listed[each[1]["arn"]]), there)
            for (set_id, facts), package in zip(there, response, strict=True):
                yield set_id, facts, package

    def _with_decision(self, summary: Response) -> Response:
        """Return a package as SageMaker returns it, with all that is needed to tell the decisions about it.

        - summary: its entry in ListModelPackages. It is returned unchanged while the package is pending; one that was
          approved or rejected is read in full, because a listing does not tell by whom and when.
        """
        return (
            summary
            if summary.get("ModelApprovalStatus") == PENDING
            else self._group.describe(summary["ModelPackageArn"])
        )

    def _package(self, set_id: str, facts: Mapping[str, Any], response: Response, champion: str) -> ModelPackage:
        """Return the ModelPackage for a package of this group.

        - set_id: the name of its model set.
        - facts: its entry in that set's record.
        - response: the package as SageMaker returns it.
        - champion: ARN of the champion, "" if there is none.
        """
        return model_package(self.group, set_id, facts, response, champion)

    def _fetch(self, arn: str, package: ModelPackage, folder: Path) -> None:
        """Download the files of a package into `folder`, unpack the model, and write `package` into package.json.

        - arn: the ARN of the package in SageMaker.
        - package: its fields, with the present status.

        Raises UserError when model.tar.gz, package.json or one of FIGURES is missing in S3, when they have not the
        registered digests, or when `_check_served` refuses the package.
        """
        self._check_served(arn, package)
        start = package_key(package.set_id, package.definition, "")
        keys = list(self._bucket.keys(start))
        if not {start + name for name in (MODEL, "package.json", *FIGURES)} <= set(keys):
            raise UserError(
                f"{self._bucket.uri(start)}: the files of version {package.version} were deleted. "
                "Run its pipeline again to restore them."
            )
        for key in keys:
            self._bucket.get(key, path_below(folder, key.removeprefix(start)))
        found = hash_file(folder / MODEL)
        if package.model_digest and found != package.model_digest:
            raise UserError(
                f"version {package.version}: {self._bucket.uri(start + MODEL)} has the SHA-256 {short(found)}, but "
                f"{short(package.model_digest)} was registered, so somebody has changed it. Find out who (CloudTrail), "
                "then register the model again: scarcegan start"
            )
        self._check_figures(package, folder)
        unpack(folder / MODEL, folder / "model")
        (folder / MODEL).unlink()
        described = folder / "package.json"
        config = json.loads(described.read_text(encoding="utf-8"))["config"]
        described.write_text(package_json(package, config), encoding="utf-8")

    def _check_figures(self, package: ModelPackage, folder: Path) -> None:
        """Check that the evaluation and the baseline of a package, downloaded into a folder, are the registered ones.

        Raises UserError when they are not; never for a package that has no digest of them.
        """
        found = figures_digest({name: hash_file(folder / name) for name in FIGURES})
        if package.evaluation_digest and found != package.evaluation_digest:
            raise UserError(
                f"version {package.version}: evaluation and baseline below {self.uri(package, '')} have the digest "
                f"{short(found)}, but {short(package.evaluation_digest)} was registered, so somebody has changed them. "
                "Find out who (CloudTrail), then bring back the first versions, or register the model again: "
                "scarcegan start"
            )

    def _check_served(self, arn: str, package: ModelPackage) -> None:
        """Check that an endpoint of the package with this ARN would serve the evaluated model, with the project's
        image, and that the digests in its properties are those of the set's record.

        All of these can be changed after the registration, by UpdateModelPackage. An older image than today's is
        allowed, if it is the registered one.

        Raises UserError when one of them was changed.
        """
        described = self._group.describe(arn)
        for name in DIGESTS:
            found, wanted = described.get("CustomerMetadataProperties", {}).get(name, ""), getattr(package, name)
            if found != wanted:
                raise UserError(
                    f"version {package.version}: its property {name} is '{short(found)}', but '{short(wanted)}' was "
                    "registered. Somebody has changed the package in SageMaker. Find out who (CloudTrail), then "
                    "register the model again: scarcegan start"
                )
        containers = described.get("InferenceSpecification", {}).get("Containers", [])
        found = [(c.get("ModelDataUrl", ""), re.split("[:@]", c["Image"])[0]) for c in containers]
        wanted = (self.uri(package, MODEL), self.names.image("inference").partition(":")[0])
        if found != [wanted]:
            raise UserError(
                f"version {package.version}: an endpoint would serve {found}, but {wanted} was evaluated. Somebody has "
                "changed the package in SageMaker. Find out who, then register the model again: scarcegan start"
            )
        record = self._records.read(package.set_id)
        recorded = [
            facts.get(SERVED_DIGEST, "") for facts in (record.packages if record else ()) if facts["arn"] == arn
        ]
        if package.evaluation_digest and recorded != [served_digest(containers)]:
            raise UserError(
                f"version {package.version}: an endpoint would not run what was registered (image, environment or "
                f"files: {containers}). Somebody has changed the package in SageMaker. Find out who (CloudTrail), then "
                "register the model again: scarcegan start"
            )

    def _champion(self) -> str:
        """Return the ARN of the champion, from the SSM parameter; "" when there is none."""
        found = none_if_missing(lambda: self.client("ssm").get_parameter(Name=self.names.parameter("champion")))
        return str(found["Parameter"]["Value"]) if found else ""

    def _caller(self) -> str:
        """Return the AWS identity of this process, such as `user/ada` or `assumed-role/Admin/ada`."""
        return str(self.client("sts").get_caller_identity()["Arn"]).split(":", 5)[5]

    @property
    def _bucket(self) -> Bucket:
        """The S3 bucket of the project."""
        return Bucket(self.client("s3"), self.names.bucket, self.names.account)

    @property
    def _group(self) -> Group:
        """The model package group in SageMaker."""
        return Group(self.client("sagemaker"), self._name_or_arn)

    @property
    def _records(self) -> Records:
        """The object that reads and writes the records of this group's model sets in the project's bucket."""
        return Records(self._bucket, f"{self._account}.{self.group}")

    def client(self, service: str) -> Any:
        """Return the boto3 client of an AWS service, such as "s3", always the same. It retries when AWS is busy."""
        return self._aws.client(service)

    @contextmanager
    def errors_as_sentences(self) -> Iterator[None]:
        """Context manager: turn errors of AWS inside the block, and a claim lost to another process, into one sentence.

        Raises UserError for boto3's ClientError and for Changed; other errors pass unchanged.
        """
        from botocore.exceptions import ClientError

        try:
            yield
        except Changed as error:
            raise UserError(
                f"another process is registering the same model set in {self.group}. Nothing was registered; "
                "run the same again in a few minutes."
            ) from error
        except ClientError as error:
            if error.operation_name in ("CreateModelPackage", "ListModelPackages") and is_missing(error):
                raise UserError(
                    f"there is no model package group '{self._name_or_arn}' in {self.names.region}: the toolchain "
                    f"creates it. {DEPLOY_TOOLCHAIN}, or set project.model_package_group to one that exists."
                ) from error
            if error.operation_name == "DescribeModelPackage" and is_missing(error):
                raise UserError(
                    f"a package of {self.group} was deleted while it was being read. Type the same command again."
                ) from error
            raise UserError(client_error_sentence(error, self.names)) from error
