# Debian's Redis, to be used as the image `redis` is.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN groupadd --gid 999 redis && useradd --uid 999 --gid 999 --no-create-home redis \
    && apt-get update -q && apt-get install -qy --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 999 -g 999 /data
WORKDIR /data
USER 999:999
CMD ["redis-server", "--protected-mode", "no"]
