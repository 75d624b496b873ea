// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"encoding/base64"
	"errors"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/armexpr"
	"cofferdam.dev/internal/spec/doc"
)

// volumeKinds are the kinds of volumes by their key.
var volumeKinds = map[string]spec.MountKind{
	"azurefile": spec.MountAzureFile, "emptydir": spec.MountEmptyDir, "secret": spec.MountSecret, "gitrepo": spec.MountGitRepo,
}

// volumes reads the volumes. A policy depends on their kinds alone.
func (r *reader) volumes(f *frame, properties *doc.Value) ([]spec.Volume, error) {
	list, err := f.list(properties, "volumes")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var out []spec.Volume
	for _, v := range list {
		volume := spec.Volume{}
		if volume.Name, err = f.text(v, "name"); err != nil {
			return nil, err
		}
		if seen[volume.Name] || volume.Name == "" {
			return nil, v.Errorf("a volume needs a name of its own, not %q", volume.Name)
		}
		seen[volume.Name] = true
		key := ""
		for _, m := range v.Members {
			kind, ok := volumeKinds[strings.ToLower(m.Key)]
			switch {
			case strings.EqualFold(m.Key, "name") || m.Value.Kind == doc.Null:
			case !ok:
				return nil, m.Value.Errorf("volumes of kind %q are not supported: where they are mounted from is not known", m.Key)
			case key != "":
				return nil, v.Errorf("volume %q is of two kinds", volume.Name)
			default:
				key, volume.Kind = m.Key, kind
			}
		}
		if key == "" {
			return nil, v.Errorf("volume %q is of no kind", volume.Name)
		}
		if err := r.soft(v, r.content(f, v, key, &volume)); err != nil {
			return nil, err
		}
		out = append(out, volume)
	}
	return out, nil
}

// content reads what a volume is filled with.
func (r *reader) content(f *frame, v *doc.Value, key string, out *spec.Volume) error {
	source, err := f.object(v, key)
	if err != nil || source == nil {
		return err
	}
	switch out.Kind {
	case spec.MountSecret:
		return r.secret(f, source, out)
	case spec.MountGitRepo:
		return r.repository(f, source, out)
	case spec.MountAzureFile:
		return r.share(f, source, out)
	}
	return checkKeys(source) // an empty directory has no content
}

// secret reads files in base64.
func (r *reader) secret(f *frame, source *doc.Value, out *spec.Volume) error {
	for _, m := range source.Members {
		name, err := f.key(source, m)
		if err != nil {
			return err
		}
		text, err := f.text(source, m.Key)
		if err != nil {
			if err := r.soft(m.Value, err); err != nil {
				return err
			}
			continue
		}
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil { // which would show a part of it
			return m.Value.Errorf("the content of secret file %q is no base64", name)
		}
		out.Files = append(out.Files, spec.File{Path: name, Content: data})
	}
	return nil
}

func (r *reader) repository(f *frame, source *doc.Value, out *spec.Volume) error {
	if err := checkKeys(source, "repository", "directory", "revision"); err != nil {
		return err
	}
	var repository spec.Repository
	err := f.fill(source, textField{"repository", &repository.URL}, textField{"directory", &repository.Directory}, textField{"revision", &repository.Revision})
	if err != nil {
		return err
	}
	if repository.URL == "" {
		return source.Errorf("a gitRepo volume has no repository")
	}
	out.Repository = &repository
	return nil
}

// share reads where a file share is. Its key is neither read nor kept.
func (r *reader) share(f *frame, source *doc.Value, out *spec.Volume) error {
	err := checkKeys(source, "sharename", "storageaccountname", "storageaccountkey", "storageaccountkeyreference", "readonly")
	if err != nil {
		return err
	}
	var share spec.Share
	if err := f.fill(source, textField{"shareName", &share.Name}, textField{"storageAccountName", &share.Account}); err != nil {
		return err
	}
	readOnly, err := f.truth(source, "readOnly")
	if err != nil {
		return err
	}
	share.ReadOnly = readOnly != nil && *readOnly
	out.Share = &share
	return nil
}

// textField is where the text of a member goes.
type textField struct {
	key string
	to  *string
}

// fill gets several strings, in order.
func (f *frame) fill(v *doc.Value, fields ...textField) error {
	for _, field := range fields {
		var err error
		if *field.to, err = f.text(v, field.key); err != nil {
			return err
		}
	}
	return nil
}

// key evaluates the key of a member, which may be an expression as a value may.
func (f *frame) key(v *doc.Value, m doc.Member) (string, error) {
	if v.Evaluated {
		return m.Key, nil
	}
	w, err := f.shallow(doc.Str(m.Key).At(m.Value))
	if err != nil {
		return "", err
	}
	if w.Kind != doc.String {
		return "", m.Value.Errorf("its key is %s, expected a string", w.Kind)
	}
	return w.Text, nil
}

// soft notes an error that says that a value is not known, and returns any other. It is for what no policy depends on.
func (r *reader) soft(v *doc.Value, err error) error {
	if err == nil || !armexpr.Unknowable(err) {
		return err
	}
	path, cause := v.Path, err
	var at *doc.Error
	if errors.As(err, &at) {
		path, cause = at.Path, at.Err
	}
	r.unknown = append(r.unknown, spec.Warning{Code: spec.WarnUnknown, Path: path, Text: cause.Error()})
	return nil
}
