// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

const (
	nonceSize = 32
	// answerTimeout is how long the application may take to listen.
	answerTimeout = time.Minute
)

// evidenceOf is a piece of evidence and the nonce that it answers.
type evidenceOf struct {
	doc   *evidence.Document
	nonce []byte
}

// fetch gets evidence of the group that runs, over a fresh nonce.
func (t *tour) fetch(ctx context.Context) (*evidenceOf, error) {
	e := &evidenceOf{nonce: make([]byte, nonceSize)}
	_, _ = rand.Read(e.nonce) // never fails: crypto/rand aborts the program instead
	b, err := t.client.Attest(ctx, e.nonce, nil)
	if err != nil {
		return nil, err
	}
	e.doc, err = evidence.ParseDocument(b)
	return e, err
}

func (t *tour) attest(ctx context.Context, s *Step) error {
	e, err := t.fetch(ctx)
	if err != nil {
		return err
	}
	r, err := snp.ParseReport(e.doc.Report)
	if err != nil {
		return err
	}
	s.add("nonce", "%x", e.nonce)
	s.add("measurement", "%x", r.Measurement)
	s.add("host data", "%x", r.HostData)
	s.add("report data", "%x", r.ReportData)
	want := evidence.ReportData(evidence.SourceHost, e.nonce, nil)
	switch {
	case r.Measurement != t.expected:
		return errors.New("the report's measurement is not the launch digest that was computed beforehand")
	case r.HostData != t.hash:
		return errors.New("the report's host data are not the policy's hash")
	case r.ReportData != want:
		return errors.New("the report's data do not commit to the nonce")
	}
	t.current = e
	return nil
}

// reliance is what the relying party trusts: the reviewed policy, the launch digest that it computed, its nonce.
func (t *tour) reliance(nonce []byte) verify.Options {
	return verify.Options{
		Roots: anchor.AMDRoots(), Now: t.cfg.Now(), Source: evidence.SourceHost, SNP: amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
		Measurements: [][]byte{t.expected[:]}, HostData: [][32]byte{t.hash}, Nonce: nonce,
	}
}

// trusting adds the simulated root to what is trusted, by name.
func (t *tour) trusting(o verify.Options) verify.Options {
	o.Roots, o.AllowSimulated = append(o.Roots, t.root), true
	return o
}

func (t *tour) appraise(ctx context.Context, s *Step) error {
	var err error
	t.root, err = localRoot(t.cfg.Home)
	if err != nil {
		return err
	}
	strict := verify.Appraise(ctx, t.current.doc, t.reliance(t.current.nonce))
	if strict.Outcome != verify.Refused || !failedOnly(strict, check.CodeTrustAnchorUnknown) {
		return fmt.Errorf("without the simulated root the verdict is %s: %s", strict.Outcome, codes(strict))
	}
	s.add("AMD's roots alone", "%s: %s", strict.Outcome, codes(strict))
	v := verify.Appraise(ctx, t.current.doc, t.trusting(t.reliance(t.current.nonce)))
	if !v.Accepted() || !v.Simulated {
		return fmt.Errorf("the verdict is %s (simulated: %v): %s", v.Outcome, v.Simulated, codes(v))
	}
	var picture strings.Builder
	err = verify.Render(&picture, v, false)
	if err != nil {
		return err
	}
	s.add("simulated root named", "%s", plain.Drawing(strings.TrimRight(picture.String(), "\n")))
	return nil
}

// codes are the codes of the checks that did not pass.
func codes(v *verify.Verdict) string {
	var list []string
	for _, c := range v.Failures() {
		list = append(list, string(c.Code))
	}
	return strings.Join(list, ", ")
}

// failedOnly reports whether a check failed with this code, and none with another.
func failedOnly(v *verify.Verdict, code check.Code) bool {
	failed := false
	for _, c := range v.Checks {
		if c.Result != check.Fail {
			continue
		}
		if c.Code != code {
			return false
		}
		failed = true
	}
	return failed
}

// localRoot reads this installation's simulated root, as a relying party that opts in does.
func localRoot(home string) (anchor.Root, error) {
	b, err := os.ReadFile(simsp.RootCertificatePath(filepath.Join(home, "simsp")))
	if err != nil {
		return anchor.Root{}, fmt.Errorf("reading the simulated root: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return anchor.Root{}, errors.New("reading the simulated root: it is not in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return anchor.Root{}, fmt.Errorf("reading the simulated root: %w", err)
	}
	return anchor.NewRoot(anchor.Simulated, "local", cert)
}

func (t *tour) ask(ctx context.Context, s *Step) error {
	r, err := t.client.Inspect(ctx)
	if err != nil {
		return err
	}
	if len(r.Ports) != 1 {
		return fmt.Errorf("%d ports are forwarded, want 1", len(r.Ports))
	}
	addr := net.JoinHostPort(r.Ports[0].HostIP, strconv.Itoa(int(r.Ports[0].HostPort)))
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	c, err := dialRedis(ctx, addr)
	if err != nil {
		return err
	}
	defer c.close()
	s.add("port", "%s", r.Ports[0])
	s.add("PING", "PONG")
	value := make([]byte, 8)
	_, _ = rand.Read(value) // never fails: crypto/rand aborts the program instead
	text := fmt.Sprintf("%x", value)
	for _, q := range []struct {
		words []string
		want  string
	}{{[]string{"SET", "depth", text}, "OK"}, {[]string{"GET", "depth"}, text}} {
		got, err := c.do(q.words...)
		if err != nil {
			return err
		}
		if got != q.want {
			return fmt.Errorf("%s answers %q, want %q", plain.Command(q.words), got, q.want)
		}
		s.add(plain.Command(q.words), "%s", got)
	}
	return nil
}
