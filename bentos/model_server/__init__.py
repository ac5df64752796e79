"""One Bento, one model version: contract, session, HTTP API."""
