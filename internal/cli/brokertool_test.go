// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/kbs/kbstest"
	"cofferdam.dev/internal/simsp"
)

// brokerGuest is the script command `askbroker STATE HOSTDATA RESOURCE…`: a guest on the simulated processor of
// COFFERDAM_HOME, whose host data are the SHA-256 of a file, asks the broker whose state lies in the directory for
// resources, and prints a status and what it got for each.
func brokerGuest() {
	if len(os.Args) < 4 {
		fatalf("usage: askbroker STATE HOSTDATA RESOURCE...")
	}
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		fatalf("%v", err)
	}
	if err := fetchResources(os.Args[1], sha256.Sum256(text), os.Args[3:]); err != nil {
		fatalf("%v", err)
	}
}

// brokerClient talks to a broker as a guest does.
type brokerClient struct {
	http *http.Client
	base string
	key  *kbstest.Key
}

func newBrokerClient(state string) (*brokerClient, error) {
	address, err := os.ReadFile(filepath.Join(state, "address"))
	if err != nil {
		return nil, err
	}
	certificate, err := os.ReadFile(filepath.Join(state, "tls-certificate.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	key, err := kbstest.NewKey("P-256")
	client := &http.Client{
		Jar: jar, Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}
	return &brokerClient{client, strings.TrimSpace(string(address)) + "/kbs/v0/", key}, err
}

func (c *brokerClient) send(method, path string, body any) (int, []byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequest(method, c.base+path, bytes.NewReader(b)) //nolint:noctx // ends by its timeout
	if err != nil {
		return 0, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read below
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func fetchResources(state string, hostData [32]byte, resources []string) error {
	c, err := newBrokerClient(state)
	if err != nil {
		return err
	}
	_, answer, err := c.send("POST", "auth", map[string]string{"version": "0.4.0", "tee": "snp", "extra-params": ""})
	if err != nil {
		return err
	}
	var challenge struct{ Nonce string }
	if err := json.Unmarshal(answer, &challenge); err != nil {
		return fmt.Errorf("%s: %w", answer, err)
	}
	body, err := c.attestation(challenge.Nonce, hostData)
	if err != nil {
		return err
	}
	status, answer, err := c.send("POST", "attest", body)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		fmt.Printf("attest %d %s\n", status, answer)
		return nil
	}
	for _, r := range resources {
		status, answer, err := c.send("GET", "resource/"+r, nil)
		if err != nil {
			return err
		}
		if status == http.StatusOK {
			if answer, err = c.key.Decrypt(answer); err != nil {
				return err
			}
		}
		fmt.Printf("%d %s\n", status, answer)
	}
	return nil
}

// attestation launches a guest and has it make evidence.
func (c *brokerClient) attestation(nonce string, hostData [32]byte) (map[string]any, error) {
	p, err := simsp.Open(filepath.Join(os.Getenv("COFFERDAM_HOME"), "simsp"))
	if err != nil {
		return nil, err
	}
	kernel := os.Args[2] // any file: the processor measures files and does not care
	g, err := p.Launch(simsp.Launch{KernelPath: kernel, InitrdPath: kernel, VCPUs: 1, HostData: hostData, Policy: snp.PolicySMT | snp.PolicyReservedOne})
	if err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = g.Serve(ctx, there) }() // ends with ctx
	data, err := c.key.ReportData(nonce)
	if err != nil {
		return nil, err
	}
	r, err := attest.OpenSimulated(here).Report(ctx, data)
	if err != nil {
		return nil, err
	}
	return c.key.Attestation(nonce, r.Report, r.Certificates)
}
