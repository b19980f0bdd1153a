//go:build tools

// The tools of this repository that are Go programs; go.mod pins them, build-tools.ts builds them.
package tools

import _ "github.com/open-policy-agent/opa"
