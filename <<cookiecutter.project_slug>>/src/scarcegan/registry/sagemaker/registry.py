"""The registry in AWS: a model package group of SageMaker's Model Registry; files and records in the project's bucket.

A package exists for who asks here when the record of a set names it (see registering.py); packages registered by hand
are left alone. Decisions are kept with the package, in SageMaker, so that those made in Studio count as well.

The champion is what the deploy pipeline has promoted: champion/package.tar.gz and an SSM parameter with its ARN.
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

from scarcegan.aws.archive import pack, unpack
from scarcegan.aws.client import Aws, is_missing, known, refusal
from scarcegan.aws.names import Names
from scarcegan.aws.storage import Bucket, Changed, fetch, inside, location
from scarcegan.errors import UserError
from scarcegan.registry.contract import (
    APPROVED,
    PENDING,
    REJECTED,
    Event,
    ModelPackage,
    PackageRequest,
    Status,
    check_set,
    iso,
    package_json,
    unknown_version,
    whole,
)
from scarcegan.registry.sagemaker.package_facts import with_decision
from scarcegan.registry.sagemaker.package_group import GROUP, Group, Seen, events_of, model_package
from scarcegan.registry.sagemaker.package_request import MODEL
from scarcegan.registry.sagemaker.register_set import Registration, place
from scarcegan.registry.sagemaker.set_record import READERS, Records

CHAMPION = "champion/package.tar.gz"
NOTE_LENGTH = 1024


class SageMakerRegistry:
    """base.Registry on SageMaker. group: a name, or the ARN of a group that another account shares with this one.

    made_by: ARN of the execution that registers. clock, user: who decides when. patience_seconds: how long to wait
    for somebody else who registers the same set.
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
        self.names, self._asked, self._door, self._made_by = names, group, Aws(names, session), made_by
        self._clock, self._user, self._sleep, self._patience = clock, user or self._caller, sleep, patience_seconds
        shared = GROUP.fullmatch(group)
        self.group = shared["name"] if shared else group
        self._account = shared["account"] if shared else names.account
        if shared and shared["region"] != names.region:
            raise UserError(
                f"{group} lies in another region than the project ({names.region}). Name one of this region."
            )

    # -- reading ----------------------------------------------------------------------------------------------------

    def packages(self) -> list[ModelPackage]:
        """Every package of every complete set, oldest version first."""
        with self.spoken():
            return list(self._packages().values())

    def package(self, version: int) -> ModelPackage:
        return self._find(version)[1]

    def arn(self, version: int) -> str:
        """The ARN of a version; UserError for one that is not there."""
        return self._find(version)[0]

    def champion(self) -> ModelPackage | None:
        """The package that was promoted last."""
        return next((package for package in self.packages() if package.champion), None)

    def history(self) -> list[Event]:
        """Approvals and rejections, oldest first; those made in Studio too."""
        with self.spoken():
            events = [event for _, _, seen in self._registered() for event in events_of(seen)]
            return sorted(events, key=lambda event: event.at)

    def export(self, version: int, folder: Path) -> Path:
        """Write the package's folder; it replaces what is there, and appears whole or not at all."""
        arn, package = self._find(version)
        with self.spoken(), whole(folder) as unfinished:
            self._fetch(arn, package, unfinished)
        return folder

    def uri(self, package: ModelPackage, path: str) -> str:
        """Where a file of the package lies: model.tar.gz, evaluation/…, baseline/…, package.json."""
        return self._bucket.uri(place(package.set_id, package.definition, path))

    def fetch(self, uri: str, folder: Path, below: str = "", only: Collection[str] = ()) -> Path:
        """Bring a channel from S3 into a folder; see storage.fetch."""
        return fetch(self.client("s3"), uri, folder, below, only)

    def put(self, path: Path, uri: str) -> None:
        """Put a file into a folder in S3."""
        bucket, folder = location(uri)
        Bucket(self.client("s3"), bucket).put(f"{folder.rstrip('/')}/{path.name}", path)

    # -- deciding ---------------------------------------------------------------------------------------------------

    def approve(self, version: int, note: str = "") -> ModelPackage:
        """Approve a package; the deploy pipeline follows. Approving the champion again changes nothing."""
        arn, found = self._find(version)
        return found if found.champion and found.status == APPROVED else self._decide(arn, found, APPROVED, note)

    def reject(self, version: int, note: str = "") -> ModelPackage:
        """Reject a package; nothing else changes. The present champion cannot be rejected."""
        arn, found = self._find(version)
        if found.champion:
            raise UserError(
                f"version {version} ({found.definition}) is the champion. Approve another version first, "
                "then reject this one."
            )
        return found if found.status == REJECTED else self._decide(arn, found, REJECTED, note)

    def promote(self, version: int) -> ModelPackage:
        """Make an approved package the champion: the next training is held against it, scoring uses it.

        The archive is one object and so replaced in one step; the same package gives the same bytes.
        """
        arn, package = self._find(version)
        if package.status != APPROVED:
            raise UserError(
                f"version {version} ({package.definition}) is {package.status}, only an approved one becomes the "
                f"champion. Type: scarcegan approve {version} --cloud"
            )
        promoted = replace(package, champion=True)
        with self.spoken(), TemporaryDirectory() as scratch:
            folder = Path(scratch, "package")
            self._fetch(arn, promoted, folder)
            files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            self._bucket.put(CHAMPION, pack(files, Path(scratch, "package.tar.gz")))
            self.client("ssm").put_parameter(
                Name=self.names.parameter("champion"), Value=arn, Type="String", Overwrite=True
            )
        return promoted

    def _decide(self, arn: str, found: ModelPackage, status: Status, note: str) -> ModelPackage:
        """Status, note and the line for the history in one call: an edit of metadata alone would send the event of
        an approval again (https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-approve.html)."""
        if len(note) > NOTE_LENGTH:
            raise UserError(f"the note has {len(note)} characters, SageMaker keeps {NOTE_LENGTH}. Shorten it.")
        with self.spoken():
            seen = self._group.describe(arn)
            event = Event(iso(self._clock()), found.version, cast(Any, status.lower()), self._user(), note)
            properties, gone = with_decision(seen.get("CustomerMetadataProperties", {}), event)
            self.client("sagemaker").update_model_package(
                ModelPackageArn=arn,
                ModelApprovalStatus=status,
                ApprovalDescription=" ".join(note.splitlines()),
                CustomerMetadataProperties=properties,
                **({"CustomerMetadataPropertiesToRemove": gone} if gone else {}),
            )
            return self._package(found.set_id, vars(found), self._group.describe(arn), arn if found.champion else "")

    # -- registering ------------------------------------------------------------------------------------------------

    def register_set(self, set_id: str, requests: Sequence[PackageRequest]) -> list[ModelPackage]:
        """Register the packages as one set: all or none, and once, however often and by how many it is tried."""
        check_set(requests)
        with self.spoken():
            self._registration().register(set_id, requests)
            return self._of_set(set_id, requests)

    def _registration(self) -> Registration:
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
        """The set as it stands; each package looked up by itself, as a listing may lag behind."""
        record, champion = self._records.read(set_id), self._champion()
        found = {facts["definition"]: facts for facts in record.packages} if record else {}
        wanted = [found[request.definition] for request in requests]
        return [self._package(set_id, facts, self._group.describe(facts["arn"]), champion) for facts in wanted]

    # -- SageMaker's side -------------------------------------------------------------------------------------------

    def _packages(self) -> dict[str, ModelPackage]:
        """ARN -> package, oldest version first."""
        champion = self._champion()
        found = {
            seen["ModelPackageArn"]: self._package(set_id, facts, seen, champion)
            for set_id, facts, seen in self._registered()
        }
        return dict(sorted(found.items(), key=lambda item: item[1].version))

    def _find(self, version: int) -> tuple[str, ModelPackage]:
        """A version's ARN and package; UserError with the versions that are there."""
        with self.spoken():
            found = self._packages()
        for arn, package in found.items():
            if package.version == version:
                return arn, package
        there = [package.version for package in found.values()]
        raise unknown_version(self.group, version, there, "scarcegan models --cloud")

    def _registered(self) -> Iterator[tuple[str, Mapping[str, Any], Seen]]:
        """(set_id, facts, package) of each package that a record names; those decided about in full."""
        records, listed = self._records.all(), self._group.listed()
        named = [(set_id, facts) for set_id, record in records.items() for facts in record.packages]
        there = [(set_id, facts) for set_id, facts in named if facts["arn"] in listed]
        with ThreadPoolExecutor(READERS) as pool:
            seen = pool.map(lambda each: self._look(listed[each[1]["arn"]]), there)
            for (set_id, facts), package in zip(there, seen, strict=True):
                yield set_id, facts, package

    def _look(self, summary: Seen) -> Seen:
        """A listed package; in full when somebody has decided about it, for who and when are not in the listing."""
        return (
            summary
            if summary.get("ModelApprovalStatus") == PENDING
            else self._group.describe(summary["ModelPackageArn"])
        )

    def _package(self, set_id: str, facts: Mapping[str, Any], seen: Seen, champion: str) -> ModelPackage:
        return model_package(self.group, set_id, facts, seen, champion)

    def _fetch(self, arn: str, package: ModelPackage, folder: Path) -> None:
        """Bring the files of a package from S3, and say in package.json what is so now."""
        self._check_served(arn, package)
        start = place(package.set_id, package.definition, "")
        keys = list(self._bucket.keys(start))
        if not {start + MODEL, f"{start}package.json"} <= set(keys):
            raise UserError(
                f"{self._bucket.uri(start)}: the files of version {package.version} are gone. "
                "Run its pipeline again to restore them."
            )
        for key in keys:
            self._bucket.get(key, inside(folder, key.removeprefix(start)))
        unpack(folder / MODEL, folder / "model")
        (folder / MODEL).unlink()
        described = folder / "package.json"
        config = json.loads(described.read_text(encoding="utf-8"))["config"]
        described.write_text(package_json(package, config), encoding="utf-8")

    def _check_served(self, arn: str, package: ModelPackage) -> None:
        """UserError when an endpoint would serve another model than was evaluated, or serve it with another image.

        Whoever may approve a package may also point it elsewhere (UpdateModelPackage). Tags of the image may be older.
        """
        containers = self._group.describe(arn).get("InferenceSpecification", {}).get("Containers", [])
        found = [(c.get("ModelDataUrl", ""), re.split("[:@]", c["Image"])[0]) for c in containers]
        wanted = (self.uri(package, MODEL), self.names.image("inference").partition(":")[0])
        if found != [wanted]:
            raise UserError(
                f"version {package.version}: an endpoint would serve {found}, but evaluated was {wanted}. Somebody has "
                "changed the package; find out who, and register the model again: scarcegan start"
            )

    def _champion(self) -> str:
        """The ARN of the champion, or ""."""
        found = known(lambda: self.client("ssm").get_parameter(Name=self.names.parameter("champion")))
        return str(found["Parameter"]["Value"]) if found else ""

    def _caller(self) -> str:
        """Who is asking: `user/ada`, `assumed-role/Admin/ada`."""
        return str(self.client("sts").get_caller_identity()["Arn"]).split(":", 5)[5]

    @property
    def _bucket(self) -> Bucket:
        return Bucket(self.client("s3"), self.names.bucket)

    @property
    def _group(self) -> Group:
        return Group(self.client("sagemaker"), self._asked)

    @property
    def _records(self) -> Records:
        return Records(self._bucket, f"{self._account}.{self.group}")

    def client(self, service: str) -> Any:
        """A boto3 client of the project's region."""
        return self._door.client(service)

    @contextmanager
    def spoken(self) -> Iterator[None]:
        """Turn what AWS refuses into one sentence."""
        from botocore.exceptions import ClientError

        try:
            yield
        except Changed as error:
            raise UserError(
                f"somebody else registers the same set in {self.group} now. Nothing was registered here; "
                "start this again in a few minutes."
            ) from error
        except ClientError as error:
            if error.operation_name in ("CreateModelPackage", "ListModelPackages") and is_missing(error):
                raise UserError(
                    f"there is no model package group '{self._asked}' in {self.names.region}. Deploy "
                    "infra/toolchain.yaml, which makes it, or set project.model_package_group to one that exists."
                ) from error
            if error.operation_name == "DescribeModelPackage" and is_missing(error):
                raise UserError(
                    f"a package of {self.group} was deleted while it was being looked at. Start this again."
                ) from error
            raise UserError(refusal(error, self.names)) from error
