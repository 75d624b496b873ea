// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"strings"
	"testing"
)

const key = annotation

func TestAnnotation(t *testing.T) {
	t.Parallel()
	const head, tail = "# first\nkind: ConfigMap\nmetadata: {name: web}\n---\n", "---\nkind: Service\nmetadata: {name: web}\n"
	for name, c := range map[string]struct{ origin, before, after string }{
		"quoted": {"Pod/web",
			"kind: Pod\nmetadata:\n  name: web\n  annotations:\n    " + key + ": \"b2xk\" # old\n    z: 1\nspec: {}\n",
			"kind: Pod\nmetadata:\n  name: web\n  annotations:\n    " + key + ": \"QUE=\" # old\n    z: 1\nspec: {}\n"},
		"plain": {"Pod/web",
			"kind: Pod\nmetadata: {name: web, annotations: {" + key + ": b2xk}}\n",
			"kind: Pod\nmetadata: {name: web, annotations: {" + key + ": \"QUE=\"}}\n"},
		"empty": {"Pod/web",
			"kind: Pod\nmetadata: {name: web, annotations: {" + key + ": ''}}\n",
			"kind: Pod\nmetadata: {name: web, annotations: {" + key + ": \"QUE=\"}}\n"},
		"other annotations": {"Pod/web",
			"kind: Pod\nmetadata:\n  annotations:\n      # about a\n      a: b\n  name: web\n",
			"kind: Pod\nmetadata:\n  annotations:\n      # about a\n      " + key + ": \"QUE=\"\n      a: b\n  name: web\n"},
		"flow annotations": {"Pod/web",
			"kind: Pod\nmetadata:\n  annotations: {a: b}\n  name: web\n",
			"kind: Pod\nmetadata:\n  annotations: {" + key + ": \"QUE=\", a: b}\n  name: web\n"},
		"no annotations": {"Deployment/web",
			"kind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    metadata:\n      labels: {a: b}\n    spec: {}\n",
			"kind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    metadata:\n      annotations:\n        " + key + ": \"QUE=\"\n      labels: {a: b}\n    spec: {}\n"},
		"no metadata": {"CronJob/web",
			"kind: CronJob\nmetadata: {name: web}\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec: {}\n",
			"kind: CronJob\nmetadata: {name: web}\nspec:\n  jobTemplate:\n    spec:\n      template:\n        metadata:\n          annotations:\n            " + key + ": \"QUE=\"\n        spec: {}\n"},
		"all in flow": {"Job/web",
			"{kind: Job, metadata: {name: web}, spec: {template: {spec: {}}}}\n",
			"{kind: Job, metadata: {name: web}, spec: {template: {metadata: {annotations: {" + key + ": \"QUE=\"}}, spec: {}}}}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Annotation([]byte(head+c.before+tail), c.origin, "QUE=")
			if err != nil {
				t.Fatal(err)
			}
			if want := head + c.after + tail; string(got) != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			crlf := strings.ReplaceAll(head+c.before+tail, "\n", "\r\n")
			got, err = Annotation([]byte(crlf), c.origin, "QUE=")
			if want := strings.ReplaceAll(head+c.after+tail, "\n", "\r\n"); err != nil || string(got) != want {
				t.Errorf("with other line ends: %v, got\n%q\nwant\n%q", err, got, want)
			}
		})
	}
}

func TestAnnotationRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ stream, want string }{
		"absent":      {"kind: Pod\nmetadata: {name: other}\n", "no such object"},
		"in a list":   {"kind: List\nitems:\n- kind: Pod\n  metadata: {name: web}\n", "no such object in the file by itself"},
		"twice":       {"kind: Pod\nmetadata: {name: web}\n---\nkind: Pod\nmetadata: {name: web}\n", "two objects"},
		"block":       {"kind: Pod\nmetadata:\n  name: web\n  annotations:\n    " + key + ": |\n      b2xk\n", "not a string on one line"},
		"null":        {"kind: Pod\nmetadata:\n  name: web\n  annotations:\n", "annotations is empty"},
		"shared":      {"kind: Pod\nmetadata:\n  name: web\n  annotations: &a\n    x: y\nother: *a\n", "no plain mapping"},
		"alias":       {"kind: Pod\nother: &a {x: y}\nmetadata:\n  name: web\n  annotations: *a\n", "no plain mapping"},
		"wide column": {"kind: Pod\nmetadata: {name: web, x: é, annotations: {a: b}}\n", "cannot be found"},
		"broken":      {"kind: [", "yaml"},
	} {
		if _, err := Annotation([]byte(c.stream), "Pod/web", "QUE="); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	if _, err := Annotation([]byte("kind: Pod\nmetadata: {name: web}\n"), "Pod/web", "\""); err == nil {
		t.Error("something that is not base64 was written")
	}
}

func FuzzAnnotation(f *testing.F) {
	f.Add([]byte("kind: Pod\nmetadata:\n  name: web\n  annotations:\n    "+key+": \"b2xk\"\n"), "Pod/web")
	f.Add([]byte("{kind: Job, metadata: {name: web}, spec: {template: {spec: {}}}}"), "Job/web")
	f.Fuzz(func(t *testing.T, stream []byte, origin string) {
		if len(stream) > 4096 {
			return
		}
		out, err := Annotation(stream, origin, "QUE=")
		if err != nil {
			return
		}
		again, err := Annotation(out, origin, "QUE=")
		if err != nil || !bytes.Equal(out, again) {
			t.Errorf("written twice: %v\n%q\n%q", err, out, again)
		}
	})
}
