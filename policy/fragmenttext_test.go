// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"
)

func TestFragmentText(t *testing.T) {
	t.Parallel()
	c := minimal().Containers[:1]
	f := FragmentText{Namespace: "part", SVN: "4", FrameworkVersion: DeployedFramework, Containers: c}
	text, err := f.Text()
	if err != nil {
		t.Fatal(err)
	}
	const head = "package part\n\nsvn := \"4\"\nframework_version := \"0.2.3\"\n\nfragments := []\n\ncontainers := [\n  {\n    \"allow_elevated\": "
	if !strings.HasPrefix(string(text), head) || !strings.HasSuffix(string(text), "\n]\n") {
		t.Errorf("text is %s", text)
	}
	for want, change := range map[string]func(*FragmentText){
		"is not a letter":    func(f *FragmentText) { f.Namespace = "a b" },
		"is reserved":        func(f *FragmentText) { f.Namespace = "framework" },
		`namespace "input"`:  func(f *FragmentText) { f.Namespace = "input" },
		"is not a number":    func(f *FragmentText) { f.SVN = "1.0" },
		`svn "01"`:           func(f *FragmentText) { f.SVN = "01" },
		"is not of the form": func(f *FragmentText) { f.FrameworkVersion = "1\"" },
		"has neither":        func(f *FragmentText) { f.Containers = nil },
	} {
		bad := f
		change(&bad)
		_, err := bad.Text()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	_, err = (&FragmentText{}).Text()
	if err == nil {
		t.Error("the zero fragment has a text")
	}
}
