"""What runs in production: Bentos. Never imports dagster, mlflow, ray or skl2onnx."""
