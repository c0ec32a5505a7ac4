"""A rehearsal of SageMaker Pipelines on this machine: executes the compiled definition as the service would.

S3 is whatever boto3 reaches (moto in tests), a container is a process whose /opt/ml is a folder.
"""
