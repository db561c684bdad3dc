#!/bin/sh
# minor.sh MINOR...: our kinds, looked at by the code of the API server of Kubernetes 1.MINOR.
# What it builds with is said by that release, so nothing is kept here but in Go's cache.
set -eu
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for minor; do
  mod=$dir/1.$minor.mod
  sed -n '/^module /p; /^go /p' go.mod >"$mod"
  go get -t -modfile="$mod" -tags oldest "k8s.io/apiextensions-apiserver@v0.$minor" sigs.k8s.io/yaml
  go test -count=1 -modfile="$mod" -tags oldest .
done
