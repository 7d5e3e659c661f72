#!/bin/sh
# Plants the mistakes of each testdata/mutations.list beside the source, one at a
# time; every one must be caught by the package's tests.
set -eu
cd "$(dirname "$0")/.."
exec go run ./test/mutate "$@"
