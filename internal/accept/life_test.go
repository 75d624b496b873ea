// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/testcap"
)

// shop is a pod with something of everything. A process that is asked to end does so at once: time is for tests that need it.
const shop = `apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: hush-hush}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  type: NodePort
  selector: {app: shop}
  ports: [{port: PUBLISHED, targetPort: http}]
---
apiVersion: v1
kind: Pod
metadata:
  name: shop
  labels: {app: shop}
  annotations: {cofferdam.dev/egress: "192.168.127.1/32:ALLOWED/tcp"}
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 60
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: keys, secret: {secretName: keys}}
  initContainers:
  - name: prepare
    image: IMAGE
    command: [sh, -c, "mkdir /shared/www && cp /keys/token /shared/www/ && echo prepared"]
    volumeMounts: [{name: shared, mountPath: /shared}, {name: keys, mountPath: /keys, readOnly: true}]
  containers:
  - name: web
    image: IMAGE
    command: [sh, -c, "echo serving; trap 'exit 0' TERM; httpd -f -p 8080 -h /shared/www & wait"]
    ports: [{name: http, containerPort: 8080}]
    volumeMounts: [{name: shared, mountPath: /shared}]
    readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1, timeoutSeconds: 300}
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo about to stop >/proc/1/fd/1"]}}}
  - name: worker
    image: IMAGE
    command: [sh, -c, "rm -f /shared/sick; trap 'echo it was sick >/dev/termination-log; exit 3' TERM; echo at work; while :; do sleep 0.2; done"]
    terminationMessagePath: /dev/termination-log
    volumeMounts: [{name: shared, mountPath: /shared}]
    startupProbe: {exec: {command: [test, "!", -e, /shared/sick]}, periodSeconds: 1, failureThreshold: 1000, timeoutSeconds: 300}
    livenessProbe: {exec: {command: [test, "!", -e, /shared/sick]}, periodSeconds: 1, failureThreshold: 2, timeoutSeconds: 300}
  - name: broken
    image: IMAGE
    command: [sh, -c, "exit 4"]
  - name: talker
    image: IMAGE
    stdin: true
    command: [sh, -c, "trap 'exit 0' TERM; while read -r line; do echo heard $line; done; sleep 1000 & wait"]
`

// life is a test of the group shop.
type life struct {
	t                           *testing.T
	home, dir                   string
	published, allowed, refused int
}

// TestLife leads one group through everything that a group can have and that a person can do with it.
func TestLife(t *testing.T) {
	t.Parallel()
	needVM(t)
	l := &life{t: t, home: home(t), dir: t.TempDir(), published: freePort(t), allowed: greeter(t), refused: greeter(t)}
	l.up()
	l.serves()
	l.probes()
	l.egress()
	l.streams()
	l.operates()
	l.again()
}

// greeter says a word to whoever connects to its port.
func greeter(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "welcome\n") // the test misses it, if it fails
			_ = c.Close()
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port
}

func (l *life) up() {
	text := strings.NewReplacer("IMAGE", ref("busybox"), "PUBLISHED", fmt.Sprint(l.published), "ALLOWED", fmt.Sprint(l.allowed)).Replace(shop)
	file := filepath.Join(l.dir, "pod.yaml")
	l.ok(os.WriteFile(file, []byte(text), 0o600))
	args := []string{
		"group", "up", file, "--publish-address", "::1", "--memory", "640m", "--host-port", fmt.Sprint(l.allowed), "--host-port", fmt.Sprint(l.refused),
	}
	for _, c := range []string{
		"touch /shared/sick", "touch /shared/www/ready", "tar -cf - -C /shared/www token", "tar -xf - -C /shared/www",
		fmt.Sprintf("nc 192.168.127.1 %d", l.allowed), fmt.Sprintf("nc 192.168.127.1 %d", l.refused),
	} {
		args = append(args, "--allow-exec", "web:"+c)
	}
	ended(l.t, l.home, "shop")
	must(l.t, l.home, args...)
}

func (l *life) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// get fetches a file from the group's server, by IPv6.
func (l *life) get(path string) (string, error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(fmt.Sprintf("http://[::1]:%d/%s", l.published, path))
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(data), err
}

func (l *life) exec(container string, command ...string) result {
	l.t.Helper()
	return cofferdam(l.t, l.home, "", append([]string{"group", "exec", "--container", container, "shop", "--"}, command...)...)
}

// serves checks what the init container made of the secret, through the shared directory and a published port.
func (l *life) serves() {
	eventually(l.t, "the server gives out the token", func() error {
		got, err := l.get("token")
		if err == nil && got != "hush-hush" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
	if c := containerOf(l.t, l.home, "shop", "prepare"); c.State != group.StateExited || c.ExitCode == nil || *c.ExitCode != 0 {
		l.t.Errorf("the init container is %s", c.State)
	}
	if containerOf(l.t, l.home, "shop", "web").Ready {
		l.t.Error("the server is ready before its probe has succeeded")
	}
}

// probes has a server become ready, a worker fail and be restarted, and a container that fails again and again wait.
func (l *life) probes() {
	if r := l.exec("web", "touch", "/shared/www/ready"); r.code != 0 {
		l.t.Errorf("exec: exit code %d, %s", r.code, r.stderr)
	}
	eventually(l.t, "the server is ready", func() error {
		if !containerOf(l.t, l.home, "shop", "web").Ready {
			return errors.New("it is not")
		}
		return nil
	})
	l.wrote("worker", "at work\n")
	l.exec("web", "touch", "/shared/sick")
	expectEvent(l.t, l.home, "shop", "worker", "Unhealthy", "Liveness probe failed")
	expectEvent(l.t, l.home, "shop", "worker", "Killing", "failed its liveness probe")
	eventually(l.t, "the worker is started again", func() error {
		c := containerOf(l.t, l.home, "shop", "worker")
		if c.RestartCount == 0 || c.State != group.StateRunning {
			return fmt.Errorf("it is %s", c.State)
		}
		if c.Previous == nil || strings.TrimSpace(c.Previous.Message) != "it was sick" || c.Previous.ExitCode == nil || *c.Previous.ExitCode != 3 {
			l.t.Errorf("its run before: %+v", c.Previous)
		}
		return nil
	})
	expectEvent(l.t, l.home, "shop", "broken", "BackOff", "")
	if c := containerOf(l.t, l.home, "shop", "broken"); c.RestartCount == 0 {
		l.t.Error("the container that fails was not started again")
	}
}

func (l *life) egress() {
	if r := l.exec("web", "nc", "192.168.127.1", fmt.Sprint(l.allowed)); !strings.Contains(r.stdout, "welcome") {
		l.t.Errorf("what the list allows: exit code %d, %q, %s", r.code, r.stdout, r.stderr)
	}
	if r := l.exec("web", "nc", "192.168.127.1", fmt.Sprint(l.refused)); r.code == 0 || !strings.Contains(r.stderr, "not permitted") {
		l.t.Errorf("what the list does not allow: exit code %d, %q, %s", r.code, r.stdout, r.stderr)
	}
	if r := l.exec("web", "sh"); r.code != 3 {
		l.t.Errorf("a shell: exit code %d, want a refusal; %s", r.code, r.stderr)
	}
}

// streams has files and lines go in and come out.
func (l *life) streams() {
	in := filepath.Join(l.dir, "page")
	l.ok(os.WriteFile(in, []byte("a page"), 0o600))
	must(l.t, l.home, "group", "cp", "--container", "web", in, "shop:/shared/www")
	if got, err := l.get("page"); err != nil || got != "a page" {
		l.t.Errorf("a file that was copied in: %q, %v", got, err)
	}
	must(l.t, l.home, "group", "cp", "--container", "web", "shop:/shared/www/token", filepath.Join(l.dir, "out"))
	got, err := os.ReadFile(filepath.Join(l.dir, "out"))
	if err != nil || string(got) != "hush-hush" {
		l.t.Errorf("a file that was copied out: %q, %v", got, err)
	}
	l.attach()
	eventually(l.t, "the containers write", func() error {
		out := must(l.t, l.home, "group", "logs", "shop").stdout
		for _, want := range []string{"prepare | prepared\n", "web     | serving\n", "worker  | at work\n", "talker  | heard ahoy\n"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("%q is not in %q", want, out)
			}
		}
		return nil
	})
}

// wrote waits until a container has written exactly this: what it wrote and what it did come by different ways.
func (l *life) wrote(container, want string) {
	l.t.Helper()
	eventually(l.t, container+" writes", func() error {
		if out := must(l.t, l.home, "group", "logs", "--container", container, "shop").stdout; out != want {
			return fmt.Errorf("it wrote %q, want %q", out, want)
		}
		return nil
	})
}

// attach says a line to a container and hears it from there, then leaves.
func (l *life) attach() {
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, testcap.Bin("cofferdam"), "group", "attach", "-i", "--container", "talker", "shop")
	cmd.Env = append(os.Environ(), "COFFERDAM_HOME="+l.home)
	in, err := cmd.StdinPipe()
	l.ok(err)
	out, err := cmd.StdoutPipe()
	l.ok(err)
	l.ok(cmd.Start())
	_, err = io.WriteString(in, "ahoy\n")
	l.ok(err)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "heard ahoy\n" {
		l.t.Errorf("attached: %q, %v", line, err)
	}
	l.ok(cmd.Process.Signal(os.Interrupt))
	err = cmd.Wait()
	if err != nil {
		l.t.Errorf("leaving: %v", err)
	}
	if c := containerOf(l.t, l.home, "shop", "talker"); c.State != group.StateRunning || c.RestartCount != 0 {
		l.t.Errorf("after that the container is %s", c.State)
	}
}

// operates looks at the group in all ways, restarts it and stops it.
func (l *life) operates() {
	for _, look := range []struct{ command, want string }{
		{"stats", "web"}, {"top", "worker"}, {"events", "BackOff"}, {"debug", "container worker is running"}, {"inspect", "policy hash"},
	} {
		if out := must(l.t, l.home, "group", look.command, "shop").stdout; !strings.Contains(out, look.want) {
			l.t.Errorf("group %s:\n%s", look.command, out)
		}
	}
	must(l.t, l.home, "group", "restart", "shop", "--container", "web")
	eventually(l.t, "the server is back, with the volume as it was", func() error {
		_, err := l.get("page")
		return err
	})
	l.wrote("web", "serving\nabout to stop\nserving\n")
	must(l.t, l.home, "group", "stop", "shop")
	r := record(l.t, l.home, "shop")
	if r.State != group.StateExited {
		l.t.Errorf("the group is %s (%s)", r.State, r.Reason)
	}
	if m := containerOf(l.t, l.home, "shop", "worker").Message; strings.TrimSpace(m) != "it was sick" {
		l.t.Errorf("the worker's message is %q", m)
	}
	nothingRuns(l.t, l.home)
}

// again starts the group that has ended. What the secret holds is read from the description again.
func (l *life) again() {
	must(l.t, l.home, "group", "start", "shop")
	eventually(l.t, "the server gives out the token again", func() error {
		got, err := l.get("token")
		if err == nil && got != "hush-hush" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
	if _, err := l.get("page"); err == nil {
		l.t.Error("what was in the machine's memory is there after a new start")
	}
	if r := record(l.t, l.home, "shop"); r.Runs != 2 {
		l.t.Errorf("the group was started %d times, want 2", r.Runs)
	}
	must(l.t, l.home, "group", "down", "shop")
	nothingLeft(l.t, l.home)
}
