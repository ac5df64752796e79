#!/bin/sh
# `make test-kubernetes` on a cluster of its own, which goes away whatever comes of it.
# Needs kind or k3d, Docker, and the images of `make build-images`.
set -eu
name=slipway-test
images="slipway/model-server:latest slipway/orchestration:latest"

if command -v kind >/dev/null; then
  create="kind create cluster --name $name --wait 180s --kubeconfig"
  load="kind load docker-image --name $name $images"
  delete="kind delete cluster --name $name"
elif command -v k3d >/dev/null; then
  create="k3d cluster create $name --wait --kubeconfig-update-default=false"
  load="k3d image import --cluster $name $images"
  delete="k3d cluster delete $name"
else
  echo "test-local-cluster: skipped: neither kind nor k3d is installed"
  exit 0
fi

folder=$(mktemp -d)
export KUBECONFIG="$folder/kubeconfig"
trap '$delete; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
if [ "${create%% *}" = kind ]; then
  $create "$KUBECONFIG"
else
  $create
  k3d kubeconfig get "$name" >"$KUBECONFIG"
fi
$load
${MAKE:-make} test-kubernetes
