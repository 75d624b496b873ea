// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/evidence/snp"
)

func TestMachinesOfAllProductsAreValid(t *testing.T) {
	t.Parallel()
	for _, name := range Products() {
		m, err := NewMachine(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		of, err := findProduct(name)
		if err != nil {
			t.Fatal(err)
		}
		if line, err := of.cpuid.ProductLine(); err != nil || line != of.line {
			t.Errorf("%s: the processor is a %s, %v", name, line, err)
		}
	}
	if _, err := NewMachine("Rome"); err == nil {
		t.Error("a product without SNP can be simulated")
	}
	if (&Machine{}).Validate() == nil {
		t.Error("the zero machine is valid")
	}
}

func TestMachineStatesAreChecked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Machine){
		"no product":                  func(m *Machine) { m.Product = "" },
		"FMC on Milan":                func(m *Machine) { m.Current.FMC = 1 },
		"report version 4":            func(m *Machine) { m.ReportVersion = 4 },
		"no socket":                   func(m *Machine) { m.Sockets = 0 },
		"current below committed":     func(m *Machine) { m.Current.SNP-- },
		"committed below reported":    func(m *Machine) { m.Committed.SNP--; m.Current.Microcode++ },
		"reported above committed":    func(m *Machine) { m.Current.SNP++; m.Reported.SNP++ },
		"firmware older than commit":  func(m *Machine) { m.CurrentVersion.Build-- },
		"expired key of nobody":       func(m *Machine) { m.ExpiredProvider = true },
		"provider with a line break":  func(m *Machine) { m.Provider = "a\nb" },
		"provider with a long name":   func(m *Machine) { m.Provider = strings.Repeat("a", 65) },
		"provider that is not ASCII":  func(m *Machine) { m.Provider = "ä" },
		"one part below, others over": func(m *Machine) { m.Current.Microcode += 9; m.Current.Bootloader-- },
	} {
		m := DefaultMachine()
		change(&m)
		if m.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
}

// TestFirmwareNeverGoesBehindItsCommit draws commands of the host and holds the firmware's rule after each.
func TestFirmwareNeverGoesBehindItsCommit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := DefaultMachine()
		small := rapid.Uint8Range(0, 3)
		for range rapid.IntRange(1, 12).Draw(t, "commands") {
			before := m
			tcb := m.Current
			tcb.SNP += small.Draw(t, "snp") - 1
			tcb.Microcode += small.Draw(t, "microcode") - 1
			var err error
			switch rapid.IntRange(0, 2).Draw(t, "command") {
			case 0:
				err = m.Update(tcb, Version{1, 55, m.CurrentVersion.Build + small.Draw(t, "build") - 1})
			case 1:
				err = m.Commit()
			case 2:
				err = m.Report(tcb)
			}
			if err != nil && m != before {
				t.Fatalf("a refused command changed the machine: %v", err)
			}
			if !m.Committed.AtLeast(before.Committed) || !m.CommittedVersion.atLeast(before.CommittedVersion) {
				t.Fatalf("what was committed went back from %+v to %+v", before, m)
			}
			if err := m.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestUpdateCommitAndRollback(t *testing.T) {
	t.Parallel()
	m := DefaultMachine()
	old, oldVersion := m.Current, m.CurrentVersion
	newer := parts(func(p *snp.TCBParts) { p.SNP++ })
	steps := []struct {
		name string
		run  func() error
		ok   bool
	}{
		{"report what is not committed", func() error { return m.Report(newer) }, false},
		{"update", func() error { return m.Update(newer, Version{1, 56, 0}) }, true},
		{"report what is provisional", func() error { return m.Report(newer) }, false},
		{"go back", func() error { return m.Update(old, oldVersion) }, true},
		{"update again", func() error { return m.Update(newer, Version{1, 56, 0}) }, true},
		{"commit", m.Commit, true},
		{"go back behind the commit", func() error { return m.Update(old, oldVersion) }, false},
		{"go back with the version alone", func() error { return m.Update(newer, oldVersion) }, false},
		{"report the old TCB", func() error { return m.Report(old) }, true},
	}
	for _, s := range steps {
		if err := s.run(); (err == nil) != s.ok {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	if m.Current != newer || m.Committed != newer || m.Reported != old {
		t.Errorf("machine is %+v", m)
	}
}

func TestMachineFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "simsp")
	m, err := LoadMachine(dir)
	if err != nil || m != DefaultMachine() {
		t.Fatalf("an installation that nobody changed has %+v, %v", m, err)
	}
	errNo := errors.New("no")
	if _, err := ChangeMachine(dir, func(m *Machine) error { m.SMT = false; return errNo }); !errors.Is(err, errNo) {
		t.Errorf("a refused change: %v", err)
	}
	if _, err := ChangeMachine(dir, func(m *Machine) error { m.Sockets = 3; return nil }); err == nil {
		t.Error("a machine that can not be was stored")
	}
	if m, err := LoadMachine(dir); err != nil || m != DefaultMachine() {
		t.Fatalf("after refused changes it is %+v, %v", m, err)
	}
	var wg sync.WaitGroup
	const n = 8
	for range n {
		wg.Go(func() {
			_, err := ChangeMachine(dir, func(m *Machine) error {
				tcb := m.Current
				tcb.Microcode++
				return m.Update(tcb, m.CurrentVersion)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want := DefaultMachine()
	want.Current.Microcode += n
	got, err := LoadMachine(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(dir, machineFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestMachineFileIsReadStrictly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, machineFile)
	if _, err := ChangeMachine(dir, func(*Machine) error { return nil }); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	for name, bad := range map[string]string{
		"empty": "", "cut": text[:len(text)-3], "tail": text + "{}", "too large": text + strings.Repeat(" ", maxMachineFile),
		"other schema":  strings.Replace(text, "machine/v1", "machine/v2", 1),
		"unknown key":   strings.Replace(text, `"smt"`, `"smp"`, 1),
		"invalid state": strings.Replace(text, `"sockets": 1`, `"sockets": 9`, 1),
	} {
		if bad == text {
			t.Fatalf("%s: the text did not change", name)
		}
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := LoadMachine(dir); err == nil {
			t.Errorf("%s: loaded as %+v", name, m)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadMachine(dir); err == nil {
		t.Error("a file that others may read was loaded")
	}
}

// TestMachinesAdmitWhatTheyMeet holds launches against machines.
func TestMachinesAdmitWhatTheyMeet(t *testing.T) {
	t.Parallel()
	base := snp.PolicyReservedOne
	for _, c := range []struct {
		policy snp.GuestPolicy
		change func(*Machine)
		ok     bool
	}{
		{base | snp.PolicySMT, nil, true},
		{base, nil, false},
		{base, func(m *Machine) { m.SMT = false }, true},
		{base | snp.PolicySMT | snp.PolicyDebug | snp.PolicyPageSwapDisabled, nil, true},
		{base | snp.PolicySMT | snp.PolicySingleSocket, nil, true},
		{base | snp.PolicySMT | snp.PolicySingleSocket, func(m *Machine) { m.Sockets = 2 }, false},
		{base | snp.PolicySMT | snp.PolicyRAPLDisabled, nil, false},
		{base | snp.PolicySMT | snp.PolicyRAPLDisabled, func(m *Machine) { m.RAPLDisabled = true }, true},
		{base | snp.PolicySMT | snp.PolicyCiphertextHiding, nil, false},
		{base | snp.PolicySMT | snp.PolicyCiphertextHiding, func(m *Machine) { m.CiphertextHiding = true }, true},
		{base | snp.PolicySMT | snp.PolicyMigrateMA, nil, false},
		{base | snp.PolicySMT | snp.PolicyAES256XTS, nil, false},
		{base | snp.PolicySMT | 1<<8 | 55, nil, true},
		{base | snp.PolicySMT | 1<<8 | 56, nil, false},
	} {
		m := DefaultMachine()
		if c.change != nil {
			c.change(&m)
		}
		t.Run(fmt.Sprintf("%#x", uint64(c.policy)), func(t *testing.T) {
			t.Parallel()
			if err := m.admit(c.policy); (err == nil) != c.ok {
				t.Errorf("%s: %v", c.policy, err)
			}
		})
	}
}
