// SPDX-License-Identifier: Apache-2.0

package azureclients

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	"github.com/coder/websocket"
)

// often asks for operations more often than a client of a real service would.
var often = &runtime.PollUntilDoneOptions{Frequency: 20 * time.Millisecond}

// service is a group of one container, as a user of the client describes it.
func service(image string) armcontainerinstance.ContainerGroup {
	return armcontainerinstance.ContainerGroup{
		Location: to.Ptr("westeurope"),
		Tags:     map[string]*string{"team": to.Ptr("dry")},
		Properties: &armcontainerinstance.ContainerGroupPropertiesProperties{
			OSType: to.Ptr(armcontainerinstance.OperatingSystemTypesLinux), SKU: to.Ptr(armcontainerinstance.ContainerGroupSKUConfidential),
			RestartPolicy: to.Ptr(armcontainerinstance.ContainerGroupRestartPolicyNever),
			Containers: []*armcontainerinstance.Container{{
				Name: to.Ptr("main"),
				Properties: &armcontainerinstance.ContainerProperties{
					Image:                to.Ptr(image),
					Command:              []*string{to.Ptr("/bin/sh"), to.Ptr("-c"), to.Ptr("echo up; trap 'exit 0' TERM; while :; do sleep 0.01; done")},
					EnvironmentVariables: []*armcontainerinstance.EnvironmentVariable{{Name: to.Ptr("TOKEN"), SecureValue: to.Ptr("hush")}},
					Resources: &armcontainerinstance.ResourceRequirements{
						Requests: &armcontainerinstance.ResourceRequests{CPU: to.Ptr(1.0), MemoryInGB: to.Ptr(0.5)},
					},
				},
			}},
		},
	}
}

func TestClient(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()

	made, err := w.groups.BeginCreateOrUpdate(ctx, "rg", "web", service("img"), nil)
	if err != nil {
		t.Fatal(err)
	}
	created, err := made.PollUntilDone(ctx, often)
	if err != nil {
		t.Fatal(err)
	}
	if p := created.Properties; *p.ProvisioningState != "Succeeded" || *p.InstanceView.State != "Running" || *created.Name != "web" ||
		*p.ConfidentialComputeProperties.CcePolicy == "" || *created.Tags["team"] != "dry" {
		t.Errorf("created %+v", created.ContainerGroup)
	}
	got, err := w.groups.Get(ctx, "rg", "web", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := got.Properties.Containers[0].Properties
	if *c.InstanceView.CurrentState.State != "Running" || c.InstanceView.CurrentState.StartTime == nil || *c.InstanceView.Events[0].Name != "Pulled" ||
		c.EnvironmentVariables[0].SecureValue != nil {
		t.Errorf("container %+v", c)
	}

	count := 0
	for pager := w.groups.NewListByResourceGroupPager("RG", nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Value)
	}
	for pager := w.groups.NewListPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Value)
	}
	if count != 2 {
		t.Errorf("both lists have %d groups", count)
	}
	updated, err := w.groups.Update(ctx, "rg", "web", armcontainerinstance.Resource{Tags: map[string]*string{"team": to.Ptr("wet")}}, nil)
	if err != nil || *updated.Tags["team"] != "wet" {
		t.Errorf("update: %v", err)
	}
	w.logs(ctx, t)
	w.exec(ctx, t)
	w.operate(ctx, t)

	removal, err := w.groups.BeginDelete(ctx, "rg", "web", nil)
	if err == nil {
		_, err = removal.PollUntilDone(ctx, often)
	}
	if err != nil {
		t.Errorf("removal: %v", err)
	}
	_, err = w.groups.Get(ctx, "rg", "web", nil)
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != 404 || answer.ErrorCode != "ResourceNotFound" {
		t.Errorf("after the removal: %v", err)
	}
}

func (w *world) logs(ctx context.Context, t *testing.T) {
	t.Helper()
	for range 12_000 {
		l, err := w.containers.ListLogs(ctx, "rg", "web", "main", &armcontainerinstance.ContainersClientListLogsOptions{Tail: to.Ptr[int32](5), Timestamps: to.Ptr(true)})
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(*l.Content, "Z up\n") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the log stays empty")
}

func (w *world) exec(ctx context.Context, t *testing.T) {
	t.Helper()
	session, err := w.containers.ExecuteCommand(ctx, "rg", "web", "main", armcontainerinstance.ContainerExecRequest{
		Command: to.Ptr("/bin/cat"), TerminalSize: &armcontainerinstance.ContainerExecRequestTerminalSize{Cols: to.Ptr[int32](80), Rows: to.Ptr[int32](24)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.Dial(ctx, *session.WebSocketURI, &websocket.DialOptions{HTTPClient: w.http})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	err = errors.Join(conn.Write(ctx, websocket.MessageText, []byte(*session.Password)), conn.Write(ctx, websocket.MessageText, []byte("hello\n")))
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for !strings.Contains(said, "hello") {
		_, data, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("%q, %v", said, err)
		}
		said += string(data)
	}
	attached, err := w.containers.Attach(ctx, "rg", "web", "main", nil)
	if err != nil || !strings.HasPrefix(*attached.WebSocketURI, "wss://") || *attached.Password == "" {
		t.Errorf("attaching: %+v, %v", attached, err)
	}
}

// operate stops, starts and restarts the group.
func (w *world) operate(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := w.groups.Stop(ctx, "rg", "web", nil); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got, err := w.groups.Get(ctx, "rg", "web", nil); err != nil || *got.Properties.InstanceView.State != "Stopped" {
		t.Errorf("after the stop: %v", err)
	}
	start, err := w.groups.BeginStart(ctx, "rg", "web", nil)
	if err == nil {
		_, err = start.PollUntilDone(ctx, often)
	}
	if err != nil {
		t.Errorf("start: %v", err)
	}
	restart, err := w.groups.BeginRestart(ctx, "rg", "web", nil)
	if err == nil {
		_, err = restart.PollUntilDone(ctx, often)
	}
	if err != nil {
		t.Errorf("restart: %v", err)
	}
	if got, err := w.groups.Get(ctx, "rg", "web", nil); err != nil || *got.Properties.InstanceView.State != "Running" {
		t.Errorf("after the restart: %v", err)
	}
}

// TestClientIsToldWhy makes sure that the client understands errors, of requests and of operations.
func TestClientIsToldWhy(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var answer *azcore.ResponseError
	bad := service("img")
	bad.Properties.Containers[0].Properties.Image = nil
	_, err := w.groups.BeginCreateOrUpdate(ctx, "rg", "web", bad, nil)
	if !errors.As(err, &answer) || answer.StatusCode != 400 || answer.ErrorCode != "InvalidRequestContent" || !strings.Contains(err.Error(), "containers[0]") {
		t.Errorf("a group without an image: %v", err)
	}
	made, err := w.groups.BeginCreateOrUpdate(ctx, "rg", "web", service("missing"), nil)
	if err == nil {
		_, err = made.PollUntilDone(ctx, often)
	}
	if !errors.As(err, &answer) || answer.ErrorCode != "ContainerGroupDeploymentFailed" || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("a group whose image is missing: %v", err)
	}
}
