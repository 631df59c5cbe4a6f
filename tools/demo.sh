#!/usr/bin/env bash
# Three unlike nodes on this machine, three questions to the small model, who held what, and down again.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
consort=$1
cluster=examples/clusters/three-nodes.toml
XDG_STATE_HOME=$(mktemp -d "${TMPDIR:-/tmp}/consort-demo.XXXXXX")
export XDG_STATE_HOME
finish() {
  "$consort" down "$cluster" > /dev/null 2>&1 || true
  rm -rf "$XDG_STATE_HOME"
}
trap finish EXIT

echo "==> bringing up desk, attic (three times slower) and garage (500 us and 1 Gbit away)"
"$consort" up "$cluster" --detach
for question in '12+34=?' '275+481=?' '999+1=?'; do
  echo "==> $question"
  "$consort" generate --cluster "$cluster" --chat "$question"
done
echo "==> who held what"
"$consort" status "$cluster"
echo "==> taking the cluster down"
