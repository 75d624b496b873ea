// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// askGroups is the script command `askgroups STATE WHO METHOD NAME[/MORE] [BODY]`: it asks the groups service whose state lies in
// the directory about a group of the resource group rg, or about a path that begins with a slash, and prints status and answer.
// Who is "operator", "nobody", or another token. The method WAIT puts a request's operation off until it has ended, and EXEC
// opens a session with the body as its command and prints what it says.
func askGroups() {
	if len(os.Args) < 5 {
		fatalf("usage: askgroups STATE WHO METHOD NAME[/MORE] [BODY]")
	}
	c := &groupsClient{state: os.Args[1], who: os.Args[2]}
	if err := c.run(os.Args[3], os.Args[4], strings.Join(os.Args[5:], " ")); err != nil {
		fatalf("%v", err)
	}
}

type groupsClient struct {
	state, who string
	base       string
	http       *http.Client
}

func (c *groupsClient) run(method, path, body string) error {
	err := c.dial()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(path, "/") {
		path = "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ContainerInstance/containerGroups/" + path
	}
	if !strings.HasPrefix(path, "/openapi") && !strings.Contains(path, "api-version") {
		path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "api-version=2023-05-01"
	}
	if data, err := os.ReadFile(body); err == nil {
		body = string(data)
	}
	if method == "EXEC" {
		return c.exec(path, body)
	}
	wait := strings.HasPrefix(method, "WAIT-")
	resp, answer, err := c.ask(strings.TrimPrefix(method, "WAIT-"), c.base+path, body)
	if err != nil {
		return err
	}
	if at := resp.Header.Get("Azure-AsyncOperation"); wait && at != "" {
		if answer, err = c.wait(at); err != nil {
			return err
		}
	}
	fmt.Printf("%d %s\n", resp.StatusCode, strings.TrimSpace(answer))
	return nil
}

// dial finds out where the service is.
func (c *groupsClient) dial() error {
	b, err := os.ReadFile(filepath.Join(c.state, "address"))
	if err != nil {
		return err
	}
	c.base = strings.TrimSpace(string(b))
	tr := &http.Transport{DisableKeepAlives: true}
	if path, ok := strings.CutPrefix(c.base, "unix:"); ok {
		c.base = "http://localhost"
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	} else {
		roots := x509.NewCertPool()
		b, err := os.ReadFile(filepath.Join(c.state, "tls-certificate.pem"))
		if err != nil {
			return err
		}
		roots.AppendCertsFromPEM(b)
		tr.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	c.http = &http.Client{Timeout: 5 * time.Minute, Transport: tr}
	return nil
}

func (c *groupsClient) ask(method, url, body string) (*http.Response, string, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body)) //nolint:noctx // ends by its timeout
	if err != nil {
		return nil, "", err
	}
	switch c.who {
	case "nobody":
	case "operator":
		if token, err := os.ReadFile(filepath.Join(c.state, "operator-token")); err == nil {
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		}
	default:
		req.Header.Set("Authorization", "Bearer "+c.who)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }() // read below
	answer, err := io.ReadAll(resp.Body)
	return resp, string(answer), err
}

// wait asks for an operation until it has ended.
func (c *groupsClient) wait(at string) (string, error) {
	for began := time.Now(); time.Since(began) < 6*time.Minute; time.Sleep(time.Second) {
		_, answer, err := c.ask("GET", at, "")
		if err != nil || !strings.Contains(answer, `"InProgress"`) {
			return answer, err
		}
	}
	return "", errors.New("the operation goes on and on")
}

// exec opens a session, and prints its output and how it ended.
func (c *groupsClient) exec(path, command string) error {
	body, err := json.Marshal(map[string]any{"command": command})
	if err != nil {
		return err
	}
	resp, answer, err := c.ask("POST", c.base+path, string(body))
	if err != nil {
		return err
	}
	var session struct{ WebSocketURI, Password string }
	if resp.StatusCode != http.StatusOK || json.Unmarshal([]byte(answer), &session) != nil {
		fmt.Printf("%d %s\n", resp.StatusCode, answer)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, session.WebSocketURI, &websocket.DialOptions{HTTPClient: &http.Client{Transport: c.http.Transport}})
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }() // it has ended
	if err = conn.Write(ctx, websocket.MessageText, []byte(session.Password)); err != nil {
		return err
	}
	var output bytes.Buffer
	for {
		_, data, err := conn.Read(ctx)
		var end websocket.CloseError
		if errors.As(err, &end) {
			fmt.Printf("%send: %d %s\n", output.String(), end.Code, end.Reason)
			return nil
		}
		if err != nil {
			return err
		}
		output.Write(data)
	}
}
