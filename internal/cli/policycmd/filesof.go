// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// errOutside refuses a file that lies elsewhere than the description that names it: what is in it would stand in the
// policy, which is public, and whoever wrote the description may not be who may read the file.
var errOutside = errors.New("it is not below the directory of the description, and only files there are read")

// filesOf reads the files that a description names, from its own directory and below it; links that lead out of there are
// not followed. A description on standard input is taken to lie in the working directory.
func filesOf(description string) func(name string) ([]byte, error) {
	dir := filepath.Dir(description) // of "-", too
	return func(name string) ([]byte, error) {
		if !filepath.IsLocal(name) {
			return nil, errOutside
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		defer func() { _ = root.Close() }() // only read
		info, err := root.Stat(name)
		if err != nil {
			return nil, outside(err)
		}
		if !info.Mode().IsRegular() {
			return nil, errors.New("it is no regular file")
		}
		f, err := root.Open(name)
		if err != nil {
			return nil, outside(err)
		}
		defer func() { _ = f.Close() }() // only read
		data, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
		if err == nil && len(data) > maxEnvFile {
			err = fmt.Errorf("it has more than %d bytes", maxEnvFile)
		}
		return data, err
	}
}

// outside puts our words in the place of the library's for a link that leads out.
func outside(err error) error {
	var path *os.PathError
	if errors.As(err, &path) && path.Err.Error() == "path escapes from parent" {
		return errOutside
	}
	return err
}
