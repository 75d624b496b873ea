// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/serve"
)

// versions are the published versions of the resource's API, the newest first. They are answered alike: what a version does
// not know is left out by its clients.
var versions = []string{
	"2025-09-01", "2024-11-01-preview", "2024-10-01-preview", "2024-09-01-preview", "2024-05-01-preview", "2023-05-01",
	"2023-02-01-preview", "2022-10-01-preview", "2022-09-01", "2021-10-01", "2021-09-01", "2021-07-01", "2021-03-01",
	"2020-11-01", "2019-12-01", "2018-10-01", "2018-09-01", "2018-06-01", "2018-04-01", "2018-02-01-preview",
	"2017-12-01-preview", "2017-10-01-preview", "2017-08-01-preview",
}

// params are the parts of a path that stand in braces in its route.
type params map[string]string

// resource is the resource that the path is about.
func (p params) resource() resourceID {
	return resourceID{p["subscriptionId"], p["resourceGroupName"], p["containerGroupName"]}
}

// route is one call. The same table makes the router and the OpenAPI description.
type route struct {
	method, path string
	id, summary  string
	// role is what the caller must have; operators may do what readers may. Empty is for calls that prove themselves.
	role auth.Role
	// versioned calls need the parameter api-version.
	versioned bool
	query     []queryParameter
	body      string         // the schema of the request's body
	answers   map[int]string // the schema of the answer's body by status, empty for none
	handle    func(*API, http.ResponseWriter, *http.Request, params) *armError
}

type queryParameter struct{ name, kind, about string }

const (
	subscriptionPath = "/subscriptions/{subscriptionId}"
	providerPath     = "/providers/Microsoft.ContainerInstance"
	groupsPath       = subscriptionPath + "/resourceGroups/{resourceGroupName}" + providerPath + "/containerGroups"
	groupPath        = groupsPath + "/{containerGroupName}"
	containerPath    = groupPath + "/containers/{containerName}"
	operationsPath   = subscriptionPath + providerPath + "/locations/{location}"
	sessionsPath     = "/sessions/{sessionId}"
)

// routes are all calls.
func routes() []route {
	skip := queryParameter{"$skiptoken", "string", "where the list goes on; it stands in the nextLink of the page before"}
	return []route{
		{method: "GET", path: subscriptionPath + providerPath + "/containerGroups", id: "ContainerGroups_List", role: RoleReader, versioned: true,
			summary: "List the groups of a subscription.", query: []queryParameter{skip}, answers: map[int]string{200: "ContainerGroupListResult"}, handle: (*API).listGroups},
		{method: "GET", path: groupsPath, id: "ContainerGroups_ListByResourceGroup", role: RoleReader, versioned: true,
			summary: "List the groups of a resource group.", query: []queryParameter{skip}, answers: map[int]string{200: "ContainerGroupListResult"}, handle: (*API).listGroups},
		{method: "GET", path: groupPath, id: "ContainerGroups_Get", role: RoleReader, versioned: true,
			summary: "Get a group with what became of it.", answers: map[int]string{200: "ContainerGroup"}, handle: (*API).getGroup},
		{method: "PUT", path: groupPath, id: "ContainerGroups_CreateOrUpdate", role: RoleOperator, versioned: true, body: "ContainerGroup",
			summary: "Make a group, or replace it by what is described differently now.", answers: map[int]string{200: "ContainerGroup", 201: "ContainerGroup"}, handle: (*API).putGroup},
		{method: "PATCH", path: groupPath, id: "ContainerGroups_Update", role: RoleOperator, versioned: true, body: "Resource",
			summary: "Replace a group's tags.", answers: map[int]string{200: "ContainerGroup"}, handle: (*API).patchGroup},
		{method: "DELETE", path: groupPath, id: "ContainerGroups_Delete", role: RoleOperator, versioned: true,
			summary: "Stop a group and remove everything of it.", answers: map[int]string{202: "", 204: ""}, handle: (*API).deleteGroup},
		{method: "POST", path: groupPath + "/start", id: "ContainerGroups_Start", role: RoleOperator, versioned: true,
			summary: "Start a group that has ended.", answers: map[int]string{202: "", 204: ""}, handle: (*API).startGroup},
		{method: "POST", path: groupPath + "/stop", id: "ContainerGroups_Stop", role: RoleOperator, versioned: true,
			summary: "Stop a group, and answer when it has ended.", answers: map[int]string{204: ""}, handle: (*API).stopGroupNow},
		{method: "POST", path: groupPath + "/restart", id: "ContainerGroups_Restart", role: RoleOperator, versioned: true,
			summary: "Restart the containers of a group in their machine.", answers: map[int]string{204: ""}, handle: (*API).restartGroup},
		{method: "GET", path: containerPath + "/logs", id: "Containers_ListLogs", role: RoleReader, versioned: true,
			summary: "Get what a container has written.", answers: map[int]string{200: "Logs"}, handle: (*API).getLogs, query: []queryParameter{
				{"tail", "integer", "only this many lines, the last"}, {"timestamps", "boolean", "the time before each line"},
			}},
		{method: "POST", path: containerPath + "/exec", id: "Containers_ExecuteCommand", role: RoleOperator, versioned: true, body: "ContainerExecRequest",
			summary: "Open a session that starts a further process.", answers: map[int]string{200: "ContainerExecResponse"}, handle: (*API).postExec},
		{method: "POST", path: containerPath + "/attach", id: "Containers_Attach", role: RoleOperator, versioned: true,
			summary: "Open a session that follows a container's output.", answers: map[int]string{200: "ContainerExecResponse"}, handle: (*API).postAttach},
		{method: "GET", path: operationsPath + "/operations/{operationId}", id: "Operations_Get", role: RoleReader, versioned: true,
			summary: "Ask how far an operation is.", answers: map[int]string{200: "OperationStatus"}, handle: (*API).getOperation},
		{method: "GET", path: operationsPath + "/operationResults/{operationId}", id: "OperationResults_Get", role: RoleReader, versioned: true,
			summary: "Ask for the result of an operation.", answers: map[int]string{202: "", 204: ""}, handle: (*API).getOperationResult},
		{method: "GET", path: sessionsPath, id: "Sessions_Connect",
			summary: "Connect to a session (WebSocket). The session's password is in the Authorization header or the first message.", answers: map[int]string{101: ""}, handle: (*API).connect},
		{method: "GET", path: "/openapi.json", id: "OpenAPI_Get", role: RoleReader,
			summary: "Get this description.", answers: map[int]string{200: "OpenAPI"}, handle: (*API).getOpenAPI},
	}
}

// match compares a path with the route's. Fixed parts are compared without regard to case, as Azure Resource Manager does.
func (rt *route) match(parts []string) (params, bool) {
	want := strings.Split(rt.path, "/")
	if len(want) != len(parts) {
		return nil, false
	}
	p := params{}
	for i, w := range want {
		name, variable := strings.CutPrefix(w, "{")
		switch {
		case !variable && !strings.EqualFold(w, parts[i]):
			return nil, false
		case variable:
			text, err := url.PathUnescape(parts[i])
			if err != nil || text == "" {
				return nil, false
			}
			p[strings.TrimSuffix(name, "}")] = text
		}
	}
	return p, true
}

// router is the handler of all calls.
func (a *API) router() http.Handler {
	table := routes()
	handlers := make([]http.Handler, len(table))
	type pathKey struct{}
	for i := range table {
		rt := &table[i]
		h := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, _ := r.Context().Value(pathKey{}).(params)
			bad := rt.check(r, p)
			if bad == nil {
				bad = rt.handle(a, w, r, p)
			}
			if bad != nil {
				bad.write(w)
			}
		}))
		switch rt.role {
		case RoleReader:
			h = auth.Require(a.opts.Auth, refuse, h, RoleReader, RoleOperator)
		case RoleOperator:
			h = auth.Require(a.opts.Auth, refuse, h, RoleOperator)
		}
		handlers[i] = serve.Route(rt.id, h)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.EscapedPath(), "/")
		var methods []string
		for i := range table {
			p, ok := table[i].match(parts)
			if !ok {
				continue
			}
			if table[i].method == r.Method {
				handlers[i].ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), pathKey{}, p)))
				return
			}
			methods = append(methods, table[i].method)
		}
		if len(methods) > 0 {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			failure(http.StatusMethodNotAllowed, "MethodNotAllowed", "", "The method %s is not known here; known are %s.", method(r), strings.Join(methods, ", ")).write(w)
			return
		}
		failure(http.StatusNotFound, "InvalidResourceType", "", "There is nothing at this address; /openapi.json has all that there are.").write(w)
	})
}

// check refuses what no call of the kind can mean.
func (rt *route) check(r *http.Request, p params) *armError {
	if !rt.versioned {
		return nil
	}
	switch v := r.URL.Query().Get("api-version"); {
	case v == "":
		return badRequest(codeVersionMissing, "api-version", "The api-version query parameter (?api-version=) is required for all requests.")
	case !slices.Contains(versions, strings.ToLower(v)):
		return badRequest(codeVersionUnknown, "api-version", "The api-version is not supported. The supported api-versions are %q.", versions)
	}
	if _, ok := p["containerGroupName"]; ok {
		return p.resource().check()
	}
	return nil
}

// refuse answers a caller who may not go on.
func refuse(w http.ResponseWriter, _ *http.Request, status int, message string) {
	code := map[int]string{http.StatusUnauthorized: "AuthenticationFailed", http.StatusForbidden: "AuthorizationFailed"}[status]
	if code == "" {
		code = codeUnavailable
	}
	failure(status, code, "", "%s", message).write(w)
}

// method is the request's if it is one that is known: the answer holds no text of clients.
func method(r *http.Request) string {
	if slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, r.Method) {
		return r.Method
	}
	return "of the request"
}
