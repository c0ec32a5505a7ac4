"""The record of a model set in S3: its packages, and which process is registering it.

The record is one object, which is replaced only if it is unchanged since it was read. The registry ignores packages
that no record lists. A registration first writes a claim into the record, which is valid for LEASE and renewed with
every package; its last step replaces the claim by the packages. A process whose claim has expired finds the record
changed and cannot publish. Each package stores the token of its claim, so that packages of a valid claim are not
deleted.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from scarcegan.aws.storage import Bucket, Changed
from scarcegan.errors import UserError
from scarcegan.registry.contract import iso

PACKAGES_PREFIX = "packages/"  # of the S3 keys of all packages and records
LEASE = timedelta(seconds=120)
CLAIM_POLL_SECONDS = 2.0
PARALLEL_READS = 8


@dataclass(frozen=True)
class Claim:
    """The claim of a process that is registering a model set, stored in the set's record.

    token: a random name of this registration.
    until: when the claim expires, ISO 8601 in UTC.
    created: the ARNs of the packages it has created so far.
    """

    token: str
    until: str
    created: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """What S3 holds about a model set: its packages, and the claim of a process that is registering it.

    packages: for each package its ARN under "arn", and the values of RECORDED_FIELDS (package_group.py).
    claim: of the process that is registering the set, or None.
    etag: of the S3 object that was read, "" when there was none.
    """

    packages: tuple[Mapping[str, Any], ...] = ()
    claim: Claim | None = None
    etag: str = ""

    def is_abandoned(self, now: datetime) -> bool:
        """Whether the record has a claim that has expired."""
        return self.claim is not None and self.claim.until < iso(now)


@dataclass(frozen=True)
class Records:
    """Reads and writes the records of the model sets of one group, in a bucket.

    owner: account and name of the model package group, a part of each S3 key.
    """

    bucket: Bucket
    owner: str

    def key(self, set_id: str) -> str:
        """The S3 key of the record of a model set."""
        return f"{PACKAGES_PREFIX}{set_id}/set.{self.owner}.json"

    def read(self, set_id: str) -> Record | None:
        """The record of a model set, or None when there is none."""
        found = self.bucket.read_json(self.key(set_id))
        if found is None:
            return None
        value, etag = found
        claim = value["claim"] and Claim(**value["claim"] | {"created": tuple(value["claim"]["created"])})
        return Record(tuple(value["packages"]), claim, etag)

    def all(self) -> dict[str, Record]:
        """set_id -> record, for every model set of this group."""
        names = list(self.bucket.folders(PACKAGES_PREFIX))
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            found = zip(names, pool.map(self.read, names), strict=True)
            return {name: record for name, record in found if record is not None}

    def write(self, set_id: str, record: Record) -> Record:
        """Replace the record of a model set and return it with its new etag.

        Raises Changed when the record is no longer the one that was read, as its etag tells.
        """
        claim = record.claim and {**vars(record.claim), "created": list(record.claim.created)}
        value = {"packages": [dict(package) for package in record.packages], "claim": claim}
        try:
            return replace(record, etag=self.bucket.write_json(self.key(set_id), value, record.etag))
        except Exception:  # the write may have succeeded although its answer was lost; a retry then raises Changed
            there = self.read(set_id)
            if there is None or (there.packages, there.claim) != (record.packages, record.claim):
                raise
            return there

    def remove(self, set_id: str, record: Record) -> None:
        """Delete the record of a model set. Raises Changed when it is no longer the one that was read."""
        self.bucket.remove_unchanged(self.key(set_id), record.etag)


@dataclass
class ClaimedSet:
    """A model set that this process has claimed, which means that no other process may register it now.

    record: the set's record as it was read or written last.
    expired_claim: the expired claim of another process, which this one has replaced, or None.
    created: the ARNs of the packages this process has created.
    """

    records: Records
    set_id: str
    token: str
    record: Record
    clock: Callable[[], datetime]
    expired_claim: Claim | None = None
    created: list[str] = field(default_factory=list)

    def renew(self, created: str = "") -> None:
        """Extend the claim by LEASE, and add a package to what it has created.

        Raises Changed when the claim had expired and another process has replaced it.
        """
        self.created += [created] if created else []  # before the write, so that it is known also when the write fails
        claim = Claim(self.token, iso(self.clock() + LEASE), tuple(self.created))
        self.record = self.records.write(self.set_id, replace(self.record, claim=claim))

    def publish(self, packages: Sequence[Mapping[str, Any]]) -> None:
        """Replace the claim by the packages of the set, which makes the set visible.

        Raises Changed when the claim had expired and another process has replaced it.
        """
        self.records.write(self.set_id, Record(tuple(packages), None, self.record.etag))

    def read_again(self) -> bool:
        """Read the record again, after an error, and return whether this process still holds the claim."""
        self.record = self.records.read(self.set_id) or Record()
        return self.record.claim is not None and self.record.claim.token == self.token

    def release(self) -> None:
        """Remove the claim and leave the set as it was; a record without packages is deleted."""
        if self.record.packages:
            self.records.write(self.set_id, replace(self.record, claim=None))
        else:
            self.records.remove(self.set_id, self.record)


def claim_set(
    records: Records,
    set_id: str,
    token: str,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    patience_seconds: float,
) -> ClaimedSet:
    """Claim a model set in order to register it. It waits while another process has a claim that has not expired.

    token: a random name for the new claim.
    Raises UserError when that takes longer than patience_seconds.
    """
    patience = clock() + timedelta(seconds=patience_seconds)
    while True:
        there = records.read(set_id)
        if there is None or there.claim is None or there.is_abandoned(clock()):
            claimed = try_to_claim(records, set_id, there, token, clock)
            if claimed:
                return claimed
        elif clock() > patience:
            raise UserError(
                f"model set {set_id} is being registered by another process (its claim is valid until "
                f"{there.claim.until}). Nothing was registered; run the same again in a few minutes."
            )
        sleep(CLAIM_POLL_SECONDS)


def try_to_claim(
    records: Records, set_id: str, there: Record | None, token: str, clock: Callable[[], datetime]
) -> ClaimedSet | None:
    """Claim a model set whose record is unchanged since it was read; None when another process was faster."""
    before = there or Record()
    try:
        mine = records.write(set_id, replace(before, claim=Claim(token, iso(clock() + LEASE))))
    except Changed:
        return None
    return ClaimedSet(records, set_id, token, mine, clock, before.claim)
