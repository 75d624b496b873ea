// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRedis runs an unmodified server, talks to it through a forwarded port, and appraises the machine it runs in.
func TestRedis(t *testing.T) {
	needVM(t)
	h, port := home(t), freePort(t)
	detach(t, h, "redis", "-p", publish(port, 6379), ref("redis"))

	eventually(t, "redis answers PING", func() error {
		got, err := redis(port, "PING")
		if err == nil && got != "+PONG" {
			err = fmt.Errorf("answer is %q", got)
		}
		return err
	})
	for _, step := range [][2]string{{"SET colour blue", "+OK"}, {"STRLEN colour", ":4"}} {
		got, err := redis(port, step[0])
		if err != nil || got != step[1] {
			t.Errorf("%s: got %q, %v; want %q", step[0], got, err, step[1])
		}
	}

	nonce := evidenceNonce
	doc := must(t, h, "group", "attest", "redis", "--nonce", nonce).stdout
	policy := policyFor(t, h, "redis")
	verdicts := []struct {
		name string
		args []string
		code int
	}{
		{"accepted under the root named", []string{"--nonce", nonce, "--simulated-root", "local", "--policy", policy}, 0},
		{"another nonce", []string{"--nonce", "ff" + nonce[2:], "--simulated-root", "local", "--policy", policy}, 3},
		{"as a workload's", []string{"--nonce", nonce, "--simulated-root", "local", "--policy", policy, "--source", "workload"}, 3},
		{"no simulated root named", []string{"--nonce", nonce, "--policy", policy}, 3},
	}
	for _, v := range verdicts {
		r := cofferdam(t, h, doc, append([]string{"verify", "-"}, v.args...)...)
		if r.code != v.code {
			t.Errorf("verify, %s: exit code %d, want %d\n%s%s", v.name, r.code, v.code, r.stdout, r.stderr)
		}
		if v.code == 0 && !strings.Contains(strings.ToLower(r.stdout), "simulated") {
			t.Errorf("verify, %s: the verdict does not say that the evidence is simulated:\n%s", v.name, r.stdout)
		}
	}
	must(t, h, "group", "stop", "--timeout", "2m", "redis")
	if _, err := redis(port, "PING"); err == nil {
		t.Error("redis still answers after its group was stopped")
	}
}

// redis sends one inline command and returns the first line of the answer.
func redis(port int, command string) (string, error) {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Minute)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	err = c.SetDeadline(time.Now().Add(time.Minute))
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(c, "%s\r\n", command)
	if err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// TestNginx fetches a page from an unmodified web server and stops it by the image's own stop signal.
func TestNginx(t *testing.T) {
	needVM(t)
	h, port := home(t), freePort(t)
	detach(t, h, "nginx", "-p", publish(port, 80), ref("nginx"))

	client := &http.Client{Timeout: time.Minute}
	eventually(t, "nginx serves its page", func() error {
		resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "nginx") {
			return fmt.Errorf("status %s, %d bytes", resp.Status, len(body))
		}
		return nil
	})
	client.CloseIdleConnections()
	must(t, h, "group", "stop", "--timeout", "2m", "nginx")
	if out := must(t, h, "group", "inspect", "nginx", "-o", "json").stdout; !strings.Contains(out, `"exit_code": 0`) {
		t.Errorf("nginx did not end by itself on its stop signal:\n%s", out)
	}
}

// TestPython runs a script as the image's user, which is not root, with variables, standard input and an exit code. The
// script asks the guest's agent for evidence, in the raw, and can do nothing else with the agent's directory.
func TestPython(t *testing.T) {
	needVM(t)
	h := home(t)
	r := cofferdam(t, h, "from outside\n", "run", "--rm", "-i", "-e", "COLOUR=blue", ref("python"), "--", "python3", "-c", script)
	if r.code != 7 {
		t.Errorf("exit code %d, want the script's 7\nstderr:\n%s", r.code, r.stderr)
	}
	lines := strings.Split(r.stdout, "\n")
	if want := []string{"65534 blue from outside", "['evidence.sock', 'policy.rego', 'security-policy-base64']", "EROFS"}; len(lines) < 4 || !slices.Equal(lines[:3], want) {
		t.Fatalf("standard output is %q, want %q and evidence\nstderr:\n%s", r.stdout, want, r.stderr)
	}
	if ps := must(t, h, "group", "ps", "-o", "json").stdout; strings.Contains(ps, `"name"`) {
		t.Errorf("--rm left a group behind:\n%s", ps)
	}
	policy := filepath.Join(t.TempDir(), "policy.rego")
	must(t, h, "policy", "generate", "--file", policy, "-e", "COLOUR=blue", ref("python"), "--", "python3", "-c", script)
	v := cofferdam(t, h, lines[3], "verify", "-", "--nonce", "0001020304050607", "--source", "workload", "--policy", policy, "--simulated-root", "local")
	if v.code != 0 {
		t.Errorf("verify: exit code %d, want 0\n%s%s", v.code, v.stdout, v.stderr)
	}
}

// script is what TestPython runs.
const script = `import errno, os, socket, sys
print(os.getuid(), os.environ["COLOUR"], sys.stdin.read().strip())
print(sorted(os.listdir("/run/cofferdam")))
try:
    os.remove("/run/cofferdam/evidence.sock")
except OSError as e:
    print(errno.errorcode[e.errno])
s = socket.socket(socket.AF_UNIX)
s.connect("/run/cofferdam/evidence.sock")
s.sendall(b'{"nonce":"AAECAwQFBgc=","runtimeData":"a2V5"}\n')
print(s.makefile().read(), end="")
sys.exit(7)`

// policyFor makes the policy of an image as a relying party would: from the image, not from the group.
func policyFor(t *testing.T, home, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.rego")
	must(t, home, "policy", "generate", "--file", path, ref(name))
	return path
}
