// The least that an admission webhook can be: it reads a review and answers what it was told to, always the same.
// least CERTIFICATE KEY PATCHES listens on a free port of loopback, which it prints. A request to /NAME is answered with
// the JSON Patch in PATCHES/NAME, or with none where there is no such file.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
)

type answer struct {
	UID       string `json:"uid"`
	Allowed   bool   `json:"allowed"`
	PatchType string `json:"patchType,omitempty"`
	Patch     []byte `json:"patch,omitempty"`
}

type review struct {
	APIVersion string                `json:"apiVersion"`
	Kind       string                `json:"kind"`
	Request    *struct{ UID string } `json:"request,omitempty"`
	Response   *answer               `json:"response,omitempty"`
}

func main() {
	certificate, key, patches := os.Args[1], os.Args[2], os.Args[3]
	http.HandleFunc("/", func(to http.ResponseWriter, asked *http.Request) {
		var about review
		if err := json.NewDecoder(asked.Body).Decode(&about); err != nil || about.Request == nil {
			http.Error(to, "no AdmissionReview", http.StatusBadRequest)
			return
		}
		said := answer{UID: about.Request.UID, Allowed: true}
		if patch, err := os.ReadFile(filepath.Join(patches, filepath.Base(asked.URL.Path))); err == nil {
			said.PatchType, said.Patch = "JSONPatch", patch
		}
		to.Header().Set("Content-Type", "application/json")
		json.NewEncoder(to).Encode(review{APIVersion: about.APIVersion, Kind: about.Kind, Response: &said})
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.ServeTLS(listener, nil, certificate, key))
}
