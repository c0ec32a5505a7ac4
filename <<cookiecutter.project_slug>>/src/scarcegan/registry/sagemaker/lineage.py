"""Lineage in SageMaker: links from the training's output, the evaluation and the baseline to the models of a set.

SageMaker itself links a training job to its output, and a package to its model.tar.gz. The step between, in which one
output is unpacked into several models, is known only here. An artifact is identified by its URI and created only once.
https://docs.aws.amazon.com/sagemaker/latest/dg/lineage-tracking-auto-creation.html

The lineage is for people to look at: an error here is logged, and the packages stay registered.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scarcegan.registry.contract import ModelPackage
from scarcegan.registry.sagemaker.package_request import MODEL
from scarcegan.registry.sagemaker.register_set import log

if TYPE_CHECKING:
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry

# https://docs.aws.amazon.com/sagemaker/latest/dg/lineage-tracking-entities.html
TYPES = {"models": "Model", "evaluation": "DataSet", "baseline": "DataSet"}
ASSOCIATIONS = {"models": "DerivedFrom", "evaluation": "ContributedTo", "baseline": "ContributedTo"}


def record_lineage(registry: "SageMakerRegistry", packages: Sequence[ModelPackage], sources: Mapping[str, str]) -> None:
    """Link, in SageMaker's lineage, the outputs that packages were made of to the model.tar.gz of each package.

    - packages: registered ones.
    - sources: "models", "evaluation" or "baseline" -> the S3 URI of that output; one that is missing is not linked.

    Every error is written to stderr and not raised.
    """
    try:
        client = registry.client("sagemaker")
        origins = {channel: artifact(client, uri, TYPES[channel]) for channel, uri in sources.items()}
        for package in packages:
            model = artifact(client, registry.uri(package, MODEL), "Model")
            for channel, origin in origins.items():
                associate(client, origin, model, ASSOCIATIONS[channel])
    except Exception as error:
        log(f"the lineage was not recorded ({type(error).__name__}: {error}); the packages are registered nevertheless")


def artifact(client: Any, uri: str, kind: str) -> str:
    """Return the ARN of the lineage artifact for a URI; one is created when there is none.

    - client: boto3's SageMaker client.
    - kind: type of a new artifact, such as "Model".
    """
    found = client.list_artifacts(SourceUri=uri)["ArtifactSummaries"]
    if found:
        return str(found[0]["ArtifactArn"])
    return str(client.create_artifact(Source={"SourceUri": uri}, ArtifactType=kind)["ArtifactArn"])


def associate(client: Any, source: str, destination: str, kind: str) -> None:
    """Link two lineage artifacts, given by ARN, unless they are linked already.

    - client: boto3's SageMaker client.
    - kind: type of the association, such as "DerivedFrom".
    """
    there = client.list_associations(SourceArn=source, DestinationArn=destination)["AssociationSummaries"]
    if not there:
        client.add_association(SourceArn=source, DestinationArn=destination, AssociationType=kind)
