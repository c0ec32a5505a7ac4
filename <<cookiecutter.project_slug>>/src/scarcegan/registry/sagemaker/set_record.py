"""The record of a model set in S3: its packages, and which process is registering it.

The record is one object, which is replaced only if it is unchanged since it was read. The registry ignores
packages that no record lists. A registration first writes a claim into the record, which is valid for LEASE and
renewed with every package; its last step replaces the claim by the packages. A process whose claim has expired
finds the record changed and cannot publish. Each package stores the token of its claim, so that packages of a
valid claim are not deleted.
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
    """The claim of a process on a model set that it is registering, stored in the set's record.

    Until the claim expires, no other process may register the set.

    - token: a random name of this registration.
    - until: when the claim expires, ISO 8601 in UTC.
    - created: the ARNs of the packages that the registration has created so far.
    """

    token: str
    until: str
    created: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """The record of a model set, as it is in S3: its packages, and the claim of a process that is registering it.

    - packages: a dictionary per registered package: its ARN under "arn", and RECORDED_FIELDS (package_group.py).
    - claim: of the process that is registering the set, expired or not; None: none is.
    - etag: of the S3 object when it was read or written, "" when there was none.
    """

    packages: tuple[Mapping[str, Any], ...] = ()
    claim: Claim | None = None
    etag: str = ""

    def is_abandoned(self, now: datetime) -> bool:
        """Whether the record has a claim that has expired at the time `now`, so that its process counts as killed."""
        return self.claim is not None and self.claim.until < iso(now)


@dataclass(frozen=True)
class Records:
    """Reads and writes the records of the model sets of one model package group, in an S3 bucket.

    - owner: "<account>.<group name>", a part of each S3 key, because several groups may use the bucket.
    """

    bucket: Bucket
    owner: str

    def key(self, set_id: str) -> str:
        """Return the S3 key of the record of a model set."""
        return f"{PACKAGES_PREFIX}{set_id}/set.{self.owner}.json"

    def read(self, set_id: str) -> Record | None:
        """Return the record of a model set, read from S3; None when there is none."""
        found = self.bucket.read_json(self.key(set_id))
        if found is None:
            return None
        value, etag = found
        claim = value["claim"] and Claim(**value["claim"] | {"created": tuple(value["claim"]["created"])})
        return Record(tuple(value["packages"]), claim, etag)

    def all(self) -> dict[str, Record]:
        """Return set_id -> record, for every model set of this group that has a record."""
        names = list(self.bucket.folders(PACKAGES_PREFIX))
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            found = zip(names, pool.map(self.read, names), strict=True)
            return {name: record for name, record in found if record is not None}

    def write(self, set_id: str, record: Record) -> Record:
        """Write the record of a model set to S3 and return it with its new etag.

        When the write fails although S3 then holds this record, only the answer was lost, and the record is returned.

        - record: its etag must be that of the object it replaces, "" for a new one.

        Raises Changed when S3 holds another object by now, which another process has written, or the object is gone.
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
        """Delete the record of a model set from S3.

        - record: as it was read or written last.

        Raises Changed when S3 holds another object by now, which another process has written, or the object is gone.
        """
        self.bucket.remove_unchanged(self.key(set_id), record.etag)


@dataclass
class ClaimedSet:
    """A model set that this process has claimed: until the claim expires, no other process may register it.

    - records: reads and writes the set's record in S3.
    - set_id: the name of the set.
    - token: the random name in the claim.
    - record: the set's record as this process read or wrote it last.
    - clock: a function that returns the present time.
    - expired_claim: the expired claim of another process that this claim has replaced; None if there was none.
    - created: the ARNs of the packages this process has created.
    """

    records: Records
    set_id: str
    token: str
    record: Record
    clock: Callable[[], datetime]
    expired_claim: Claim | None = None
    created: list[str] = field(default_factory=list)

    def renew(self, created: str = "") -> None:
        """Let the claim expire LEASE from now, and store the new claim in the record.

        - created: the ARN of a package to add to `self.created`, which the claim holds too; "": none.

        Raises Changed when the claim had expired and another process has replaced it.
        """
        self.created += [created] if created else []  # before the write, so that it is known also when the write fails
        claim = Claim(self.token, iso(self.clock() + LEASE), tuple(self.created))
        self.record = self.records.write(self.set_id, replace(self.record, claim=claim))

    def publish(self, packages: Sequence[Mapping[str, Any]]) -> None:
        """Write the set's record with these packages and without a claim, which makes the set visible.

        - packages: an entry per package of the set, as in Record.packages; they replace the ones in the record.

        Raises Changed when the claim had expired and another process has replaced it.
        """
        self.records.write(self.set_id, Record(tuple(packages), None, self.record.etag))

    def read_again(self) -> bool:
        """Read `record` from S3 again, after an error, and return whether this process still holds the claim."""
        self.record = self.records.read(self.set_id) or Record()
        return self.record.claim is not None and self.record.claim.token == self.token

    def release(self) -> None:
        """Remove the claim from the record, whose packages stay as they are; a record without packages is deleted.

        Raises Changed when another process has changed the record.
        """
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

    - token: a random name for the new claim.
    - clock, sleep: functions that return the present time, and that wait for seconds.

    Raises UserError when the wait takes longer than patience_seconds.
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
    """Claim a model set, or return None when another process has changed its record since it was read.

    - there: the record as it was read, None when there was none. A claim in it is replaced even if it has not expired,
      so the caller must check that first.
    - token: a random name for the new claim.
    - clock: a function that returns the present time.
    """
    before = there or Record()
    try:
        mine = records.write(set_id, replace(before, claim=Claim(token, iso(clock() + LEASE))))
    except Changed:
        return None
    return ClaimedSet(records, set_id, token, mine, clock, before.claim)
