// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/evidencewire"
	"cofferdam.dev/internal/simsp"
)

// makeSocket is the script command `mksocket POLICY SOCKET`: it is the agent of a simulated guest with the policy, for one
// container, until it is ended.
func makeSocket() {
	if len(os.Args) != 3 {
		fatalf("usage: mksocket POLICY SOCKET")
	}
	if err := serveSocket(os.Args[1], os.Args[2]); err != nil {
		fatalf("%v", err)
	}
}

func serveSocket(policyFile, path string) error {
	text, err := os.ReadFile(policyFile)
	if err != nil {
		return err
	}
	p, err := simsp.Open(filepath.Join(os.Getenv("COFFERDAM_HOME"), "simsp"))
	if err != nil {
		return err
	}
	g, err := p.Launch(simsp.Launch{
		KernelPath: policyFile, InitrdPath: policyFile, Cmdline: "cofferdam.tee=simulated", VCPUs: 1,
		HostData: sha256.Sum256(text), Policy: snp.PolicySMT | snp.PolicyReservedOne,
	})
	if err != nil {
		return err
	}
	here, there := net.Pipe()
	go func() { _ = g.Serve(context.Background(), there) }() // ends with the process
	guest := attest.OpenSimulated(here)
	l, err := net.Listen("unix", path+".new")
	if err != nil {
		return err
	}
	if err = os.Rename(path+".new", path); err != nil { // who finds it there can connect
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		if err = answerSocket(c, guest); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// answerSocket answers one request for a report.
func answerSocket(c net.Conn, guest attest.Provider) error {
	defer func() { _ = c.Close() }() // answered, or not
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		return err
	}
	req, err := evidencewire.ParseRequest(line)
	if err != nil || req.ReportData == nil {
		return fmt.Errorf("request %q: %w", line, err)
	}
	res, err := guest.Report(context.Background(), *req.ReportData)
	if err != nil {
		return err
	}
	answer, err := (&evidencewire.Report{Type: res.Type, Report: res.Report, Certificates: res.Certificates}).Marshal()
	if err == nil {
		_, err = c.Write(answer)
	}
	return err
}

// askSidecar is the script command `askskr OUTPUT PATH [BODY]`: it waits until a sidecar has written its address as the
// first line of a file and is ready, asks it, and prints status and answer.
func askSidecar() {
	if len(os.Args) < 3 {
		fatalf("usage: askskr OUTPUT PATH [BODY]")
	}
	address := ""
	for end := time.Now().Add(4 * patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		b, _ := os.ReadFile(os.Args[1]) // may be not there yet
		address, _, _ = strings.Cut(string(b), "\n")
		resp, err := http.Get(address + "/readyz")
		if err != nil {
			continue
		}
		_ = resp.Body.Close() // the status says it
		if resp.StatusCode == http.StatusOK {
			break
		}
	}
	method, body := http.MethodGet, ""
	if len(os.Args) > 3 {
		method, body = http.MethodPost, os.Args[3]
	}
	req, err := http.NewRequest(method, address+os.Args[2], strings.NewReader(body))
	if err != nil {
		fatalf("%v", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fatalf("%v", err)
	}
	defer func() { _ = resp.Body.Close() }() // read below
	b, err := io.ReadAll(resp.Body)
	fmt.Printf("%d %s\n", resp.StatusCode, b)
	if err != nil {
		fatalf("%v", err)
	}
}
