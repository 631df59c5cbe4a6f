#!/usr/bin/env bash
# Three unlike nodes on this machine, three questions to the small model, who held what, and down again.
# With --serve: the same nodes behind an HTTP service with its page, until Ctrl-C.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
consort=$1
serve=${2:-}
[[ -z $serve || $serve == --serve ]] || { echo "usage: ./dev demo [--serve]" >&2; exit 2; }
cluster=examples/clusters/three-nodes.toml
XDG_STATE_HOME=$(mktemp -d "${TMPDIR:-/tmp}/consort-demo.XXXXXX")
export XDG_STATE_HOME
finish() {
  "$consort" down "$cluster" > /dev/null 2>&1 || true
  rm -rf "$XDG_STATE_HOME"
}
trap finish EXIT
trap 'exit 0' INT TERM

if [[ -n $serve ]]; then cluster=examples/clusters/three-nodes-served.toml; fi
echo "==> bringing up desk, attic (three times slower) and garage (500 us and 1 Gbit away)"
"$consort" up "$cluster" --detach
if [[ -n $serve ]]; then
  url=$(< "$XDG_STATE_HOME/consort/lab/run/gateway.address")
  echo "==> open $url in a browser: to talk to a model that adds (275+481=?), and to look at the cluster"
  echo "    or: curl $url/v1/chat/completions -H 'Content-Type: application/json' \\"
  echo "          -d '{\"model\": \"adder\", \"messages\": [{\"role\": \"user\", \"content\": \"275+481=?\"}]}'"
  echo "    Ctrl-C takes the cluster down."
  while sleep 1; do :; done
fi
for question in '12+34=?' '275+481=?' '999+1=?'; do
  echo "==> $question"
  "$consort" generate --cluster "$cluster" --chat "$question"
done
echo "==> who held what"
"$consort" status "$cluster"
echo "==> taking the cluster down"
