"""A plugin of SQLAlchemy (`?plugin=features_home` in a URL): relative SQLite files are below
`SLIPWAY_FEATURES_HOME`, for which Feast's YAML has no default."""

from sqlalchemy import URL, CreateEnginePlugin

from feature_repo.home import features_home


class FeaturesHomePlugin(CreateEnginePlugin):
    """Named in the registry's URL in `feature_store.yaml`."""

    def update_url(self, url: URL) -> URL:
        """The URL that the engine uses; makes the file's folder."""
        url = url.difference_update_query(["plugin"])
        if url.database is None:
            return url
        path = features_home() / url.database
        path.parent.mkdir(parents=True, exist_ok=True)
        return url.set(database=str(path))
