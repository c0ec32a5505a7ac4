"""SageMaker's registry keeps the contract (registry_contract.py), whatever breaks. SageMaker, S3 and SSM are moto's."""

from collections.abc import Iterator

import pytest
from registry_in_moto import GROUP, NAMES, Deployed, aws

from registry_contract import Contract, clock
from scarcegan.registry.sagemaker import SageMakerRegistry


class TestSageMakerRegistryInMoto(Contract):
    """The contract, on a model package group and a bucket."""

    @pytest.fixture
    def registry(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerRegistry]:
        with aws(monkeypatch) as session:
            yield Deployed(NAMES, GROUP, session, clock=clock(), user=lambda: "ada", sleep=lambda _: None)
