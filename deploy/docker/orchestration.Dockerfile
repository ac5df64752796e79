# The platform's parts, one image for all: `slipway run PART`, the command line, Dagster, MLflow and
# the gateway (Envoy's own binary, from the wheel).
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS packages
COPY requirements/ca/ /usr/local/share/ca-certificates/
RUN update-ca-certificates >/dev/null
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.lock requirements/orchestration.lock /build/
# pip and the build tool stay behind in an environment of their own.
RUN python3 -m venv /build/tools \
    && /build/tools/bin/pip install --quiet --require-hashes -r /build/build.lock \
    && python3 -m venv --without-pip /opt/slipway \
    && /build/tools/bin/pip --python /opt/slipway/bin/python install --quiet \
      --require-hashes --only-binary :all: -r /build/orchestration.lock \
    && find /opt/slipway -type d -name tests -prune -exec rm -rf {} +
# Slipway itself is installed as a path and what pyproject.toml says: code that changed changes
# nothing here, and the layer stays.
WORKDIR /app
COPY pyproject.toml LICENSE /app/
RUN touch README.md && install -D /dev/null orchestration/__init__.py \
    && /build/tools/bin/python -c 'from hatchling import build; build.build_editable("/build")' \
    && /build/tools/bin/pip --python /opt/slipway/bin/python install --quiet --no-deps --no-index \
      /build/slipway-*.whl


FROM ${BASE_IMAGE}
COPY --from=packages /opt/slipway /opt/slipway
# The checkout, as it is used without containers too: its settings lie beside its code.
COPY pyproject.toml LICENSE /app/
COPY serving_config/ /app/serving_config/
COPY feature_repo/ /app/feature_repo/
COPY bentos/ /app/bentos/
COPY deploy/ /app/deploy/
COPY orchestration/ /app/orchestration/
# A volume that is mounted for the first time takes over the folder's owner.
RUN /opt/slipway/bin/python -m compileall -q /app \
    && groupadd --gid 65532 slipway \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin slipway \
    && install -d -o 65532 -g 65532 -m 700 /var/lib/slipway /var/lib/slipway/run \
    && install -d -o 65532 -g 65532 -m 755 /var/lib/slipway/run/prometheus
ENV PATH=/opt/slipway/bin:$PATH \
    HOME=/tmp \
    SLIPWAY_HOME=/var/lib/slipway \
    SLIPWAY_CONFIG=/app/serving_config \
    BENTOML_DO_NOT_TRACK=True \
    DO_NOT_TRACK=true \
    ITERATIVE_DO_NOT_TRACK=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 65532:65532
STOPSIGNAL SIGTERM
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Slipway" \
      org.opencontainers.image.description="Slipway's orchestration, control, gateway and command line" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Which part runs, and so what a health check asks, says who starts it: see compose.yaml.
ENTRYPOINT ["slipway"]
CMD ["--help"]
