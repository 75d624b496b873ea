// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	sevabi "github.com/google/go-sev-guest/abi"
	sevverify "github.com/google/go-sev-guest/verify"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/measure"
)

// shared is one installation for all tests, because making a root takes seconds.
var shared = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "simsp-test-")
	if err != nil {
		return "", err
	}
	_, err = Open(dir)
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := shared(); err == nil {
		_ = os.RemoveAll(dir) // a leftover in the temporary directory harms nobody
	}
	os.Exit(code)
}

func processorForTest(t testing.TB) *Processor {
	t.Helper()
	dir, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// launch is a guest that can be launched.
func launch(t testing.TB) Launch {
	t.Helper()
	dir := t.TempDir()
	l := Launch{
		KernelPath: filepath.Join(dir, "kernel"), InitrdPath: filepath.Join(dir, "initrd"), Cmdline: "quiet", VCPUs: 2,
		HostData: sha256.Sum256([]byte("policy")), Policy: snp.DefaultGuestPolicy,
	}
	for _, p := range []string{l.KernelPath, l.InitrdPath} {
		if err := os.WriteFile(p, []byte(p), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func mustLaunch(t testing.TB, p *Processor, l Launch) *Guest {
	t.Helper()
	g, err := p.Launch(l)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// defaultTCB is the TCB of a machine that nobody changed.
var defaultTCB = snp.TCB{0: 4, 6: 0x18, 7: 0xdb}

func certificates(t testing.TB, g *Guest) [][]byte {
	t.Helper()
	certs, err := g.Certificates()
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// reportOf has a guest ask for a report.
func reportOf(t testing.TB, g *Guest, data [64]byte, vmpl uint32) []byte {
	t.Helper()
	rsp, err := g.answerReport((&snp.ReportRequest{ReportData: data, VMPL: vmpl}).Marshal())
	if err != nil || rsp.Status != snp.StatusSuccess {
		t.Fatalf("%v, %v", rsp, err)
	}
	return rsp.Report
}

func chipID(t testing.TB, g *Guest) []byte {
	t.Helper()
	r, err := snp.ParseReport(reportOf(t, g, [64]byte{}, 0))
	if err != nil {
		t.Fatal(err)
	}
	return r.ChipID[:]
}

func TestRootIsPrivateAndMadeOnce(t *testing.T) {
	t.Parallel()
	dir, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	first, second := processorForTest(t), processorForTest(t)
	m := DefaultMachine()
	a, err1 := first.endorse(&m, snp.SigningKeyVCEK)
	b, err2 := second.endorse(&m, snp.SigningKeyVCEK)
	if err := joinErrors(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !first.ark.Equal(second.ark) || !a.key.Equal(b.key) {
		t.Error("two openings give different keys")
	}
}

func TestRootIsMadeOnceByManyAtATime(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes another root, which takes seconds")
	}
	dir := filepath.Join(t.TempDir(), "deep", "simsp")
	leftover := filepath.Join(dir, tempPrefix+"dead")
	if err := os.MkdirAll(leftover, 0o700); err != nil {
		t.Fatal(err)
	}
	const n = 4
	arks := make([]*x509.Certificate, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			p, err := Open(dir)
			if errs[i] = err; err == nil {
				arks[i], _ = p.Chain()
			}
		})
	}
	wg.Wait()
	for i := range n {
		if errs[i] != nil || !arks[i].Equal(arks[0]) {
			t.Fatalf("opening %d: %v, or another root", i, errs[i])
		}
	}
	if _, err := os.Stat(leftover); !os.IsNotExist(err) {
		t.Errorf("what a dead process left is still there: %v", err)
	}
	other := processorForTest(t)
	if arks[0].Equal(other.ark) {
		t.Error("two installations have the same root")
	}
}

func TestSpoiltRootIsRefused(t *testing.T) {
	t.Parallel()
	good, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(t *testing.T, root string) error{
		"key readable by others": func(_ *testing.T, root string) error {
			return os.Chmod(filepath.Join(root, askKeyFile), 0o644)
		},
		"chip secret missing": func(_ *testing.T, root string) error { return os.Remove(filepath.Join(root, chipFile)) },
		"key of another certificate": func(_ *testing.T, root string) error {
			return os.Rename(filepath.Join(root, arkKeyFile), filepath.Join(root, askKeyFile))
		},
		"certificate replaced by text": func(_ *testing.T, root string) error {
			return os.WriteFile(filepath.Join(root, arkCertFile), []byte("no"), 0o600)
		},
		"key replaced by a link": func(_ *testing.T, root string) error {
			p := filepath.Join(root, chipFile)
			return joinErrors(os.Rename(p, p+"2"), os.Symlink(p+"2", p))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			root := filepath.Join(dir, rootDir)
			tighten(t, root)
			if _, err := Open(dir); err != nil {
				t.Fatalf("the copy is refused before it is spoilt: %v", err)
			}
			if err := spoil(t, root); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir); err == nil {
				t.Error("it was opened")
			}
		})
	}
}

// tighten gives copied files the mode of the originals; os.CopyFS adds permissions.
func tighten(t testing.TB, root string) {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Chmod(filepath.Join(root, e.Name()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func joinErrors(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestCertificatesHaveAMDsProfile(t *testing.T) {
	t.Parallel()
	g := mustLaunch(t, processorForTest(t), launch(t))
	certs := certificates(t, g)
	vcek, err := x509.ParseCertificate(certs[0])
	if err != nil {
		t.Fatal(err)
	}
	chip, err := snp.ParseChipCertificate(vcek)
	if err != nil {
		t.Fatal(err)
	}
	if chip.ProductName != "Milan-B0" || chip.TCB != defaultTCB || chip.Key != snp.SigningKeyVCEK ||
		!bytes.Equal(chip.HWID, chipID(t, g)) {
		t.Errorf("chip certificate says %+v", chip)
	}
	if vcek.SerialNumber.Sign() != 0 || vcek.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		t.Errorf("serial number %s, algorithm %s", vcek.SerialNumber, vcek.SignatureAlgorithm)
	}
	for _, der := range certs {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Subject.Organization; len(got) != 1 || got[0] != snp.SimulatedOrganization {
			t.Errorf("%s: organization is %q", c.Subject.CommonName, got)
		}
	}
}

// TestChipKeyDependsOnTCB pins the property that makes an old TCB unable to speak for a new one.
func TestChipKeyDependsOnTCB(t *testing.T) {
	t.Parallel()
	secret := chipSecret{1}
	a, err1 := secret.vcek(snp.TCB{7: 1})
	again, err2 := secret.vcek(snp.TCB{7: 1})
	b, err3 := secret.vcek(snp.TCB{7: 2})
	c, err4 := chipSecret{2}.vcek(snp.TCB{7: 1})
	if err := joinErrors(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if !a.Equal(again) || a.Equal(b) || a.Equal(c) {
		t.Error("the chip key is not a function of chip secret and TCB")
	}
}

func TestLaunchChecks(t *testing.T) {
	t.Parallel()
	p := processorForTest(t)
	for name, change := range map[string]func(*Launch){
		"zero policy":               func(l *Launch) { l.Policy = 0 },
		"bit 17 clear":              func(l *Launch) { l.Policy &^= snp.PolicyReservedOne },
		"unknown bit":               func(l *Launch) { l.Policy |= 1 << 40 },
		"multithreading forbidden":  func(l *Launch) { l.Policy &^= snp.PolicySMT },
		"newer ABI minor":           func(l *Launch) { l.Policy |= 1<<8 | 0xff },
		"newer ABI major":           func(l *Launch) { l.Policy |= 2 << 8 },
		"migration agent":           func(l *Launch) { l.Policy |= snp.PolicyMigrateMA },
		"ciphertext hiding":         func(l *Launch) { l.Policy |= snp.PolicyCiphertextHiding },
		"no processor":              func(l *Launch) { l.VCPUs = 0 },
		"kernel missing":            func(l *Launch) { l.KernelPath += "x" },
		"initial ramdisk missing":   func(l *Launch) { l.InitrdPath += "x" },
		"zero byte in command line": func(l *Launch) { l.Cmdline = "a\x00b" },
	} {
		l := launch(t)
		change(&l)
		if _, err := p.Launch(l); err == nil {
			t.Errorf("%s: it was launched", name)
		}
	}
	l := launch(t)
	g := mustLaunch(t, p, l)
	hashes, err := measure.HashBoot(l.KernelPath, l.InitrdPath, l.Cmdline)
	if err != nil {
		t.Fatal(err)
	}
	if g.Measurement() != measure.Simulated(hashes, l.VCPUs) || g.HostData() != l.HostData {
		t.Error("measurement or host data are not those of the launch")
	}
	if other := mustLaunch(t, p, l); other.base.ReportID == g.base.ReportID {
		t.Error("two guests have the same report ID")
	}
}

// TestReportAgainstOracle has another implementation parse and verify a report.
func TestReportAgainstOracle(t *testing.T) {
	t.Parallel()
	g := mustLaunch(t, processorForTest(t), launch(t))
	raw := reportOf(t, g, [64]byte{1, 2, 3}, 1)
	r, err := sevabi.ReportToProto(raw)
	if err != nil {
		t.Fatal(err)
	}
	m := g.Measurement()
	if !bytes.Equal(r.GetMeasurement(), m[:]) || r.GetVmpl() != 1 || r.GetVersion() != 3 {
		t.Errorf("the oracle reads %v", r)
	}
	vcek, err := x509.ParseCertificate(certificates(t, g)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := sevverify.SnpReportSignature(raw, vcek); err != nil {
		t.Error(err)
	}
	raw[0x50] ^= 1
	if err := sevverify.SnpReportSignature(raw, vcek); err == nil {
		t.Error("the oracle accepts a changed report")
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	t.Parallel()
	p := processorForTest(t)
	g := mustLaunch(t, p, launch(t))
	m := DefaultMachine()
	key, err := g.derivedKey(&m, &snp.KeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	scalar := hex.EncodeToString(p.chip[:])
	for _, v := range []any{p, g, p.chip, key, &snp.KeyResponse{Key: key}} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			s := fmt.Sprintf(format, v)
			if strings.Contains(s, scalar) || strings.Contains(s, hex.EncodeToString(key[:])) ||
				strings.Contains(s, fmt.Sprint([32]byte(key))) {
				t.Errorf("%T with %s prints a secret: %s", v, format, s)
			}
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	dir, err := shared()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Open(dir); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReport(b *testing.B) {
	g := mustLaunch(b, processorForTest(b), launch(b))
	for b.Loop() {
		reportOf(b, g, [64]byte{}, 0)
	}
}
