// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"cofferdam.dev/internal/group"
)

// readWays are the ways to the same data that the program volumereader knows.
var readWays = []string{"plain", "luks2-ours", "luks2-kernel", "sealed-ours", "sealed-kernel", "shadow-ours"}

// BenchmarkVolumeInGuest has a privileged container of a real guest read the same data in order through each of the volumes'
// formats: in our own process, as the filesystem sidecar does, and through the kernel's dm-crypt and dm-verity over what that
// process hands on as it is. All are below a loop device on a file in FUSE. They take turns; what is compared is the
// processor time of the whole machine, and the medians of each turn's ratios.
func BenchmarkVolumeInGuest(b *testing.B) {
	needVM(b)
	h, port := home(b), freePort(b)
	file := filepath.Join(b.TempDir(), "compose.yaml")
	text := fmt.Sprintf(`name: reader
services:
  reader:
    image: 'oci:%s'
    privileged: true
    ports: ['%d:9000']
    volumes: ['data:/data']
volumes: {data: {}}
`, readerImage(b), port)
	err := os.WriteFile(file, []byte(text), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	ended(b, h, "reader")
	must(b, h, "group", "up", "--memory", "1g", file)
	pid := record(b, h, "reader").MachinePID
	for _, w := range readWays {
		eventually(b, "the way "+w+" is there", func() error {
			if c := containerOf(b, h, "reader", "reader"); c.State == group.StateExited {
				b.Fatalf("the reader has ended: %s", must(b, h, "group", "logs", "reader").stderr)
			}
			return ask(port, 0, readOnce(w, new(int64)))
		})
	}
	cpu, wall, ratio := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for b.Loop() {
		turn := map[string]float64{}
		for _, w := range readWays {
			var n int64
			before, began := clockOf(b, pid), time.Now()
			err = ask(port, 0, readOnce(w, &n))
			if err != nil {
				b.Fatal(err)
			}
			mb := float64(n) / 1e6
			turn[w] = mb / (clockOf(b, pid) - before).Seconds()
			cpu[w] = append(cpu[w], turn[w])
			wall[w] = append(wall[w], mb/time.Since(began).Seconds())
		}
		for _, f := range []string{"luks2", "sealed"} {
			ratio[f] = append(ratio[f], turn[f+"-kernel"]/turn[f+"-ours"])
		}
	}
	for _, w := range readWays {
		b.ReportMetric(median(cpu[w]), w+"-MB/cpu-s")
		b.ReportMetric(median(wall[w]), w+"-MB/s")
	}
	for f, r := range ratio {
		b.ReportMetric(median(r), f+"-kernel/ours")
	}
}

// readOnce has a way read from beginning to end.
func readOnce(way string, size *int64) func(net.Conn, int) error {
	return func(c net.Conn, _ int) error {
		_, err := fmt.Fprintln(c, way)
		if err != nil {
			return err
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return err
		}
		*size, err = strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %s", way, line)
		}
		return nil
	}
}

// readerImage makes an image of the program volumereader, and returns its directory.
func readerImage(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	program := filepath.Join(dir, "volumereader")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./volumereader")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("building volumereader: %v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		b.Fatal(err)
	}
	layer, err := layerOf("volumereader", content)
	if err != nil {
		b.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		img, err = mutate.Config(img, v1.Config{Cmd: []string{"/volumereader"}})
	}
	if err != nil {
		b.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		b.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		b.Fatal(err)
	}
	at := filepath.Join(dir, "image")
	to, err := layout.Write(at, empty.Index)
	if err == nil {
		err = to.AppendImage(img)
	}
	if err != nil {
		b.Fatal(err)
	}
	return at
}

// layerOf is a layer of one program, and of the directories that a container needs.
func layerOf(name string, content []byte) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	for _, dir := range []string{"tmp/", "data/"} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}))
	}
	err = errors.Join(err, w.Close())
	if err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
}
