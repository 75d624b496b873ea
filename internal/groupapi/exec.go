// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"bytes"
	"encoding/json"
	"net/http"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/spec"
)

// execRequest is the body of a request for a further process. Command is split into words as a shell does.
type execRequest struct {
	Command      string `json:"command"`
	TerminalSize *struct {
		Rows uint16 `json:"rows"`
		Cols uint16 `json:"cols"`
	} `json:"terminalSize"`
}

// sessionAnswer says where a session is connected to, and what proves that one may.
type sessionAnswer struct {
	WebSocketURI string `json:"webSocketUri"`
	Password     string `json:"password"`
}

func (a *API) postExec(w http.ResponseWriter, r *http.Request, p params) *armError {
	data, bad := readBody(r)
	if bad != nil {
		return bad
	}
	var req execRequest
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&req)
	if err != nil {
		return badRequest(codeBadContent, "", "The request content was invalid and could not be read: %v.", err)
	}
	words, err := spec.SplitWords(req.Command)
	if err != nil || len(words) == 0 {
		return badRequest(codeBadContent, "command", "The command has no words, or an open quotation mark.")
	}
	o := &group.ExecOptions{Container: p["containerName"], Command: words, Stdin: true}
	if s := req.TerminalSize; s != nil {
		o.Terminal, o.Columns, o.Rows = true, uint32(s.Cols), uint32(s.Rows)
	}
	return a.promise(w, r, p, o, map[string]any{"command": words[0], "words": len(words)})
}

func (a *API) postAttach(w http.ResponseWriter, r *http.Request, p params) *armError {
	return a.promise(w, r, p, nil, map[string]any{})
}

// promise answers with a session.
func (a *API) promise(w http.ResponseWriter, r *http.Request, p params, exec *group.ExecOptions, event map[string]any) *armError {
	g, c, bad := a.container(p)
	if bad != nil {
		return bad
	}
	if !g.Alive || c.State != group.StateRunning {
		return failure(http.StatusConflict, codeNotRunning, "", "The container %q of group %q is %s, not running.", c.Name, p["containerGroupName"], c.State)
	}
	what := "attach"
	if exec != nil {
		what = "exec"
	}
	event["resource"], event["container"] = p.resource().String(), c.Name
	if bad = a.audit(r.Context(), what, event); bad != nil {
		return bad
	}
	id, password, ok := a.tickets.issue(&ticket{dir: g.Dir, container: c.Name, exec: exec})
	if !ok {
		return failure(http.StatusTooManyRequests, "TooManyRequests", "", "Too many sessions wait for their connection; try again in a minute.")
	}
	uri := "ws" + baseURL(r)[len("http"):] + "/sessions/" + id
	return answer(w, http.StatusOK, sessionAnswer{WebSocketURI: uri, Password: password})
}
