//go:build programs

// Names csi-sanity for go.mod.
package sanity

import _ "github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
