// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/testcap"
)

// crashDirectory names the environment variable by which a test process is the one that TestKill kills.
const crashDirectory = "VAULT_TEST_CRASH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirectory); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(testcap.NoLeaks(m))
}

// order is what the victim is told to do, and answer what it says when it is done.
type order struct {
	Do     string
	Name   string
	Secret []byte // to import
	Policy string
}

type answer struct {
	Version string
	Err     string
}

// picture is what a vault has: keys by name, and how many versions lie in the store.
type picture struct {
	Keys   map[string]pictured
	Stored int
}

type pictured struct {
	Deleted  bool
	Policy   string
	Versions map[string]string // to the SHA-256 of the material
}

// victim is the process that is killed: it says what it found, and then does what it is told until its end.
func victim(dir string) error {
	v, err := openVictim(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := v.Sweep(ctx); err != nil {
		return err
	}
	p, err := v.picture(ctx)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(p); err != nil {
		return err
	}
	for in := json.NewDecoder(os.Stdin); ; {
		var o order
		if err := in.Decode(&o); err != nil {
			return err
		}
		a := answer{}
		if a.Version, err = v.obey(ctx, o); err != nil {
			a.Err = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

func openVictim(dir string) (*Vault, error) {
	s, err := boltstore.Open(filepath.Join(dir, "vault.db"))
	if err != nil {
		return nil, err
	}
	der, err := os.ReadFile(filepath.Join(dir, "audit.key"))
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return nil, err
	}
	log, err := audit.Open(filepath.Join(dir, "audit"), audit.Options{Instance: "victim", Key: key})
	if err != nil {
		return nil, err
	}
	root, err := seal.NewMemory(seal.NewSecret(make([]byte, seal.RootKeySize)), "test")
	if err != nil {
		return nil, err
	}
	return New(Options{Name: "test", Store: s, Root: root, Audit: log})
}

func (v *Vault) obey(ctx context.Context, o order) (string, error) {
	policy := &ReleasePolicy{Data: []byte(o.Policy)}
	var k *Key
	var err error
	switch o.Do {
	case "import":
		m, err := NewMaterial(o.Secret)
		if err != nil {
			return "", err
		}
		if k, err = v.ImportKey(ctx, o.Name, m, KeyRequest{HSM: true, Attributes: AttributeChange{Exportable: ptr(true)}, Policy: policy}); err != nil {
			return "", err
		}
	case "rotate":
		k, err = v.RotateKey(ctx, o.Name)
	case "delete":
		k, err = v.DeleteKey(ctx, o.Name)
	case "recover":
		k, err = v.RecoverKey(ctx, o.Name)
	case "policy":
		k, err = v.UpdateKey(ctx, o.Name, "", KeyUpdate{Policy: policy})
	case "purge":
		return "", v.PurgeKey(ctx, o.Name)
	}
	if err != nil {
		return "", err
	}
	return k.Version, nil
}

// picture opens everything, so that nothing can be half-written and pass.
func (v *Vault) picture(ctx context.Context) (*picture, error) {
	p := &picture{Keys: map[string]pictured{}}
	err := v.opts.Store.View(ctx, func(r store.Reader) error {
		for _, s := range []state{live, deleted} {
			entries, err := r.List(v.path(keys, s, ""), "", store.MaxList)
			if err != nil {
				return err
			}
			for _, e := range entries {
				name := strings.TrimPrefix(e.Key, v.path(keys, s, ""))
				o, err := v.open(ctx, keys, s, name, e.Value)
				if err != nil {
					return err
				}
				k := pictured{Deleted: s == deleted, Versions: map[string]string{}}
				if o.head.Policy != nil {
					k.Policy = string(o.head.Policy.Data)
				}
				versions, err := r.List(v.versionPath(keys, name, ""), "", store.MaxList)
				if err != nil {
					return err
				}
				for _, e := range versions {
					rec, material, err := o.openVersion(e.Key, e.Value)
					if err != nil {
						return err
					}
					sum := sha256.Sum256(material.Expose())
					k.Versions[rec.Version] = hex.EncodeToString(sum[:])
				}
				if _, ok := k.Versions[o.head.Current.Version]; !ok || o.head.Versions != len(versions) || (o.head.Deleted != nil) != k.Deleted {
					return fmt.Errorf("key %s: head %+v with %d versions", name, o.head, len(versions))
				}
				if _, twice := p.Keys[name]; twice {
					return fmt.Errorf("key %s is live and deleted", name)
				}
				p.Keys[name] = k
			}
		}
		all, err := r.List("vault/test/key/version/", "", store.MaxList)
		p.Stored = len(all)
		return err
	})
	return p, err
}

// lane is a vault that is killed again and again, with what it acknowledged.
type lane struct {
	dir   string
	rng   *mathrand.Rand
	model map[string]pictured
	acked int
	took  time.Duration // how long an order takes, about
}

func newLane(t *testing.T, seed uint64) (*lane, *ecdsa.PrivateKey) {
	t.Helper()
	l := &lane{dir: t.TempDir(), rng: mathrand.New(mathrand.NewPCG(seed, 1)), model: map[string]pictured{}, took: 10 * time.Millisecond}
	key := newAuditKey(t)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "audit.key"), der, 0o600); err != nil {
		t.Fatal(err)
	}
	return l, key
}

func policyOf(n int) string {
	return fmt.Sprintf(`{"version":"1.0.0","anyOf":[{"authority":"https://a.example","allOf":[{"claim":"n","equals":%d}]}]}`, n)
}

// next is an order that the vault must obey in its present state.
func (l *lane) next() order {
	name := fmt.Sprint("key-", l.rng.IntN(3))
	k, there := l.model[name]
	o := order{Name: name, Policy: policyOf(l.rng.IntN(1000))}
	var may []string
	switch {
	case !there:
		may = []string{"import"}
	case k.Deleted:
		may = []string{"recover", "recover", "purge"}
	default:
		may = []string{"import", "rotate", "rotate", "delete", "policy", "policy"}
	}
	o.Do = may[l.rng.IntN(len(may))]
	if o.Do == "import" {
		o.Secret = make([]byte, 32)
		_, _ = rand.Read(o.Secret)
	}
	return o
}

// after is the model once an order is done. Version is that of a new version, and "" when it was not told.
func (l *lane) after(o order, version string) map[string]pictured {
	m := maps.Clone(l.model)
	k := m[o.Name]
	k.Versions = maps.Clone(k.Versions)
	if k.Versions == nil {
		k.Versions = map[string]string{}
	}
	switch o.Do {
	case "import":
		sum := sha256.Sum256(o.Secret)
		k.Policy, k.Versions[version] = o.Policy, hex.EncodeToString(sum[:])
	case "rotate":
		k.Versions[version] = ""
	case "delete", "recover":
		k.Deleted = o.Do == "delete"
	case "policy":
		k.Policy = o.Policy
	case "purge":
		delete(m, o.Name)
		return m
	}
	m[o.Name] = k
	return m
}

// same compares what was found with a model, in which "" stands for a version or a hash that nobody was told.
func same(found *picture, model map[string]pictured) bool {
	stored := 0
	for name, want := range model {
		got, ok := found.Keys[name]
		if !ok || got.Deleted != want.Deleted || got.Policy != want.Policy || len(got.Versions) != len(want.Versions) {
			return false
		}
		stored += len(want.Versions)
		for version, hash := range want.Versions {
			if version == "" {
				if hash != "" && !slices.Contains(slices.Collect(maps.Values(got.Versions)), hash) {
					return false
				}
				continue
			}
			if g, ok := got.Versions[version]; !ok || hash != "" && g != hash {
				return false
			}
		}
	}
	return len(found.Keys) == len(model) && found.Stored == stored
}

// round starts the vault, compares what it finds with what was acknowledged and perhaps what was pending, has it do some
// orders, and kills it at a random time. It returns the order that was pending.
func (l *lane) round(t *testing.T, pending *order) *order {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashDirectory+"="+l.dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // it was killed
	defer func() { _ = cmd.Process.Kill() }()
	answers := json.NewDecoder(bufio.NewReader(out))
	var found picture
	if err := answers.Decode(&found); err != nil {
		t.Fatalf("the vault does not start: %v", err)
	}
	switch {
	case same(&found, l.model):
	case pending != nil && same(&found, l.after(*pending, "")):
	default:
		t.Fatalf("pending %+v; acknowledged and found:\n%s", pending, cmp.Diff(l.model, found.Keys))
	}
	l.model = found.Keys
	orders := json.NewEncoder(in)
	for range l.rng.IntN(3) {
		o := l.next()
		began := time.Now()
		if err := orders.Encode(o); err != nil {
			t.Fatal(err)
		}
		l.answered(t, answers, o)
		l.took = (3*l.took + time.Since(began)) / 4
	}
	o := l.next()
	if err := orders.Encode(o); err != nil {
		t.Fatal(err)
	}
	// One kill in three comes at once: on a busy machine a pause may be longer than it was meant to be.
	if pause := time.Duration(l.rng.Int64N(int64(l.took)*3/2)) - l.took/2; pause > 0 {
		time.Sleep(pause)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if l.answered(t, answers, o) {
		return nil
	}
	return &o
}

// answered takes the answer to an order into the model, and reports whether there was one.
func (l *lane) answered(t *testing.T, answers *json.Decoder, o order) bool {
	t.Helper()
	var a answer
	err := answers.Decode(&a)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	if err != nil || a.Err != "" {
		t.Fatalf("%+v: %v, %s", o, err, a.Err)
	}
	l.model = l.after(o, a.Version)
	l.acked++
	return true
}

// TestKill kills a vault at 500 random points of imports, rotations, deletions, purges and changes of policy. Nothing that
// was acknowledged is lost, nothing is half-written, and all that was acknowledged is in the audit log.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	const lanes, rounds = 4, 126
	var unanswered atomic.Int64
	t.Run("lanes", func(t *testing.T) {
		for i := range lanes {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				l, key := newLane(t, uint64(i))
				var pending *order
				for range rounds {
					if pending = l.round(t, pending); pending != nil {
						unanswered.Add(1)
					}
				}
				checkAudit(t, l, key)
			})
		}
	})
	n := unanswered.Load()
	t.Logf("%d of %d kills came before the answer", n, lanes*rounds)
	if !t.Failed() && n < lanes*rounds/20 {
		t.Errorf("only %d kills came before the answer", n)
	}
}

// checkAudit verifies the log, after one more start has removed what the last kill may have left of a line.
func checkAudit(t *testing.T, l *lane, key *ecdsa.PrivateKey) {
	t.Helper()
	dir := filepath.Join(l.dir, "audit")
	log, err := audit.Open(dir, audit.Options{Instance: "victim", Key: key})
	if err == nil {
		err = log.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	orders := 0
	verifier, err := audit.NewVerifier([]*ecdsa.PublicKey{&key.PublicKey}, func(e *audit.Entry) error {
		if strings.HasPrefix(e.Kind, "key.") {
			orders++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("audit files: %v, %v", files, err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		err = verifier.File(name, f)
		_ = f.Close() // read only
		if err != nil {
			t.Error(err)
		}
	}
	if orders < l.acked {
		t.Errorf("%d orders were acknowledged, and %d are in the audit log", l.acked, orders)
	}
}
