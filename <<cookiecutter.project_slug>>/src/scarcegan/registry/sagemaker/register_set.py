"""Registering a model set in SageMaker: whole or not at all, once, whoever is killed or doubled meanwhile.

Files and packages are made first, then one object in S3, the record of the set, is replaced on the condition that
nobody has touched it (see record.py). What a killed registration left is withdrawn by the next one, of whatever set.
Nothing that somebody has approved or rejected is ever deleted.
"""

import re
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scarcegan.aws.archive import pack
from scarcegan.aws.storage import Bucket
from scarcegan.registry.contract import PENDING, PackageRequest, package_json
from scarcegan.registry.sagemaker.package_group import FACTS, Group, Seen, model_package
from scarcegan.registry.sagemaker.package_request import MODEL, create_request, ending
from scarcegan.registry.sagemaker.set_record import ROOT, Claim, Claimed, Records, take, try_to_take


@dataclass(frozen=True)
class Registration:
    """Whoever registers sets in a group. name: the group's; image: serves the models; made_by: ARN of the execution."""

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
        """Register the packages as one set, pending approval; a set that is there already is left as it stands."""
        self.sweep()
        if self.is_whole(set_id, requests):
            return
        token = secrets.token_hex(8)
        claimed = take(self.records, set_id, token, self.clock, self.sleep, self.patience_seconds)
        try:
            self.withdraw(claimed, claimed.dead)
            self.complete(claimed, requests)
        except BaseException:
            self.back_out(claimed)
            raise

    def is_whole(self, set_id: str, requests: Sequence[PackageRequest]) -> bool:
        """Whether nothing is left to do: every package is registered and has its files, and nobody is at it."""
        record = self.records.read(set_id)
        if record is None or record.claim:
            return False
        there = {facts["definition"]: facts["arn"] for facts in record.packages}
        if not all(r.definition in there and self.group.find(there[r.definition]) for r in requests):
            return False
        wanted = {place(set_id, r.definition, path) for r in requests for path in [MODEL, "package.json", *stored(r)]}
        return wanted <= set(self.bucket.keys(f"{ROOT}{set_id}/"))

    def complete(self, claimed: Claimed, requests: Sequence[PackageRequest]) -> None:
        """Write what is missing of the set, then the record that makes it visible."""
        there = {facts["definition"]: facts for facts in claimed.record.packages if self.group.find(facts["arn"])}
        self.store(claimed, requests)
        for request in requests:
            if request.definition not in there:
                there[request.definition] = self.create(claimed, request)
        for request in requests:
            self.write_facts(claimed.set_id, there[request.definition], request)
        claimed.publish(list(there.values()))

    def store(self, claimed: Claimed, requests: Sequence[PackageRequest]) -> None:
        """Put every file of the set that is not there yet."""
        there = set(self.bucket.keys(f"{ROOT}{claimed.set_id}/")) if claimed.record.packages else set()
        with TemporaryDirectory() as scratch:
            for request in requests:
                files = stored(request)
                wanted = {place(claimed.set_id, request.definition, path): path for path in [MODEL, *files]}
                missing = sorted(wanted.keys() - there)
                if missing:
                    claimed.renew()
                for key in missing:
                    path = files.get(wanted[key]) or pack(model_files(request), Path(scratch, MODEL))
                    self.bucket.put(key, path)

    def create(self, claimed: Claimed, request: PackageRequest) -> dict[str, Any]:
        """A model package, pending, which nobody sees here yet; what the record will say of it."""

        def uri(path: str) -> str:
            return self.bucket.uri(place(claimed.set_id, request.definition, path))

        asked = create_request(self.group.asked, claimed.set_id, request, uri, self.image, claimed.token, self.made_by)
        arn = self.group.create(asked)
        claimed.renew(created=arn)
        self.group.settle(arn, self.sleep)
        return {"arn": arn, **{name: getattr(request, name) for name in FACTS}}

    def write_facts(self, set_id: str, facts: Mapping[str, Any], request: PackageRequest) -> None:
        """package.json beside the model, with what has no room in SageMaker."""
        package = model_package(self.name, set_id, facts, self.group.describe(facts["arn"]))
        with TemporaryDirectory() as scratch:
            path = Path(scratch, "package.json")
            path.write_text(package_json(package, request.config), encoding="utf-8")
            self.bucket.put(place(set_id, request.definition, path.name), path)

    # -- withdrawing ------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Withdraw what registrations left that were killed; of any set, as theirs may never be tried again."""
        for set_id, record in self.records.all().items():
            if record.abandoned(self.clock()):
                claimed = try_to_take(self.records, set_id, record, secrets.token_hex(8), self.clock)
                if claimed:  # else somebody was faster
                    self.back_out(claimed)

    def back_out(self, claimed: Claimed) -> None:
        """Leave the set as it was before. What cannot be withdrawn now is withdrawn by the next registration."""
        try:
            ours = claimed.look_again()
            self.withdraw(claimed, Claim(claimed.token, "", tuple(claimed.created)))
            if ours:
                self.withdraw(claimed, claimed.dead)
                if not claimed.record.packages:
                    self.remove_files(claimed.set_id)
                claimed.give_up()
        except Exception as error:
            say(f"model set {claimed.set_id}: not all could be withdrawn ({error}); the next registration tries again")

    def withdraw(self, claimed: Claimed, claim: Claim | None) -> None:
        """Delete the packages made under a claim that the record of the set does not name.

        Found by what the claim says and by a listing: the answer of a creation may have been lost.
        """
        if claim is None:
            return
        end = ending(claimed.set_id)
        pending = self.group.listed(ModelApprovalStatus=PENDING).items()
        listed = {arn for arn, seen in pending if seen.get("ModelPackageDescription", "").endswith(end)}
        for arn in sorted({*claim.created, *listed} - arns(claimed.record.packages)):
            seen = self.group.find(arn)
            if seen and is_undecided(seen, claimed.set_id, claim.token):
                self.group.delete(arn)

    def remove_files(self, set_id: str) -> None:
        """Remove the files of a set, unless a group beside this one has registered it too."""
        keys = list(self.bucket.keys(f"{ROOT}{set_id}/"))
        records = {key for key in keys if re.fullmatch(r"set\.[^/]*\.json", key.removeprefix(f"{ROOT}{set_id}/"))}
        if records <= {self.records.key(set_id)}:
            for key in sorted(set(keys) - records):
                self.bucket.remove(key)


def place(set_id: str, definition: str, path: str) -> str:
    """The key of a package's file."""
    return f"{ROOT}{set_id}/{definition}/{path}"


def model_files(request: PackageRequest) -> dict[str, Path]:
    """The files of the model, by their path inside its archive."""
    return {name.removeprefix("model/"): path for name, path in request.files.items() if name.startswith("model/")}


def stored(request: PackageRequest) -> dict[str, Path]:
    """The files that lie in S3 each for itself: all but the model's, which are one archive."""
    return {name: path for name, path in request.files.items() if not name.startswith("model/")}


def arns(packages: Iterable[Mapping[str, Any]]) -> set[str]:
    return {facts["arn"] for facts in packages}


def is_undecided(seen: Seen, set_id: str, token: str) -> bool:
    """Whether a package was made for a set under this claim, and nobody has approved or rejected it."""
    properties = seen.get("CustomerMetadataProperties", {})
    ours = (properties.get("set_id"), properties.get("attempt")) == (set_id, token)
    return ours and seen.get("ModelApprovalStatus") == PENDING


def say(words: str) -> None:
    print(f"register: {words}", file=sys.stderr, flush=True)
