#!/usr/bin/env bash
# release.sh VERSION DIR: builds all that is released of VERSION into DIR, in place of an
# earlier release. No network but for Go's modules. The same tree, version and Go make the
# same bytes, wherever and whenever: checksums.txt is the proof.
set -euo pipefail
umask 022
export LC_ALL=C TZ=UTC

version=${1:-} dist=${2:-}
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ && -n $dist ]] ||
  { echo "usage: make release VERSION=v0.1.0, or v0.1.0-rc.1" >&2; exit 2; }
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
strangers=$(find "$dist" -mindepth 1 ! -name 'external-lb*' ! -name install.yaml ! -name 'checksums.txt*')
[ -z "$strangers" ] ||
  { echo "$dist has files that are of no release: name another directory, as DIST=dist" >&2; exit 2; }
cd "$(dirname "$0")/../.."

# The times in packages and images: of the commit, not of today.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# Nothing of the caller's settings gets into what is built.
unset GOEXPERIMENT GOAMD64 GOARM64 GOFIPS140
export CGO_ENABLED=0 GOWORK=off VERSION=$version
architectures=(amd64 arm64)
toolflags='-buildvcs=false -gcflags=all=-dwarf=false'
export GOFLAGS="-trimpath $toolflags"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/out
mkdir "$out"

# What builds, and is not released, has the flags of make: others have compiled much of it.
tools() {
  GOFLAGS=$toolflags go -C tools/release build -o "$work/tools/" \
    ./image github.com/goreleaser/nfpm/v2/cmd/nfpm sigs.k8s.io/kustomize/kustomize/v5
}

# archive DIR NAME…: the same files make the same tar.
archive() {
  tar --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' \
    -C "$1" -c "${@:2}"
}

# The image, the programs that are in it, and what is in each of them: its modules, as SPDX.
image() {
  KOCACHE=$work/ko "$work/tools/image" -version "$version" \
    -ldflags "-s -w -X github.com/external-lb/external-lb/internal/host.version=$version" \
    -platforms "$(printf 'linux/%s,' "${architectures[@]}" | sed 's/,$//')" -dir "$work/layout" -sboms "$work/sboms"
  archive "$work/layout" blobs index.json oci-layout > "$out/external-lb-image.tar"
  for arch in "${architectures[@]}"; do
    cp "$work/ko/bin/github.com/external-lb/external-lb/linux/$arch/out" "$out/external-lb-linux-$arch"
    cp "$work/sboms/external-lb-linux-$arch.spdx.json" "$out/"
  done
}

# The reference of the commands, as a manual page.
manual() {
  awk -v version="$version" '
    NR == 1 {
      printf ".TH EXTERNAL-LB 8 \"\" \"external-lb %s\"\n", version
      print ".SH NAME\nexternal-lb \\- type: LoadBalancer with external balancers"
      next
    }
    /^## / { print ".SH " toupper(substr($0, 4)); next }
    /^```text/ { print ".nf"; next }
    /^```/ { print ".fi"; next }
    { gsub(/\\/, "\\e"); gsub(/-/, "\\-"); gsub(/…/, "..."); sub(/^[.\047]/, "\\\\\\&&"); print }' docs/reference/commands.md
}

# The host's end, as .deb and .rpm.
packages() {
  local program=$out/external-lb-linux-$(go env GOHOSTARCH) stage=$work/stage
  mkdir "$stage"
  cp LICENSE internal/host/external-lb-agent.service tools/release/{postinstall,preremove}.sh "$stage/"
  "$program" completion bash > "$stage/external-lb.bash"
  "$program" completion zsh > "$stage/_external-lb"
  "$program" completion fish > "$stage/external-lb.fish"
  manual | gzip -9n > "$stage/external-lb.8.gz"
  for arch in "${architectures[@]}"; do
    cp "$out/external-lb-linux-$arch" "$stage/external-lb"
    for packager in deb rpm; do
      (cd "$stage" && ARCH=$arch "$work/tools/nfpm" package --config "$OLDPWD/tools/release/nfpm.yaml" \
        --packager $packager --target "$out/" > /dev/null)
    done
  done
}

# The program as a plugin of kubectl, and krew's manifest, which names it by its digest.
plugin() {
  local arch file stage=$work/plugin
  mkdir "$stage"
  cp LICENSE "$stage/"
  sed "s/VERSION/$version/" tools/release/krew.yaml > "$out/external-lb-krew.yaml"
  for arch in "${architectures[@]}"; do
    file=external-lb-kubectl-linux-$arch.tar.gz
    cp "$out/external-lb-linux-$arch" "$stage/external-lb"
    archive "$stage" LICENSE external-lb | gzip -9n > "$out/$file"
    cat >> "$out/external-lb-krew.yaml" << EOF
  - selector:
      matchLabels: {os: linux, arch: $arch}
    uri: https://github.com/external-lb/external-lb/releases/download/$version/$file
    sha256: $(sha256sum "$out/$file" | cut -d' ' -f1)
    bin: external-lb
EOF
  done
}

# What kubectl apply takes: config/default with the image of this version.
manifests() {
  cp -r config "$work/"
  (cd "$work/config/manager" && "$work/tools/kustomize" edit set image "external-lb=ghcr.io/external-lb/external-lb:$version")
  "$work/tools/kustomize" build "$work/config/default" > "$out/install.yaml"
}

# The chart, with this version in both of its fields, and nothing of the user's Helm.
chart() {
  local helm
  helm=$(GOFLAGS=$toolflags go -C tools/helm tool -n helm)
  cp -r charts "$work/"
  find "$work/charts" -exec touch --date="@$SOURCE_DATE_EPOCH" {} +
  HELM_CONFIG_HOME=$work/helm HELM_CACHE_HOME=$work/helm HELM_DATA_HOME=$work/helm \
    "$helm" package "$work/charts/external-lb" --version "${version#v}" --app-version "$version" --destination "$out" > /dev/null
}

checksums() {
  (cd "$out" && sha256sum -- * > "$work/checksums.txt")
  mv "$work/checksums.txt" "$out/"
}

tools
image
packages
plugin
manifests
chart
checksums
rm -rf "$dist"/*
mv "$out"/* "$dist/"
cat "$dist/checksums.txt"
