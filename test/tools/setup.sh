#!/usr/bin/env bash
# Makes this checkout ready, step by step, saying what it does: npm | tools | opentofu | build | demo WORLD | lab.
# Each step does nothing when its result is already there. Asks before it installs on a terminal; YES=1 goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/node_modules/.bin:$PATH"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'drover: %s\n' "$*" >&2; exit 1; }

step_npm() {
  [ "$(uname -s)" = Linux ] || fail "drover's lab and tests run on Linux; this is $(uname -s). Use a Linux machine or a virtual machine."
  command -v node >/dev/null || fail "Node is missing. Install Node 20 or newer (it only starts npm; the project brings Node 24 itself)."
  local major
  major=$(node -p 'process.versions.node.split(".")[0]')
  [ "$major" -ge 20 ] || fail "Node $(node -v) is too old to start npm 10 or newer. Install Node 20 or newer."
  command -v npm >/dev/null || fail "npm is missing. It comes with Node; install Node's own package."
  if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    say "npm packages (about a minute the first time)"
    # not `npm ci`: it refuses a lock file that leaves out other platforms' optional binaries; install keeps to the lock
    npm install --no-audit --no-fund --loglevel=error
    touch node_modules/.package-lock.json
  fi
}

step_tools() { node test/tools/build-tools.ts; }

step_opentofu() { node test/tools/opentofu.ts; }

step_build() {
  step_tools
  node test/tools/build.ts
}

step_demo() {
  local from=$SECONDS
  step_npm
  if [ "${1:-lab}" = lab ]; then step_lab; fi
  step_build
  say "ready after $((SECONDS - from)) s (what is already here is not made again)"
}

step_lab() { node shepherd/lab/prerequisites.ts --install; }

case "${1:-}" in
  npm) step_npm ;;
  tools) step_tools ;;
  opentofu) step_opentofu ;;
  build) step_build ;;
  lab) step_lab ;;
  demo) step_demo "${2:-lab}" ;;
  *) fail "usage: setup.sh npm|tools|opentofu|build|lab|demo [lab|simulated]" ;;
esac
