"""A model server as an AWS Lambda function."""
