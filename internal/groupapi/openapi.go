// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// object is a part of the description.
type object = map[string]any

// inBraces finds the variable parts of a path.
var inBraces = regexp.MustCompile(`\{([A-Za-z]+)\}`)

// openAPI makes the description of the table of routes.
func openAPI() ([]byte, error) {
	paths := object{}
	for _, rt := range routes() {
		item, _ := paths[rt.path].(object)
		if item == nil {
			item = object{}
			paths[rt.path] = item
		}
		item[strings.ToLower(rt.method)] = rt.describe()
	}
	b, err := json.MarshalIndent(object{
		"openapi": "3.0.3",
		"info": object{
			"title": "cofferdam groups", "version": versions[0], "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Container groups by the calls that Azure Resource Manager has for them.",
		},
		"paths":    paths,
		"security": []any{object{"bearer": []any{}}, object{"certificate": []any{}}, object{}},
		"components": object{
			"schemas": schemas(),
			"securitySchemes": object{
				"bearer":      object{"type": "http", "scheme": "bearer"},
				"certificate": object{"type": "mutualTLS"},
			},
		},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("describing the API: %w", err) // not reached: it is texts and numbers
	}
	return append(b, '\n'), nil
}

// describe is the route's operation.
func (rt *route) describe() object {
	parameters := []any{}
	for _, name := range inBraces.FindAllStringSubmatch(rt.path, -1) {
		parameters = append(parameters, object{"name": name[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	if rt.versioned {
		parameters = append(parameters, object{"name": "api-version", "in": "query", "required": true, "schema": object{"type": "string", "enum": versions}})
	}
	for _, q := range rt.query {
		parameters = append(parameters, object{"name": q.name, "in": "query", "description": q.about, "schema": object{"type": q.kind}})
	}
	answers := object{"default": content("Error", "An error.")}
	for status, schema := range rt.answers {
		answers[strconv.Itoa(status)] = content(schema, http.StatusText(status)+".")
	}
	o := object{"operationId": rt.id, "summary": rt.summary, "parameters": parameters, "responses": answers}
	if rt.body != "" {
		body := content(rt.body, "")
		delete(body, "description")
		body["required"] = true
		o["requestBody"] = body
	}
	if rt.role == "" {
		o["security"] = []any{}
	} else {
		o["x-cofferdam-role"] = string(rt.role)
	}
	return o
}

func content(schema, description string) object {
	o := object{"description": description}
	if schema != "" {
		o["content"] = object{"application/json": object{"schema": ref(schema)}}
	}
	return o
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// shape is the schema of an object with these members; others may be there.
func shape(members object) object { return object{"type": "object", "properties": members} }

func listOf(item any) object { return object{"type": "array", "items": item} }

// schemas are those of the bodies. What is in a group is described by Azure, and read by the template reader.
func schemas() object {
	text, number, yes := object{"type": "string"}, object{"type": "integer"}, object{"type": "boolean"}
	when := object{"type": "string", "format": "date-time"}
	anything := object{"type": "object"}
	state := shape(object{"state": text, "startTime": when, "exitCode": number, "finishTime": when, "detailStatus": text})
	instance := shape(object{"restartCount": number, "currentState": state, "previousState": state, "events": listOf(ref("Event"))})
	container := object{
		"type": "object", "required": []string{"name", "properties"},
		"properties": object{"name": text, "properties": shape(object{"image": text, "command": listOf(text), "instanceView": instance})},
	}
	group := shape(object{
		"id": text, "name": text, "type": text, "location": text, "tags": ref("Tags"), "identity": anything, "zones": listOf(text),
		"properties": shape(object{
			"containers": listOf(container), "initContainers": listOf(container), "osType": object{"type": "string", "enum": []string{"Linux"}},
			"restartPolicy": object{"type": "string", "enum": []string{"Always", "OnFailure", "Never"}}, "sku": text,
			"ipAddress": anything, "dnsConfig": anything, "volumes": listOf(anything), "imageRegistryCredentials": listOf(anything),
			"confidentialComputeProperties": shape(object{"ccePolicy": text}),
			"provisioningState":             object{"type": "string", "readOnly": true, "enum": []string{"Pending", "Creating", "Updating", "Succeeded", "Failed", "Deleting"}},
			"instanceView":                  shape(object{"state": text, "events": listOf(ref("Event"))}),
		}),
		extensionMember: shape(object{
			"groupName": text, "groupID": text, "policyHash": text, "measurement": text, "tee": text, "accelerator": text, "simulated": yes,
			"reason": text, "ports": listOf(anything), "warnings": listOf(text), "error": anything,
		}),
	})
	group["required"] = []string{"location", "properties"}
	arm := shape(object{"code": text, "message": text, "target": text, "details": listOf(anything)})
	return object{
		"ContainerGroup": group, "ContainerGroupListResult": shape(object{"value": listOf(ref("ContainerGroup")), "nextLink": text}),
		"Resource": shape(object{"tags": ref("Tags")}), "Tags": object{"type": "object", "additionalProperties": text},
		"Event": shape(object{"name": text, "type": text, "message": text, "count": number, "firstTimestamp": when, "lastTimestamp": when}),
		"Logs":  shape(object{"content": text}),
		"ContainerExecRequest": shape(object{
			"command": text, "terminalSize": shape(object{"rows": number, "cols": number}),
		}),
		"ContainerExecResponse": shape(object{"webSocketUri": text, "password": text}),
		"OperationStatus":       shape(object{"id": text, "name": text, "status": text, "startTime": when, "endTime": when, "error": arm}),
		"Error":                 shape(object{"error": arm}), "OpenAPI": anything,
	}
}

func (a *API) getOpenAPI(w http.ResponseWriter, _ *http.Request, _ params) *armError {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(a.document) // the client may be gone
	return nil
}
