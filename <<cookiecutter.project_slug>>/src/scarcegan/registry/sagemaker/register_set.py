"""Registering a model set in SageMaker: completely or not at all, and once, also when a registration is killed.

Files and packages are created first. Then one object in S3, the record of the set, is replaced if no other process has
changed it meanwhile; only packages in a record count as registered (see set_record.py). The next registration, of any
set, deletes what a killed one has left. A package that somebody has approved or rejected is never deleted.
"""

import re
import secrets
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scarcegan.archive import pack
from scarcegan.aws.storage import Bucket
from scarcegan.errors import UserError, short
from scarcegan.registry.contract import PENDING, PackageRequest, model_files, package_json
from scarcegan.registry.sagemaker.package_group import RECORDED_FIELDS, Group, Response, model_package
from scarcegan.registry.sagemaker.package_request import (
    MODEL,
    SERVED_DIGEST,
    create_request,
    description_end,
    served_digest,
)
from scarcegan.registry.sagemaker.set_record import PACKAGES_PREFIX, Claim, ClaimedSet, Records, claim_set, try_to_claim


@dataclass(frozen=True)
class Registration:
    """Registers model sets in one model package group of SageMaker.

    - name: the group's name, also if `group` is addressed by its ARN.
    - bucket: where the files of packages are stored.
    - records: the records of the model sets, in the same bucket.
    - image: URI of the container image that serves the models.
    - made_by: ARN of the pipeline execution that registers, or "".
    - clock, sleep: functions that return the present time, and that wait for seconds; tests give their own.
    - patience_seconds: how long to wait while another process registers the same set.
    """

    name: str
    group: Group
    bucket: Bucket
    records: Records
    image: str
    made_by: str
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    patience_seconds: float

    def register(self, set_id: str, requests: Sequence[PackageRequest]) -> None:
        """Register packages as one model set, pending approval. Nothing changes when all of it is registered already.

        What registrations whose claim has expired have left, of any set of the group, is deleted first. After an error
        the set is as it was before; if that fails, the next registration deletes the rest.

        Raises UserError when another process registers the set for more than patience_seconds, or SageMaker cannot
        create a package; Changed when the claim was lost to another process.
        """
        self.clean_up_abandoned()
        if self.is_complete(set_id, requests):
            return
        token = secrets.token_hex(8)
        claimed = claim_set(self.records, set_id, token, self.clock, self.sleep, self.patience_seconds)
        try:
            self.delete_unrecorded(claimed, claimed.expired_claim)
            self.complete(claimed, requests)
        except BaseException:
            self.undo(claimed)
            raise

    def is_complete(self, set_id: str, requests: Sequence[PackageRequest]) -> bool:
        """Whether all packages of these requests are registered in the set, with their files in S3, and the set has no
        claim, not even an expired one. The approval status of the packages does not matter.
        """
        record = self.records.read(set_id)
        if record is None or record.claim:
            return False
        there = {facts["definition"]: facts["arn"] for facts in record.packages}
        if not all(r.definition in there and self.group.find(there[r.definition]) for r in requests):
            return False
        wanted = {
            package_key(set_id, r.definition, path)
            for r in requests
            for path in [MODEL, "package.json", *single_files(r)]
        }
        return wanted <= set(self.bucket.keys(f"{PACKAGES_PREFIX}{set_id}/"))

    def complete(self, claimed: ClaimedSet, requests: Sequence[PackageRequest]) -> None:
        """Write the missing files and packages of a claimed set, then the record that makes the set visible.

        Raises Changed when the claim was lost to another process, and UserError when SageMaker cannot create a package
        or `put_files` refuses a file.
        """
        there = {facts["definition"]: facts for facts in claimed.record.packages if self.group.find(facts["arn"])}
        self.put_files(claimed, requests, there)
        new = [request.definition for request in requests if request.definition not in there]
        for request in requests:
            if request.definition in new:
                there[request.definition] = self.create(claimed, request)
        for request in requests:
            self.put_package_json(claimed.set_id, there[request.definition], request, request.definition in new)
        claimed.publish(list(there.values()))

    def put_files(
        self, claimed: ClaimedSet, requests: Sequence[PackageRequest], registered: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Upload every file of a claimed set that is not in S3 yet. The files of a registered package and a model are
        never replaced; figures that an earlier registration has left, and that no package has, are.

        - registered: definition -> entry in the set's record, of the packages that are registered already.

        Raises Changed when the claim was lost to another process, and UserError when there is a file with other bytes
        than the request's, or a file is missing of a package that was registered with other figures.
        """
        listed = set(self.bucket.keys(f"{PACKAGES_PREFIX}{claimed.set_id}/"))
        shared = self.is_shared(claimed.set_id, listed)
        with TemporaryDirectory() as scratch:
            for request in requests:
                files = single_files(request)
                wanted = {package_key(claimed.set_id, request.definition, path): path for path in [MODEL, *files]}
                facts = registered.get(request.definition)
                missing = sorted(wanted.keys() - listed if facts else wanted)  # of a new package, what is there is read
                if facts and missing:
                    require_same_figures(facts, request)
                if missing:
                    claimed.renew()
                for key in missing:
                    if wanted[key] == MODEL:
                        self.bucket.put_once(key, pack(model_files(request.files), Path(scratch, MODEL)))
                    elif facts or shared:
                        self.bucket.put_once(key, files[wanted[key]])
                    else:
                        self.bucket.put(key, files[wanted[key]])

    def create(self, claimed: ClaimedSet, request: PackageRequest) -> dict[str, Any]:
        """Create a model package that is pending approval, and wait until it exists.

        Returns its entry for the set's record: its ARN under "arn", SERVED_DIGEST and RECORDED_FIELDS.

        Raises UserError when SageMaker cannot create the package, and Changed when the claim was lost to another
        process.
        """

        def uri(path: str) -> str:
            return self.bucket.uri(package_key(claimed.set_id, request.definition, path))

        arguments = create_request(
            self.group.name_or_arn, claimed.set_id, request, uri, self.image, claimed.token, self.made_by
        )
        arn = self.group.create(arguments)
        claimed.renew(created=arn)
        self.group.wait_until_created(arn, self.sleep)
        served = served_digest(arguments["InferenceSpecification"]["Containers"])
        return {"arn": arn, SERVED_DIGEST: served, **{name: getattr(request, name) for name in RECORDED_FIELDS}}

    def put_package_json(self, set_id: str, facts: Mapping[str, Any], request: PackageRequest, new: bool) -> None:
        """Upload the package.json of a package to its folder in the project's bucket.

        It holds the fields of the package and the settings of its run, which do not all fit into SageMaker.

        - facts: the package's entry in the record of its set, as `create` returns it.
        - request: the one that the package was registered from.
        - new: whether this process has created the package. Only then may an older package.json be replaced, if no
          other group has a record of the set.
        """
        key = package_key(set_id, request.definition, "package.json")
        listed = set(self.bucket.keys(f"{PACKAGES_PREFIX}{set_id}/"))
        if key in listed and (not new or self.is_shared(set_id, listed)):
            return
        package = model_package(self.name, set_id, facts, self.group.describe(facts["arn"]))
        with TemporaryDirectory() as scratch:
            path = Path(scratch, "package.json")
            path.write_text(package_json(package, request.config), encoding="utf-8")
            self.bucket.put(key, path)

    # -- cleaning up ------------------------------------------------------------------------------------------------

    def clean_up_abandoned(self) -> None:
        """Delete the packages and files that killed registrations have left, of every model set of the group.

        Only sets whose claim has expired are changed. Packages in a set's record, and those approved or rejected, stay.
        An error in the deletion is logged to stderr and not raised (see undo).
        """
        for set_id, record in self.records.all().items():
            if record.is_abandoned(self.clock()):
                claimed = try_to_claim(self.records, set_id, record, secrets.token_hex(8), self.clock)
                if claimed:  # otherwise another process was faster
                    self.undo(claimed)

    def undo(self, claimed: ClaimedSet) -> None:
        """Delete what was created in a claimed set, by this process and under the expired claim before, and release the
        claim.

        The packages in the set's record stay; files are deleted only when the record has no package. When the claim was
        lost to another process, only this process's packages are deleted. An error is logged to stderr and not raised;
        the next registration then deletes the rest.
        """
        try:
            ours = claimed.read_again()
            self.delete_unrecorded(claimed, Claim(claimed.token, "", tuple(claimed.created)))
            if ours:
                self.delete_unrecorded(claimed, claimed.expired_claim)
                if not claimed.record.packages:
                    self.remove_files(claimed.set_id)
                claimed.release()
        except Exception as error:
            log(f"model set {claimed.set_id}: cleaning up failed ({error}); the next registration tries again")

    def delete_unrecorded(self, claimed: ClaimedSet, claim: Claim | None) -> None:
        """Delete the packages that were created under `claim`, are not in the set's record, and still await approval.

        They are found in the claim and by listing the group, because a package may exist although the call that created
        it failed. Nothing is deleted when `claim` is None. Approved and rejected packages stay.
        """
        if claim is None:
            return
        end = description_end(claimed.set_id)
        pending = self.group.listed(ModelApprovalStatus=PENDING).items()
        listed = {arn for arn, response in pending if response.get("ModelPackageDescription", "").endswith(end)}
        for arn in sorted({*claim.created, *listed} - arns(claimed.record.packages)):
            response = self.group.find(arn)
            if response and is_undecided(response, claimed.set_id, claim.token):
                self.group.delete(arn)

    def remove_files(self, set_id: str) -> None:
        """Delete the files of a model set from S3, but not its record.

        Nothing is deleted when another group that uses the same bucket has a record of the same set.
        """
        keys = set(self.bucket.keys(f"{PACKAGES_PREFIX}{set_id}/"))
        if not self.is_shared(set_id, keys):
            for key in sorted(keys - {self.records.key(set_id)}):
                self.bucket.remove(key)

    def is_shared(self, set_id: str, keys: Collection[str]) -> bool:
        """Whether another group that uses the same bucket has a record of a model set.

        - keys: of the set's objects in S3.
        """
        start = re.escape(f"{PACKAGES_PREFIX}{set_id}/")
        records = {key for key in keys if re.fullmatch(rf"{start}set\.[^/]*\.json", key)}
        return not records <= {self.records.key(set_id)}


def package_key(set_id: str, definition: str, path: str) -> str:
    """Return the S3 key of a file of a package: packages/<set_id>/<definition>/<path>. path: inside the package."""
    return f"{PACKAGES_PREFIX}{set_id}/{definition}/{path}"


def require_same_figures(facts: Mapping[str, Any], request: PackageRequest) -> None:
    """Check that the files of a registered package, some of which are gone, may be restored from a request.

    - facts: the package's entry in the record of its set.

    Raises UserError when the package was registered with other figures.
    """
    known = facts.get("evaluation_digest", "")
    if known != request.evaluation_digest:
        raise UserError(
            f"files of {facts['arn']} are gone, and this run has other figures ({short(request.evaluation_digest)}, "
            f"registered: {short(known) or 'none'}). Nothing was changed. Bring back the objects' last versions in S3, "
            "or delete the package in SageMaker and start the execution again, which registers a new version."
        )


def single_files(request: PackageRequest) -> dict[str, Path]:
    """Return path inside the package -> file, for the files of a package that are not below model/.

    They are uploaded one by one, those of the model as one archive.
    """
    return {name: path for name, path in request.files.items() if not name.startswith("model/")}


def arns(packages: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the ARNs of packages. packages: entries of a set's record."""
    return {facts["arn"] for facts in packages}


def is_undecided(response: Response, set_id: str, token: str) -> bool:
    """Whether a package was created for a set under the claim with this token, and nobody has approved or rejected it.

    - response: the package as DescribeModelPackage returns it.
    """
    properties = response.get("CustomerMetadataProperties", {})
    ours = (properties.get("set_id"), properties.get("attempt")) == (set_id, token)
    return ours and response.get("ModelApprovalStatus") == PENDING


def log(text: str) -> None:
    """Write "register: " and a text to stderr as one line. In a Lambda function, stderr is its log."""
    print(f"register: {text}", file=sys.stderr, flush=True)
