// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/logfile"
)

// maxLogs bounds the output that one answer has, in bytes; the newest is answered.
const maxLogs = 4 << 20

// logsAnswer is what a container has written.
type logsAnswer struct {
	Content string `json:"content"`
}

// container finds the record of a resource's container, and its group.
func (a *API) container(p params) (*group.Group, *group.Container, *armError) {
	id := p.resource()
	e := a.find(id, false)
	if e == nil {
		return nil, nil, notFound(id)
	}
	d := e.doc
	e.mu.Unlock()
	g := a.current(d)
	if g == nil {
		if d.Operation.Status == inProgress {
			return nil, nil, transitioning(id, d.Operation.Kind)
		}
		return nil, nil, failure(http.StatusConflict, codeNotRunning, "", "The container group %q has never run, or was removed by another command.", id.Name)
	}
	for i := range g.Record.Containers {
		if c := &g.Record.Containers[i]; c.Name == p["containerName"] {
			return g, c, nil
		}
	}
	return nil, nil, failure(http.StatusNotFound, codeNoContainer, "containerName", "The container group %q has no container %q.", id.Name, p["containerName"])
}

func (a *API) getLogs(w http.ResponseWriter, r *http.Request, p params) *armError {
	q := r.URL.Query()
	var o logfile.Options
	if text := q.Get("tail"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 1 {
			return badRequest("InvalidParameter", "tail", "tail is %q, and not a number of lines from 1.", text)
		}
		o.Tail = int(n)
	}
	stamps := false
	if text := q.Get("timestamps"); text != "" {
		var err error
		if stamps, err = strconv.ParseBool(text); err != nil {
			return badRequest("InvalidParameter", "timestamps", "timestamps is %q, and neither true nor false.", text)
		}
	}
	g, c, bad := a.container(p)
	if bad != nil {
		return bad
	}
	var content []byte
	err := a.opts.Groups.Logs(r.Context(), g.Record.ID, c.Name, o, func(e logfile.Entry) error {
		if stamps {
			content = e.Time.UTC().AppendFormat(content, time.RFC3339Nano)
			content = append(content, ' ')
		}
		content = append(content, e.Bytes()...)
		if len(content) > 2*maxLogs {
			content = append(content[:0], content[len(content)-maxLogs:]...)
		}
		return nil
	})
	if err != nil {
		return a.internal(err)
	}
	content = content[max(0, len(content)-maxLogs):]
	return answer(w, http.StatusOK, logsAnswer{strings.ToValidUTF8(string(content), "\uFFFD")})
}
