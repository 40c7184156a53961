//go:build programs

// Package programs names the command, so that `go mod tidy` records what it needs.
package programs

import _ "sigs.k8s.io/metrics-server/cmd/metrics-server"
