// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/agent/workload"
	"cofferdam.dev/internal/evidencewire"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/verify/anchor"
)

// serveAgent is the script command `mkagent LINK POLICY`: until it is interrupted, it is the agent of a made-up guest on
// the simulated processor of COFFERDAM_HOME, whose evidence socket has the name LINK. It writes to POLICY an appraisal
// policy that trusts that guest, and to POLICY.other one that trusts another.
func serveAgent() {
	if err := agentSocket(os.Args[1], os.Args[2]); err != nil {
		fatalf("%v", err)
	}
}

func agentSocket(link, policyFile string) error {
	p, err := simsp.Open(filepath.Join(os.Getenv("COFFERDAM_HOME"), "simsp"))
	if err != nil {
		return err
	}
	text := []byte("package policy\n")
	g, err := p.Launch(simsp.Launch{
		KernelPath: "kernel", InitrdPath: "kernel", VCPUs: 1, HostData: sha256.Sum256(text), Policy: snp.PolicySMT | snp.PolicyReservedOne,
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	here, there := net.Pipe()
	go func() { _ = g.Serve(ctx, there) }() // ends with ctx
	root, err := os.MkdirTemp("", "cs")     // short enough for the path of a socket
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(root) }() // of no use any more
	agent := &workload.Server{Root: root}
	dir, err := agent.Open("c", text, attest.OpenSimulated(here).Report)
	if err != nil {
		return err
	}
	defer func() { _ = agent.Close("c") }() // at the end
	ark, _ := p.Chain()
	measurement := g.Measurement()
	for name, m := range map[string]string{policyFile + ".other": hex.EncodeToString(make([]byte, 48)), policyFile: hex.EncodeToString(measurement[:])} {
		err := os.WriteFile(name, fmt.Appendf(nil, servicePolicy, anchor.SPKI(ark), sha256.Sum256(text), m), 0o600)
		if err != nil {
			return err
		}
	}
	if err := os.Symlink(filepath.Join(dir, evidencewire.SocketName), link); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

const servicePolicy = `schema: cofferdam.dev/appraisal-policy/v1
evidence: [sev-snp]
domains: [simulated]
allowSimulated: true
simulatedRoots: [%s]
hostData: {policyHashes: [%x]}
binding: {source: workload}
snp:
  measurements: [%s]
  tcb:
    Milan: {reported: {}}
`

// askService is the script command `askservice ARGUMENT…`: cofferdam attestation with these arguments, for the service whose
// state is in COFFERDAM_HOME.
func askService() {
	state := filepath.Join(os.Getenv("COFFERDAM_HOME"), "attestation")
	address, err := os.ReadFile(filepath.Join(state, "address"))
	if err != nil {
		fatalf("%v", err)
	}
	args := append([]string{"attestation"}, os.Args[1:]...)
	args = append(args, "--service", strings.TrimSpace(string(address)), "--ca", filepath.Join(state, "tls-certificate.pem"))
	c := exec.Command(os.Getenv("COFFERDAM"), args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	err = c.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		os.Exit(failed.ExitCode())
	}
	if err != nil {
		fatalf("%v", err)
	}
}

// makeSigner is the script command `mksigner NAME`: it writes an RSA key to NAME.key, and a certificate to NAME.pem.
func makeSigner() {
	err := func(name string) error {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			return err
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		return errors.Join(
			os.WriteFile(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
			os.WriteFile(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		)
	}(os.Args[1])
	if err != nil {
		fatalf("%v", err)
	}
}
