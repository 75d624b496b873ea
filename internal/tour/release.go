// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/devdomain"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/logfile"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/policy"
)

// The containers of the group that gets the key.
const (
	applicationName = "application"
	sidecarName     = "skr"
	sidecarPort     = "8080"
	// exitRefused is how the application ends when it gets no key.
	exitRefused = 3
	// pairTimeout is how long the application may take: an emulated machine makes the sidecar's keys slowly.
	pairTimeout = 5 * time.Minute
	// wordTimeout is how long the sidecar's log may be behind what the sidecar answered.
	wordTimeout = time.Minute
	// maxOutput bounds what is kept of what a container says.
	maxOutput = 1 << 20
)

// application is what runs beside the sidecar, on an unmodified busybox and an unmodified OpenSSL: it waits for the sidecar,
// gets the encrypted letter from storage that nobody trusts, asks the sidecar for the key in plain HTTP, and opens the letter.
// It asks again when it gets no answer in time, and not when it is refused. Key and letter are in this container alone.
const application = `until wget -q -O /dev/null http://127.0.0.1:` + sidecarPort + `/readyz 2> /dev/null; do sleep 0.1; done
wget -q -O letter.cms "$LETTER" || exit 1
until answer=$(wget -q -O - --header 'Content-Type: application/json' --post-data "$REQUEST" http://127.0.0.1:` + sidecarPort + `/key/release 2>&1); do
  case "$answer" in *" 4"[0-9][0-9]" "*) echo "$answer" >&2; exit 3;; *) sleep 1;; esac
done
key=$(echo "$answer" | sed 's/.*\\"k\\":\\"\([^\\]*\)\\".*/\1=/' | tr _- /+ | base64 -d | od -A n -v -t x1 | tr -d ' \n')
exec openssl cms -decrypt -binary -inform DER -in letter.cms -secretkey "$key" -secretkeyid "$KEYID"
`

// describePair is the group of the application and the sidecar. All of it is in the policy, so its hash stands for this
// application, this sidecar, whom the sidecar trusts, and what it is asked.
func (t *tour) describePair() (*spec.Group, error) {
	o := t.owner
	ca, err := os.ReadFile(o.doc.CA)
	if err != nil {
		return nil, err
	}
	secret, err := os.ReadFile(o.doc.Clients[0].Secret)
	if err != nil {
		return nil, err
	}
	request, err := json.Marshal(map[string]string{"maa_endpoint": o.doc.Attestation.GuestURL, "akv_endpoint": o.doc.Vault.GuestURL, "kid": letterKey})
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(o.at.String())
	if err != nil {
		return nil, err
	}
	g := &spec.Group{CPUs: vcpus, MemoryMiB: memoryMiB, Restart: spec.RestartNever, Containers: []spec.Container{
		{
			Name: applicationName, Image: t.cfg.Application, AllowStdio: true, Command: []string{"sh", "-c", application},
			Env: []spec.EnvVar{
				{Name: "REQUEST", Value: string(request)}, {Name: "LETTER", Value: "http://" + net.JoinHostPort(devdomain.HostName, port)},
				{Name: "KEYID", Value: hex.EncodeToString([]byte(letterKey))},
			},
		},
		{
			Name: sidecarName, Image: t.cfg.Sidecar, AllowStdio: true, Command: []string{"/skr.sh"},
			Env: []spec.EnvVar{
				{Name: "Port", Value: sidecarPort}, {Name: "COFFERDAM_AUTHORITIES", Value: base64.StdEncoding.EncodeToString(ca)},
				{Name: "AZURE_TENANT_ID", Value: o.doc.Vault.Tenant}, {Name: "AZURE_CLIENT_ID", Value: clientID},
				{Name: "AZURE_CLIENT_SECRET", Value: strings.TrimSpace(string(secret))}, {Name: "AZURE_AUTHORITY_HOST", Value: o.doc.Vault.GuestURL},
			},
		},
	}}
	return g, g.Validate()
}

// images opens the images of a group, and makes the disks of their layers.
type images struct{ t *tour }

// Open implements deploy.Images.
func (i images) Open(ctx context.Context, ref string, _ []spec.RegistryCredential) (assemble.Image, error) {
	img, err := image.Open(ctx, ref, image.Options{Dir: filepath.Join(i.t.cfg.Home, "images")})
	if err != nil {
		return assemble.Image{}, err
	}
	cache, err := layer.OpenCache(filepath.Join(i.t.cfg.Home, "layers"))
	if err != nil {
		return assemble.Image{}, err
	}
	entries, err := cache.GetAll(ctx, layer.Sources(img.Layers()), nil)
	return assemble.Image{Image: img, Entries: entries}, err
}

func (t *tour) prepare(ctx context.Context, g *spec.Group) (*deploy.Prepared, error) {
	t.begin("converting layers")
	return deploy.Prepare(ctx, deploy.Request{Group: *g, Images: images{t}, Generate: deploy.PolicyOptions(spec.PlatformOwn)})
}

// runPair launches the group under a policy, and returns how the application ended, and what it printed: when it ended
// well on its standard output, else on the other one.
func (t *tour) runPair(ctx context.Context, s *Step, p *deploy.Prepared) (string, int, error) {
	t.clean() // one machine at a time
	plan, err := p.Plan(deploy.Machine{Guest: t.guest}, t.choice, t.emulator)
	if err != nil {
		return "", 0, err
	}
	if plan.Boot.Measurement != hex.EncodeToString(t.expected[:]) {
		return "", 0, fmt.Errorf("the machine would have the launch digest %s, and not the one that the key is bound to", plan.Boot.Measurement)
	}
	if plan.HostPorts, err = t.owner.ports(); err != nil {
		return "", 0, err
	}
	plan.Remove = true
	if err := t.start(ctx, s, plan, p.Parts.Contents); err != nil {
		return "", 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, pairTimeout)
	defer cancel()
	t.begin("waiting for the application")
	said, err := t.follow(ctx, applicationName)
	if err != nil {
		return "", 0, err
	}
	ended, err := t.client.Wait(ctx, applicationName, "")
	if err == nil && ended.Broken {
		err = errors.New(ended.Reason)
	}
	if err != nil {
		return "", 0, fmt.Errorf("waiting for the application: %w", err)
	}
	out, complaints, err := said()
	if ended.ExitCode != 0 {
		out = complaints
	}
	return out, ended.ExitCode, err
}

// follow reads what a container writes to its standard output and error, from the beginning. The function that it returns
// waits for the end of both, which comes after that of the process: the last words are on their way then.
func (t *tour) follow(ctx context.Context, container string) (said func() (out, complaints string, err error), err error) {
	s, err := t.client.Attach(ctx, group.AttachOptions{Container: container, Replay: true})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = s.Close() }) // ends the reading, too
	var texts [2][]byte
	var errs [2]error
	var reading sync.WaitGroup
	for i, from := range []io.Reader{s.Stdout, s.Stderr} {
		reading.Go(func() { texts[i], errs[i] = io.ReadAll(io.LimitReader(from, maxOutput)) })
	}
	return func() (string, string, error) {
		reading.Wait()
		return string(texts[0]), string(texts[1]), errors.Join(errs[0], errs[1])
	}, nil
}

// output is what a container has written to its standard output or error so far.
func (t *tour) output(ctx context.Context, container, stream string) (string, error) {
	var b bytes.Buffer
	err := t.store.Logs(ctx, t.group.Record.ID, container, logfile.Options{}, func(e logfile.Entry) error {
		if e.Stream == stream {
			_, _ = b.Write(e.Bytes()) // never fails
		}
		return nil
	})
	return b.String(), err
}

func (t *tour) release(ctx context.Context, s *Step) error {
	t.endHostile()
	out, code, err := t.runPair(ctx, s, t.prepared)
	if err != nil {
		return err
	}
	if code != 0 || out != letterText {
		return fmt.Errorf("the application ended with %d and printed %q, not the letter", code, out)
	}
	s.add("application", "decrypted and printed: %s", out)
	return nil
}

// attackRelease launches the group under a policy that differs from the reviewed one in a byte, and means the same.
func (t *tour) attackRelease(ctx context.Context, s *Step) error {
	changed := *t.prepared
	changed.Text = bytes.Replace(t.prepared.Text, []byte("package policy"), []byte("package\tpolicy"), 1)
	if bytes.Equal(changed.Text, t.prepared.Text) || len(changed.Text) != len(t.prepared.Text) {
		return errors.New("the policy has no such byte to change")
	}
	s.add("reviewed policy", "%x", t.prepared.Hash())
	s.add("the host's policy", "%x (a space of it is a tab; it allows the same)", policy.Hash(changed.Text))
	out, code, err := t.runPair(ctx, s, &changed)
	if err != nil {
		return err
	}
	if code != exitRefused {
		return fmt.Errorf("the application ended with %d, and not for want of a key: %s", code, out)
	}
	s.add("application", "%s", strings.TrimSpace(out))
	d, err := t.decision(ctx)
	if err != nil {
		return err
	}
	if d.Allowed || d.Reason != vault.ReasonPolicy || d.Outcome == nil {
		return fmt.Errorf("the vault's decision is not a refusal by the policy: %s: %s", d.Reason, d.Detail)
	}
	s.add("vault", "decision %s: denied (%s)", d.ID, d.Reason)
	failures := d.Outcome.Failures()
	for _, f := range failures {
		s.add("reason", "%s %s\nexpected %s\nactual   %s", f.Claim, f.Operator, f.Expected, f.Actual)
	}
	if len(failures) != 1 || failures[0].Claim != "x-ms-sevsnpvm-hostdata" || !strings.Contains(failures[0].Actual, fmt.Sprintf("%x", policy.Hash(changed.Text))) {
		return errors.New("it was refused, but not for the policy's hash")
	}
	return nil
}

// decision is the vault's about the release that the sidecar was refused: the data owner alone can ask for the reason.
func (t *tour) decision(ctx context.Context) (*vault.Decision, error) {
	id, err := t.refusedRelease(ctx)
	if err != nil {
		return nil, err
	}
	d := &vault.Decision{}
	_, err = t.owner.vault().Do(ctx, http.MethodGet, "/releases/"+id, nil, d)
	return d, err
}

// refusedRelease waits until the sidecar's log names a release that was refused. It comes by another way than the answer.
func (t *tour) refusedRelease(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, wordTimeout)
	defer cancel()
	for {
		log, err := t.output(ctx, sidecarName, logfile.Stderr)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(log) {
			var entry struct {
				Release string `json:"release"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Release != "" {
				return entry.Release, nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the sidecar's log names no refused release: %s", log)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// start launches a plan, and follows it until its containers run.
func (t *tour) start(ctx context.Context, s *Step, plan *group.Plan, contents group.Contents) error {
	var err error
	if t.store == nil {
		if t.store, err = group.OpenStore(t.cfg.Home); err != nil {
			return err
		}
	}
	if t.group, err = t.store.Create(plan); err != nil {
		return err
	}
	t.begin("booting %s", plan.Name)
	began := t.cfg.Now()
	last := began
	start, err := group.Start(t.group, group.StartOptions{Command: t.cfg.Supervisor, Contents: contents, Progress: func(e group.Event) {
		s.add(e.Stage, "after %.1fs", e.Time.Sub(began).Seconds())
		last = e.Time
	}})
	if err != nil {
		return errors.Join(err, t.group.Close())
	}
	defer func() { _ = start.Close() }() // the group runs on its own by then, or is gone
	if err := start.Wait(ctx, group.StageRunning); err != nil {
		return err
	}
	if t.client, err = group.DialDir(t.group.Dir); err != nil {
		return err
	}
	s.add("group", "%s, running %s after its launch", plan.Name, last.Sub(began).Round(100*time.Millisecond))
	return nil
}
