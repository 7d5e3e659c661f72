#!/bin/sh
# Makes a release's commits and tags, in this clone and nowhere else:
#   scripts/release-modules.sh v1.2.3
# In the tree the modules find each other by replace directives, which no one else can use:
# go install refuses a module that has one. So each module is tagged at a commit whose go.mod
# names the others by this version, those first that others need. The last commit puts the
# directives back. What is to be pushed, and when, is said at the end.
set -eu
cd "$(dirname "$0")/.."
version=${1-}
if ! printf '%s\n' "$version" | grep -qE '^v[01]\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$'; then
  echo "usage: scripts/release-modules.sh v1.2.3 (from v2 on the modules' paths have to change first)" >&2
  exit 2
fi
if [ -n "$(git status --porcelain)" ]; then
  echo "there are changes without a commit: commit them, or take them away" >&2
  exit 1
fi
module=$(sed -n 's/^module //p' go.mod)
begun=$(git rev-parse HEAD) tags=
cache=$(mktemp -d)

finish() {
  status=$?
  rm -rf "$cache"
  [ $status = 0 ] && return
  for tag in $tags; do git tag -d "$tag"; done
  git reset -q --hard "$begun"
  echo "$version is not made; everything is as it was" >&2
}
trap finish EXIT
trap 'exit 1' INT TERM

# What is tagged so far is fetched from this clone in the way in which others will fetch it
# from the one that it is pushed to: so go.sum gets the digests that they will see. The cache
# is the script's own, because what is never pushed must be in no other.
export GOWORK=off GOFLAGS=-modcacherw GOMODCACHE="$cache" GONOPROXY="$module" GONOSUMDB="$module"
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$PWD.insteadOf" GIT_CONFIG_VALUE_0="https://$module"
digests() { # MODULE: its lines of go.sum
  json=$(cd "$cache" && go mod download -json "$1@$version")
  printf '%s\n' "$json" | sed -n "s|.*\"Sum\": \"\(.*\)\".*|$1 $version \1|p; s|.*\"GoModSum\": \"\(.*\)\".*|$1 $version/go.mod \1|p"
}

for dir in pkg/ipc pkg/worker pkg/worker/ginworker .; do
  for other in $(sed -n "s|^.*\($module/[^ ]*\) =>.*|\1|p" "$dir/go.mod"); do
    (cd "$dir" && go mod edit -dropreplace="$other" -require="$other@$version")
    digests "$other" >>"$dir/go.sum"
  done
  tag=$version
  [ "$dir" = . ] || tag=$dir/$version
  git diff --quiet || git commit -qam "modules: $tag"
  git tag -m "$tag" "$tag"
  tags="$tags $tag"
done

git checkout -q "$begun" -- .
git commit -qm "modules: the tree finds its own again, after $version"

echo "made:$tags"
echo "push them at once, when what they are has passed the gate:"
echo "  git push --atomic origin HEAD$tags"
