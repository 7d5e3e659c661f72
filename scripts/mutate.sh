#!/bin/sh
# Plants the mistakes of pkg/master/rollout/testdata/mutations.list into a copy
# of the machine, one at a time; every one must be caught by its tests.
set -eu
cd "$(dirname "$0")/.."
exec go run ./test/mutate "$@"
