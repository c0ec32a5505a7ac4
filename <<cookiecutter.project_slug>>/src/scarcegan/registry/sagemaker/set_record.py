"""The record of a model set in S3: its packages, and who is registering it. One object, replaced only if unchanged.

This object is what makes a set whole: a package that no record names does not exist for the registry. Registering
begins with a claim in it (for LEASE seconds, renewed with every step) and ends by replacing claim and packages at
once. Whoever was taken for dead and wakes up finds the record changed, and can publish nothing. A package carries the
token of the claim it was made under, so that nobody withdraws what the living have made.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from scarcegan.aws.storage import Bucket, Changed
from scarcegan.errors import UserError
from scarcegan.registry.contract import iso

ROOT = "packages/"
LEASE = timedelta(seconds=120)
POLL_SECONDS = 2.0
READERS = 8


@dataclass(frozen=True)
class Claim:
    """Who registers a set: a name nobody else has, until when it is believed alive, the ARNs it has created."""

    token: str
    until: str
    created: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """packages: {"arn": …, "definition": …, and the facts of base.ModelPackage}. etag: "" before it is written."""

    packages: tuple[Mapping[str, Any], ...] = ()
    claim: Claim | None = None
    etag: str = ""

    def abandoned(self, now: datetime) -> bool:
        return self.claim is not None and self.claim.until < iso(now)


@dataclass(frozen=True)
class Records:
    """The records of one model package group. owner: tells groups that share the bucket apart."""

    bucket: Bucket
    owner: str

    def key(self, set_id: str) -> str:
        return f"{ROOT}{set_id}/set.{self.owner}.json"

    def read(self, set_id: str) -> Record | None:
        found = self.bucket.read_json(self.key(set_id))
        if found is None:
            return None
        value, etag = found
        claim = value["claim"] and Claim(**value["claim"] | {"created": tuple(value["claim"]["created"])})
        return Record(tuple(value["packages"]), claim, etag)

    def all(self) -> dict[str, Record]:
        """set_id -> record, of every set of this group."""
        names = list(self.bucket.folders(ROOT))
        with ThreadPoolExecutor(READERS) as pool:
            found = zip(names, pool.map(self.read, names), strict=True)
            return {name: record for name, record in found if record is not None}

    def write(self, set_id: str, record: Record) -> Record:
        """Replace the record that was read; Changed when it is another by now."""
        claim = record.claim and {**vars(record.claim), "created": list(record.claim.created)}
        value = {"packages": [dict(package) for package in record.packages], "claim": claim}
        try:
            return replace(record, etag=self.bucket.write_json(self.key(set_id), value, record.etag))
        except Exception:  # perhaps it was written, and only the answer was lost: then a second try finds it Changed
            there = self.read(set_id)
            if there is None or (there.packages, there.claim) != (record.packages, record.claim):
                raise
            return there

    def remove(self, set_id: str, record: Record) -> None:
        self.bucket.remove_unchanged(self.key(set_id), record.etag)


@dataclass
class Claimed:
    """A set while we hold the claim on it. created: ARNs of ours; dead: the claim of a dead holder before us."""

    records: Records
    set_id: str
    token: str
    record: Record
    clock: Callable[[], datetime]
    dead: Claim | None = None
    created: list[str] = field(default_factory=list)

    def renew(self, created: str = "") -> None:
        """Say that we are alive, and what we have created. Changed when we were taken for dead."""
        self.created += [created] if created else []  # ours, also when the rest fails
        claim = Claim(self.token, iso(self.clock() + LEASE), tuple(self.created))
        self.record = self.records.write(self.set_id, replace(self.record, claim=claim))

    def publish(self, packages: Sequence[Mapping[str, Any]]) -> None:
        """Make the set visible and let go of it, in one step. Changed when we were taken for dead."""
        self.records.write(self.set_id, Record(tuple(packages), None, self.record.etag))

    def look_again(self) -> bool:
        """Read the record anew, after something went wrong: is the claim in it still ours?"""
        self.record = self.records.read(self.set_id) or Record()
        return self.record.claim is not None and self.record.claim.token == self.token

    def give_up(self) -> None:
        """Let go of the set as it was before."""
        if self.record.packages:
            self.records.write(self.set_id, replace(self.record, claim=None))
        else:
            self.records.remove(self.set_id, self.record)


def take(
    records: Records,
    set_id: str,
    token: str,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    patience_seconds: float,
) -> Claimed:
    """Claim a set, after whoever registers it now has ended or died. UserError when that takes too long."""
    patience = clock() + timedelta(seconds=patience_seconds)
    while True:
        there = records.read(set_id)
        if there is None or there.claim is None or there.abandoned(clock()):
            claimed = try_to_take(records, set_id, there, token, clock)
            if claimed:
                return claimed
        elif clock() > patience:
            raise UserError(
                f"model set {set_id} is being registered by somebody else, who is alive (seen until "
                f"{there.claim.until}). Nothing was registered here; start this again in a few minutes."
            )
        sleep(POLL_SECONDS)


def try_to_take(
    records: Records, set_id: str, there: Record | None, token: str, clock: Callable[[], datetime]
) -> Claimed | None:
    """Claim a set whose record is as it was read; None when somebody was faster."""
    before = there or Record()
    try:
        mine = records.write(set_id, replace(before, claim=Claim(token, iso(clock() + LEASE))))
    except Changed:
        return None
    return Claimed(records, set_id, token, mine, clock, before.claim)
