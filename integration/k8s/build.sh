#!/bin/bash
# Builds kube-apiserver and kubectl into the user's cache, from Debian's source package of Kubernetes with Debian's Go.
# Does nothing when they are there. Prints the folder of the programs. Exit code 3: this distribution lacks the package.
set -eu
VERSION=1.20.2
PACKAGE=1.20.5+really1.20.2-1.1+deb12u1
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/ocicat/k8s
BIN=$CACHE/bin SOURCE=$CACHE/src TREE=$CACHE/src/kubernetes-$VERSION
mkdir -p "$BIN" "$SOURCE"
exec 9>"$CACHE/lock"
flock 9 # One build at a time.
apt() { DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get --yes --quiet -o DPkg::Lock::Timeout=300 "$@" >&2; }
need() { # the packages that are not installed yet
  local missing=() name
  for name in "$@"; do dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] && return
  apt install --no-install-recommends "${missing[@]}" || { apt update; apt install --no-install-recommends "${missing[@]}"; }
}

command -v apt-get >/dev/null || { echo "there is no apt-get" >&2; exit 3; }
need etcd-server openssl
if [ ! -x "$BIN/kube-apiserver" ] || [ ! -x "$BIN/kubectl" ]; then
  grep -q '^VERSION_CODENAME=bookworm$' /etc/os-release || { echo "only Debian bookworm has the source package" >&2; exit 3; }
  need golang-go rsync make dpkg-dev gcc libc6-dev golang-github-modern-go-reflect2-dev
  if [ ! -d "$TREE" ]; then
    # The machine's own Debian archive, asked for source packages too, in an apt folder of our own.
    APT=$SOURCE/apt
    mkdir -p "$APT/lists/partial" "$APT/cache/archives/partial"
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
      awk 'BEGIN { RS = ""; ORS = "\n\n" } /Suites:.*bookworm/ && /Components:.*main/ { sub(/Types: deb\n/, "Types: deb-src\n"); print }' >"$APT/src.sources"
    [ -s "$APT/src.sources" ] || grep -hE '^deb .*bookworm.* main' /etc/apt/sources.list | sed 's/^deb /deb-src /' >"$APT/src.list"
    LIST=$APT/src.sources
    [ -s "$LIST" ] || LIST=$APT/src.list
    OWN=(-o "Dir::Etc::SourceList=$LIST" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$APT/lists" -o "Dir::Cache=$APT/cache" -o APT::Sandbox::User=root)
    apt "${OWN[@]}" update
    (cd "$SOURCE" && apt "${OWN[@]}" source --download-only "kubernetes=$PACKAGE")
    rm -rf "$TREE.new" && mkdir "$TREE.new"
    tar xf "$SOURCE/kubernetes_${PACKAGE%-*}.orig.tar.gz" -C "$TREE.new" --strip-components=1
    # The vendored reflect2 1.0.1 corrupts memory with Go 1.18 and later: a custom resource kills the API server. Debian's 1.0.2 does not.
    rm "$TREE.new"/vendor/github.com/modern-go/reflect2/*.go
    cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.go "$TREE.new/vendor/github.com/modern-go/reflect2/"
    mv "$TREE.new" "$TREE"
  fi
  nice -n 5 make -C "$TREE" WHAT="cmd/kube-apiserver cmd/kubectl" >&2
  for program in kube-apiserver kubectl; do
    cp "$TREE/_output/local/go/bin/$program" "$BIN/.$program" && mv "$BIN/.$program" "$BIN/$program"
  done
  rm -rf "$TREE/_output" # Two gigabytes that nothing needs any more.
fi
echo "$BIN"
