"""A VPC: whether what is named exists in it, and which VPC endpoints it needs when it has no way to the internet.

What needs an endpoint is derived from what runs in the VPC: builds and all functions, when the toolchain has a VpcId;
jobs and endpoints, when config.yaml has cloud.subnets. SageMaker pulls images and writes logs of
jobs and endpoints itself, outside the VPC, so that they need S3 only.
https://docs.aws.amazon.com/sagemaker/latest/dg/train-vpc.html
https://docs.aws.amazon.com/sagemaker/latest/dg/host-vpc.html
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scarcegan.aws.client import Aws
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING, WOULD_FAIL, Finding
from scarcegan.pipeline.config import Config

# boto3's service -> the end of the name of its VPC endpoint. S3's is a gateway, all others are interfaces.
# https://docs.aws.amazon.com/vpc/latest/privatelink/aws-services-privatelink-support.html
ENDPOINTS = {
    "s3": "s3",
    "sagemaker": "sagemaker.api",
    "sagemaker-runtime": "sagemaker.runtime",
    "ssm": "ssm",
    "sts": "sts",
    "cloudformation": "cloudformation",
    "application-autoscaling": "application-autoscaling",
    "cloudwatch": "monitoring",
    "codepipeline": "codepipeline",
    "logs": "logs",
    "mlflow": "experiments",
    "sns": "sns",
    "codecommit": "codecommit",
    "git-codecommit": "git-codecommit",
    "codeconnections": "codeconnections.api",
    "codestar-connections": "codestar-connections.api",
}
# What runs in the VPC -> the services that it calls. tests compare them with the code and with recorded calls.
BUILDS = (
    "s3",
    "logs",
    "sagemaker",
    "sagemaker-runtime",
    "ssm",
    "sts",
    "cloudformation",
    "codepipeline",
    "application-autoscaling",
    "cloudwatch",
)
UPDATES = ("s3", "logs", "sns")  # the build that takes updates from the template; it reaches the repository too
FUNCTIONS = ("s3", "sagemaker", "ssm", "sts", "codepipeline")  # of the toolchain
BESIDE_ENDPOINTS = ("s3", "cloudwatch")
JOBS_AND_ENDPOINTS = ("s3",)
TRACKING = ("sagemaker", "mlflow")  # https://docs.aws.amazon.com/sagemaker/latest/dg/mlflow-interface-endpoint.html
WAYS_OUT = ("NatGatewayId", "TransitGatewayId", "NetworkInterfaceId", "CoreNetworkArn")


def needed_endpoints(config: Config, values: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the end of the name of each VPC endpoint that is needed -> what in the VPC needs it; {} without a VPC.

    - values: template parameter -> value, of the toolchain.
    """
    callers: dict[str, Sequence[str]] = {}
    if values.get("VpcId"):
        callers |= {"builds": BUILDS, "functions": FUNCTIONS, "functions beside endpoints": BESIDE_ENDPOINTS}
        if values.get("UpdateSchedule"):
            callers["updates"] = (*UPDATES, *repository_services(values.get("ConnectionArn", "")))
    if config.cloud.subnets:
        callers["jobs"] = (*JOBS_AND_ENDPOINTS, *(TRACKING if config.cloud.mlflow_app else ()))
        callers["endpoints"] = JOBS_AND_ENDPOINTS
    found: dict[str, list[str]] = {}
    for caller, services in callers.items():
        for service in services:
            found.setdefault(ENDPOINTS[service], []).append(caller)
    return found


def repository_services(connection: str) -> Sequence[str]:
    """Return the services through which git reaches the repository.

    https://docs.aws.amazon.com/codecommit/latest/userguide/codecommit-and-interface-VPC.html
    https://docs.aws.amazon.com/dtconsole/latest/userguide/vpc-interface-endpoints.html

    - connection: ARN of the connection to it; "" for CodeCommit.
    """
    return (connection.split(":")[2],) if connection else ("codecommit", "git-codecommit")


def vpc_findings(aws: Aws, config: Config, values: Mapping[str, str]) -> Iterator[Finding]:
    """Yield findings about the VPC, its subnets, security groups and VPC endpoints; none when nothing runs in one.

    - values: template parameter -> value, of the toolchain.
    """
    needed = needed_endpoints(config, values)
    if not needed:
        return
    subnets = listed(values.get("SubnetIds", ""), config.cloud.subnets)
    groups = listed(values.get("SecurityGroupIds", ""), config.cloud.security_groups)
    ec2, given = aws.client("ec2"), values.get("VpcId", "")
    subnets_there = described(ec2, "describe_subnets", "subnet-id", subnets)
    groups_there = described(ec2, "describe_security_groups", "group-id", groups)
    vpc = given or next((one["VpcId"] for one in subnets_there), "")
    yield from place_findings("subnets", subnets, {one["SubnetId"]: one["VpcId"] for one in subnets_there}, vpc)
    yield from place_findings("security groups", groups, {one["GroupId"]: one["VpcId"] for one in groups_there}, vpc)
    if not vpc:
        return
    endpoints = described(ec2, "describe_vpc_endpoints", "vpc-id", [vpc])
    has_way_out = reach_the_internet(described(ec2, "describe_route_tables", "vpc-id", [vpc]), subnets)
    yield from endpoint_findings(aws.names.region, vpc, needed, endpoints, has_way_out)
    if given and not has_way_out:
        yield package_finding(values.get("PackageIndexUrl", ""))


def package_finding(mirror: str) -> Finding:
    """Return a finding about where builds in subnets without a route to the internet download packages.

    - mirror: the toolchain's PackageIndexUrl; "" for PyPI.
    """
    fact = "the subnets have no route to the internet, and builds download packages from"
    if mirror:
        fix = f"Nothing, if a machine in the subnets gets an answer from {mirror}; this one may be elsewhere."
        return Finding("builds", COULD_NOT_LOOK, f"{fact} {mirror}", fix)
    fix = "Give builds a mirror of PyPI that the VPC reaches (--set PackageIndexUrl=https://…), or a NAT gateway."
    return Finding("builds", WARNING, f"{fact} PyPI", fix)


def listed(given: str, configured: Sequence[str]) -> list[str]:
    """Return the ids of a parameter, separated by commas, and those of config.yaml, each once."""
    return list(dict.fromkeys([*filter(None, given.split(",")), *configured]))


def described(ec2: Any, operation: str, filter_name: str, values: Sequence[str]) -> list[dict[str, Any]]:
    """Return what EC2 describes of an operation such as describe_subnets. Ids that do not exist are left out.

    - filter_name, values: the filter of EC2, and what it may equal; without values nothing is asked.
    """
    if not values:
        return []
    pages = ec2.get_paginator(operation).paginate(Filters=[{"Name": filter_name, "Values": list(values)}])
    return [one for page in pages for part in page.values() if isinstance(part, list) for one in part]


def place_findings(check: str, wanted: Sequence[str], found: Mapping[str, str], vpc: str) -> Iterator[Finding]:
    """Yield a finding about subnets or security groups: all in the VPC, or which are missing or in another one.

    - found: id -> id of its VPC.
    """
    missing = [one for one in wanted if one not in found]
    elsewhere = [f"{one} in {found[one]}" for one in wanted if one in found and found[one] != vpc]
    fix = "Correct SubnetIds and SecurityGroupIds of the toolchain, or subnets and security_groups in config.yaml."
    if missing:
        yield Finding(check, WOULD_FAIL, f"there is no {', '.join(missing)}", fix)
    if elsewhere:
        yield Finding(check, WOULD_FAIL, f"{', '.join(elsewhere)}, not in {vpc}", fix)
    if wanted and not missing and not elsewhere:
        yield Finding(check, OK, f"{', '.join(wanted)} are in {vpc}")


def reach_the_internet(tables: Sequence[Mapping[str, Any]], subnets: Sequence[str]) -> bool:
    """Whether every subnet has a route to everywhere that a machine without a public address can use.

    - tables: the route tables of the VPC, as EC2 describes them. A subnet without one of its own has the main one.
    """
    main = next((table for table in tables if any(one.get("Main") for one in table["Associations"])), {})
    own = {one["SubnetId"]: table for table in tables for one in table["Associations"] if one.get("SubnetId")}
    routes = [own.get(subnet, main).get("Routes", ()) for subnet in subnets]
    return bool(routes) and all(any(map(leads_out, of_subnet)) for of_subnet in routes)


def leads_out(route: Mapping[str, Any]) -> bool:
    """Whether a machine without a public address reaches everywhere through a route, as EC2 describes it.

    Not through an internet gateway: jobs, builds and functions get no public address. Not through a peering, by which
    only the other VPC is reached, nor through a route whose end is gone (its state is blackhole).
    https://docs.aws.amazon.com/vpc/latest/peering/vpc-peering-basics.html
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Route.html
    """
    to_everywhere = route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("State", "active") == "active"
    way = any(route.get(kind) for kind in WAYS_OUT) or str(route.get("GatewayId", "")).startswith("vgw-")
    return to_everywhere and way


def endpoint_findings(
    region: str, vpc: str, needed: Mapping[str, Sequence[str]], there: Sequence[Mapping[str, Any]], has_way_out: bool
) -> Iterator[Finding]:
    """Yield a finding for each VPC endpoint that is needed: present, or missing with the command that makes it.

    Names are compared from the region on: they begin with com.amazonaws, in China some with cn.com.amazonaws, and
    MLflow's with aws.sagemaker.

    - needed: end of the name -> what in the VPC needs it.
    - there: the endpoints of the VPC, as EC2 describes them.
    - has_way_out: whether the subnets reach the internet without endpoints.
    """
    for end, callers in needed.items():
        check, why = f"VPC endpoint {end}", f"needed by {', '.join(callers)}"
        present = [one for one in there if one["ServiceName"].endswith(f".{region}.{end}")]
        usable = [one for one in present if one["State"].lower() == "available"]
        if usable and usable[0]["VpcEndpointType"] == "Interface" and not usable[0].get("PrivateDnsEnabled"):
            fact = f"{usable[0]['VpcEndpointId']} has no private DNS names, so that nothing uses it"
            yield Finding(check, WARNING, fact, "Enable private DNS names of it.")
        elif usable:
            yield Finding(check, OK, f"{usable[0]['VpcEndpointId']} in {vpc}, {why}")
        elif has_way_out:
            yield Finding(check, OK, f"none in {vpc}; the subnets reach {end} through their route to the internet")
        else:
            what = "is not available" if present else "is missing"
            yield Finding(check, WOULD_FAIL, f"{what} in {vpc}, {why}", creation(region, vpc, end))


def creation(region: str, vpc: str, end: str) -> str:
    """Return how to create a VPC endpoint, as a command to complete.

    - end: the end of its name, after the region.
    """
    prefix = "aws.sagemaker" if end == "experiments" else "com.amazonaws"
    kind = (
        "Gateway --route-table-ids rtb-…"
        if end == "s3"
        else "Interface --private-dns-enabled --subnet-ids subnet-… --security-group-ids sg-…"
    )
    china = " (look up the name in your region: some begin with cn.)" if region.startswith("cn-") else ""
    return (
        f"aws ec2 create-vpc-endpoint --region {region} --vpc-id {vpc} --service-name {prefix}.{region}.{end} "
        f"--vpc-endpoint-type {kind}{china}"
    )
