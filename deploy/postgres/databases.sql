-- Run once, in an empty volume; POSTGRES_DB, which is there already, has the ledger.
CREATE DATABASE dagster;
CREATE DATABASE mlflow;
CREATE DATABASE features;
