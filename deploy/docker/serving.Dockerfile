# The model server. Two targets:
#   server   without a Bento, for pods that fetch theirs into /bento (docs/kubernetes.md)
#   bento    with the one Bento that lies in the context's folder bento/ (docs/containers.md);
#            `slipway build-images MODEL` makes that context from a verified release
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS packages
COPY requirements/ca/ /usr/local/share/ca-certificates/
RUN update-ca-certificates >/dev/null
COPY requirements/serving.lock /build/
# pip stays behind in an environment of its own: the image installs nothing any more.
RUN export PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1 \
      PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    && python3 -m venv /build/pip \
    && python3 -m venv --without-pip /opt/slipway \
    && /build/pip/bin/pip --python /opt/slipway/bin/python install --quiet \
      --require-hashes --only-binary :all: -r /build/serving.lock \
    && find /opt/slipway -type d -name tests -prune -exec rm -rf {} +


FROM ${BASE_IMAGE} AS server
COPY --from=packages /opt/slipway /opt/slipway
COPY deploy/docker/ready.py deploy/docker/require_pins.py /opt/slipway/share/
RUN groupadd --gid 65532 slipway \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin slipway
# Whatever is written goes to /tmp: the root file system may be read-only.
ENV PATH=/opt/slipway/bin:$PATH \
    HOME=/tmp \
    BENTOML_HOME=/tmp/bentoml \
    BENTOML_DO_NOT_TRACK=True \
    DO_NOT_TRACK=true \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SLIPWAY_WORKERS=1
WORKDIR /tmp
USER 65532:65532
EXPOSE 3000
STOPSIGNAL SIGTERM
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Slipway model server" \
      org.opencontainers.image.description="Serves one Bento: one version of one model" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "/opt/slipway/share/ready.py", "http://127.0.0.1:3000/ready"]
ENTRYPOINT ["bentoml", "serve", "/bento"]
CMD ["--host", "0.0.0.0", "--port", "3000"]


FROM server AS bento
ARG BENTO
ARG BENTO_DIGEST
ARG ONNX_SHA256
LABEL org.opencontainers.image.title="${BENTO}" \
      slipway.dev.bento="${BENTO}" \
      slipway.dev.bento-digest="${BENTO_DIGEST}" \
      slipway.dev.onnx-sha256="${ONNX_SHA256}"
COPY bento/ /bento/
# A Bento was verified with the very versions it names: an image with others is not built.
RUN ["python", "/opt/slipway/share/require_pins.py", "/bento/src/requirements.txt"]
