"""Lineage in SageMaker: the models of a set derive from the training's output, and from its evaluation and baseline.

SageMaker itself links a training job to its output, and a package to its own model.tar.gz; between the two lies our
unpacking of one output into four, which only we know of. An artifact is its URI: what exists is used again.
https://docs.aws.amazon.com/sagemaker/latest/dg/lineage-tracking-auto-creation.html

A picture for people: whatever goes wrong here is said in the log, and the registration stands.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scarcegan.registry.contract import ModelPackage
from scarcegan.registry.sagemaker.package_request import MODEL
from scarcegan.registry.sagemaker.register_set import say

if TYPE_CHECKING:
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry

# https://docs.aws.amazon.com/sagemaker/latest/dg/lineage-tracking-entities.html
TYPES = {"models": "Model", "evaluation": "DataSet", "baseline": "DataSet"}
ASSOCIATIONS = {"models": "DerivedFrom", "evaluation": "ContributedTo", "baseline": "ContributedTo"}


def tell(registry: "SageMakerRegistry", packages: Sequence[ModelPackage], sources: Mapping[str, str]) -> None:
    """Link each source (channel -> URI) to the model of each package."""
    try:
        client = registry.client("sagemaker")
        origins = {channel: artifact(client, uri, TYPES[channel]) for channel, uri in sources.items()}
        for package in packages:
            model = artifact(client, registry.uri(package, MODEL), "Model")
            for channel, origin in origins.items():
                associate(client, origin, model, ASSOCIATIONS[channel])
    except Exception as error:
        say(f"the lineage was not told ({type(error).__name__}: {error}); the packages are registered all the same")


def artifact(client: Any, uri: str, kind: str) -> str:
    """The ARN of a URI's artifact, created if there is none."""
    found = client.list_artifacts(SourceUri=uri)["ArtifactSummaries"]
    if found:
        return str(found[0]["ArtifactArn"])
    return str(client.create_artifact(Source={"SourceUri": uri}, ArtifactType=kind)["ArtifactArn"])


def associate(client: Any, source: str, destination: str, kind: str) -> None:
    """Link two artifacts, once."""
    there = client.list_associations(SourceArn=source, DestinationArn=destination)["AssociationSummaries"]
    if not there:
        client.add_association(SourceArn=source, DestinationArn=destination, AssociationType=kind)
