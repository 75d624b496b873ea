// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strings"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/keycmd"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/blob/s3"
	"cofferdam.dev/release"
)

// aboutStorage is what the help of commands that reach remote storage says about it.
const aboutStorage = `
Remote storage is named by its URL: https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB,
s3://BUCKET/KEY, or azure+https:// and s3+https:// with the host of another server that
speaks the protocol. Credentials are a signature in the URL, --account-key-file,
--storage-token-file, or AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY and AWS_REGION.`

// storageOptions say how an image is reached.
func storageOptions(a *App, image, accountKey, token string, insecure bool) (blob.Options, error) {
	o := blob.Options{InsecurePlainHTTP: insecure}
	if !isURL(image) {
		return o, nil
	}
	if strings.HasPrefix(image, "s3") {
		env := func(name string) string {
			v, _ := a.LookupEnv(name)
			return v
		}
		o.S3 = s3.Keys{
			ID: env("AWS_ACCESS_KEY_ID"), Secret: blob.NewSecret(env("AWS_SECRET_ACCESS_KEY")), Session: blob.NewSecret(env("AWS_SESSION_TOKEN")), Region: env("AWS_REGION"),
		}
	}
	if accountKey != "" {
		b, err := console.ReadPrivate("the account's key", accountKey, console.MaxSecretFile)
		if err != nil {
			return o, err
		}
		if o.AccountKey, err = azure.NewSharedKey(accountOf(image), blob.NewSecret(string(bytes.TrimSpace(b)))); err != nil {
			return o, err
		}
	}
	if token != "" {
		b, err := console.ReadPrivate("the storage's access token", token, keycmd.MaxToken)
		if err != nil {
			return o, err
		}
		value := string(bytes.TrimSpace(b))
		o.Token = func(context.Context) (release.AccessToken, error) { return release.AccessToken{Value: value}, nil }
	}
	return o, nil
}

// accountOf is the name of the storage account in a URL: the first label of one of Azure's hosts, else the first element
// of the path.
func accountOf(image string) string {
	u, err := url.Parse(strings.TrimPrefix(image, "azure+"))
	if err != nil {
		return ""
	}
	if name, _, ok := strings.Cut(u.Hostname(), ".blob."); ok {
		return name
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return name
}

// uploadState is the file that remembers an upload.
func uploadState(image string) string { return fmt.Sprintf("%s.upload", image) }
