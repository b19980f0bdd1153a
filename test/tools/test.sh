#!/usr/bin/env bash
# The whole test command: every suite in turn, its minutes printed, the first failure named at the end.
# All suites run even after a failure, so that one run tells everything.
set -uo pipefail
cd "$(dirname "$0")/../.."
started=$SECONDS
failed=()

suite() {
  local name=$1 from=$SECONDS
  shift
  printf '\n==> %s\n' "$name"
  if "$@"; then local result=ok; else local result=FAILED; failed+=("$name"); fi
  rows+=("$(printf '%-42s %-7s %5.1f min' "$name" "$result" "$(awk "BEGIN{print ($SECONDS-$from)/60}")")")
}
rows=()
jest() { node_modules/.bin/node --disable-warning=ExperimentalWarning --experimental-vm-modules node_modules/jest/bin/jest.js "$@"; }

test/tools/setup.sh npm || exit 1
export PATH="$PWD/node_modules/.bin:$PATH"
suite "set-up: tools, packages for the lab, build" test/tools/setup.sh demo lab
suite "set-up: OpenTofu, the other tool of the matrix" test/tools/setup.sh opentofu
suite "check: format, lint, types, tidy" make --no-print-directory check
suite "unit, property, policy, conformance, simulation" jest
suite "lab: real libvirt, QEMU, sshd, Terraform" jest -c test/lab/jest.config.js

printf '\n'
printf '%s\n' "${rows[@]}"
printf 'in all %s min\n' "$(awk "BEGIN{printf \"%.1f\", ($SECONDS-$started)/60}")"
if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[*]}"
  exit 1
fi
