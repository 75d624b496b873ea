// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"strings"
	"testing"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/spec"
)

func TestStartFailures(t *testing.T) {
	t.Parallel()
	img, entries, ref := openTiny(t)
	assembled := func(command string) *assemble.Parts {
		g, err := spec.FromRunFlags(spec.RunFlags{Image: ref, Command: []string{command}})
		if err != nil {
			t.Fatal(err)
		}
		parts, err := assemble.Container(g, img, entries, assemble.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return parts
	}
	prep := &prepared{parts: assembled("b"), text: assembled("a").Policy.Text()}
	l := &launched{prep: prep, created: &group.Created{Group: group.Group{Record: &group.Record{Name: "calm-weir"}}}}
	denied := &guestv1.Denial{Code: guestv1.CodePolicyDenied, Point: "create_container", Reasons: []string{"invalid command"}, Fix: "change something"}
	for name, tc := range map[string]struct {
		err  group.StartError
		opts runOptions
		code int
		want string
	}{
		"a given policy refuses": {group.StartError{Denial: denied}, runOptions{policyFile: "agreed.rego"}, console.ExitRefused,
			`command: the policy allows ["/app/run","a"], this run asks for ["/app/run","b"]; try cofferdam policy show agreed.rego`},
		"a generated policy refuses": {group.StartError{Denial: denied}, runOptions{}, console.ExitRefused, "try change something"},
		"a request makes no sense": {group.StartError{Denial: &guestv1.Denial{Code: guestv1.CodeBadRequest, Point: "create_container",
			Reasons: []string{"looking up\n\tuser"}}}, runOptions{remove: true}, console.ExitError, "create_container failed in the guest (BAD_REQUEST); reason: looking up user; group: calm-weir; try "},
		"the program is missing": {group.StartError{Message: `exec: "x": executable file not found in $PATH`,
			Denial: &guestv1.Denial{Code: guestv1.CodeFailed, Point: "create_container"}}, runOptions{}, console.ExitError, "try cofferdam image inspect IMAGE"},
		"a port is taken":     {group.StartError{Message: "bind: address already in use"}, runOptions{}, console.ExitError, "try another host port"},
		"memory is short":     {group.StartError{Message: "qemu: cannot set up guest memory 'pc.ram'"}, runOptions{}, console.ExitError, "try a smaller --memory"},
		"memory is too small": {group.StartError{Message: "the machine has 117 MiB of memory, 167 are needed"}, runOptions{}, console.ExitError, "try a larger --memory"},
		"in a container":      {group.StartError{Message: "container web: creating: odd"}, runOptions{}, console.ExitError, "container web: creating: odd; group: calm-weir; container: web; try cofferdam group debug calm-weir"},
		"something is kept":   {group.StartError{Message: "odd"}, runOptions{}, console.ExitError, "odd; group: calm-weir; try cofferdam group debug calm-weir"},
		"nothing is kept":     {group.StartError{Message: "odd"}, runOptions{remove: true}, console.ExitError, "odd; group: calm-weir; try "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, ok := l.explain(t.Context(), &tc.err, &tc.opts).(*console.Failure) //nolint:errorlint // it is made here
			if !ok {
				t.Fatal("the explanation is no failure")
			}
			got := strings.Join(append(append([]string{f.Error()}, f.Details...), "try "+f.Fix), "; ")
			if f.Code != tc.code || !strings.Contains(got, tc.want) {
				t.Errorf("the failure is %d: %s; want %d: ...%s...", f.Code, got, tc.code, tc.want)
			}
		})
	}
}
