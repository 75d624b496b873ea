// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"cofferdam.dev/internal/testcap"
)

// The images that the published templates name. None of them is fetched: the map puts others in their place.
const (
	distroless = "mcr.microsoft.com/azurelinux/distroless/base@sha256:1e77d97e1e39f22ed9c52f49b3508b4c1044cec23743df9098ac44e025f654f2"
	helloworld = "mcr.microsoft.com/acc/samples/aci/helloworld@sha256:86da7a2c5e55b72bf6bc7cf465b860e49c075395d854877124de63a9342ac777"
)

// started is the image busybox with another command, so that a template that leaves the command to its image does something.
func started(t *testing.T, command ...string) string {
	t.Helper()
	from := filepath.Join(t.TempDir(), "from")
	err := unpack(filepath.Join(testcap.Dir(), "images", "busybox.tar"), from)
	if err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(from)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := *file.Config.DeepCopy()
	config.Cmd = command
	img, err = mutate.Config(img, config)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	to, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = to.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

// unpack writes the files of an OCI archive into a new directory.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		data, err := io.ReadAll(r)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o700)
		}
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			return err
		}
	}
}

// template is how a published template is started.
type template struct {
	t     *testing.T
	home  string
	name  string
	image string // in place of distroless
	share string
	slow  bool // its probes get time, which the template does not give them: a command in an emulated guest can take seconds
}

func (p *template) args(verb string) []string {
	dir := testcap.Vectors(p.t, "confcom/aci/"+p.name)
	imageMap := filepath.Join(p.t.TempDir(), "map.json")
	data, err := json.Marshal(map[string]string{distroless: p.image, helloworld: ref("nginx")})
	if err == nil {
		err = os.WriteFile(imageMap, data, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(dir, "arm_template.json")
	if p.slow {
		file = p.patient(file)
	}
	args := []string{
		"group", verb, file, "--image-map", imageMap, "--name", strings.ReplaceAll(p.name, "_", "-"),
		"--memory", "512m", "--cpus", "1", "--regenerate",
	}
	if _, err = os.Stat(filepath.Join(dir, "parameters.json")); err == nil {
		args = append(args, "--parameters", filepath.Join(dir, "parameters.json"))
	}
	if p.share != "" {
		args = append(args, "--share", "shareName1="+p.share)
	}
	return args
}

// patient is a copy of a template whose probes have minutes.
func (p *template) patient(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	var all any
	err = json.Unmarshal(text, &all)
	if err != nil {
		p.t.Fatal(err)
	}
	found := 0
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				visit(item)
			}
		case map[string]any:
			for name, item := range v {
				if probe, ok := item.(map[string]any); ok && strings.HasSuffix(name, "Probe") {
					probe["timeoutSeconds"] = 300
					found++
				}
				visit(item)
			}
		}
	}
	visit(all)
	text, err = json.Marshal(all)
	to := filepath.Join(p.t.TempDir(), "arm_template.json")
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil || found == 0 {
		p.t.Fatalf("%s has %d probes, %v", file, found, err)
	}
	return to
}

// TestPublishedTemplates runs the published confidential templates as they are, with local images in place of theirs. All
// are planned; those that need the most of a guest are run.
func TestPublishedTemplates(t *testing.T) {
	t.Parallel()
	needVM(t)
	root := testcap.Vectors(t, "confcom/aci")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	h, share := home(t), t.TempDir()
	n := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		n++
		p := &template{t: t, home: h, name: e.Name(), image: ref("busybox"), share: share}
		out := must(t, h, append(p.args("plan"), "-o", "json")...).stdout
		var v struct {
			Admitted   bool `json:"admitted"`
			Containers []struct {
				Name string `json:"name"`
			} `json:"containers"`
		}
		err = json.Unmarshal([]byte(out), &v)
		if err != nil || !v.Admitted || len(v.Containers) == 0 {
			t.Errorf("%s: %v\n%s", e.Name(), err, out)
		}
	}
	if n < 10 {
		t.Errorf("%d templates, want 10", n)
	}
	t.Run("command", func(t *testing.T) { runCommand(t, h) })
	t.Run("multi_containers", func(t *testing.T) { runMulti(t, h) })
	t.Run("duplicated_probes", func(t *testing.T) { runProbes(t, h) })
	t.Run("volume_mounts", func(t *testing.T) { runShare(t, h) })
}

func runCommand(t *testing.T, h string) {
	p := &template{t: t, home: h, name: "command", image: ref("busybox")}
	p.up()
	p.logged("hello")
}

// runMulti is the one with a policy of its own, which is about Azure's images and refuses ours before anything starts.
func runMulti(t *testing.T, h string) {
	p := &template{t: t, home: h, name: "multi_containers", image: started(t, "sh", "-c", "echo one of two; sleep 1000")}
	args := p.args("up")
	r := cofferdam(t, h, "", args[:len(args)-1]...) // without --regenerate
	if r.code != 3 || !strings.Contains(r.stderr, "layers") {
		t.Errorf("under the template's own policy: exit code %d\n%s", r.code, r.stderr)
	}
	p.up()
	p.logged("container1 | one of two", "container2 | one of two")
}

// runProbes has the same command as both probes: it stands in the policy once and is run for each.
func runProbes(t *testing.T, h string) {
	p := &template{t: t, home: h, name: "duplicated_probes", image: started(t, "sleep", "1000"), slow: true}
	p.up()
	eventually(t, "the container is ready", func() error {
		if r := record(t, h, "duplicated-probes"); !r.Ready {
			return fmt.Errorf("it is %s", r.Containers[0].State)
		}
		return nil
	})
	if out := must(t, h, "group", "events", "duplicated-probes").stdout; strings.Contains(out, "Denied") {
		t.Errorf("events:\n%s", out)
	}
}

// runShare has a directory of this machine in place of the file share, read and written from both sides.
func runShare(t *testing.T, h string) {
	share := t.TempDir()
	err := os.WriteFile(filepath.Join(share, "in"), []byte("from outside"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	command := "cat /aci/logs/in; echo; mkdir /aci/logs/d && echo from inside >/aci/logs/d/out && mv /aci/logs/in /aci/logs/was; sleep 1000"
	p := &template{t: t, home: h, name: "volume_mounts", image: started(t, "sh", "-c", command), share: share}
	p.up()
	p.logged("from outside")
	eventually(t, "the container writes into the share", func() error {
		data, err := os.ReadFile(filepath.Join(share, "d", "out"))
		if err == nil {
			_, err = os.Stat(filepath.Join(share, "was"))
		}
		if err == nil && string(data) != "from inside\n" {
			err = fmt.Errorf("the file holds %q", data)
		}
		return err
	})
}

// up starts the group, and ends it with the test.
func (p *template) up() {
	p.t.Helper()
	ended(p.t, p.home, strings.ReplaceAll(p.name, "_", "-"))
	must(p.t, p.home, p.args("up")...)
}

func (p *template) logged(lines ...string) {
	p.t.Helper()
	eventually(p.t, "the containers write", func() error {
		out := must(p.t, p.home, "group", "logs", strings.ReplaceAll(p.name, "_", "-")).stdout
		for _, l := range lines {
			if !strings.Contains(out, l+"\n") {
				return fmt.Errorf("%q is not in %q", l, out)
			}
		}
		return nil
	})
}
