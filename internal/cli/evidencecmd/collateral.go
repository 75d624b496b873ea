// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/collateral"
	"cofferdam.dev/collateral/cache"
	servers "cofferdam.dev/collateral/remote"
	"cofferdam.dev/internal/cli/console"
)

// CollateralOptions say where certificates, revocation lists and TCB statements come from that did not come with the
// evidence.
type CollateralOptions struct {
	Dirs     []string // or files
	Fetch    bool
	KDS, PCS string
}

// serverFlags defines the flags that name servers.
func (o *CollateralOptions) serverFlags(c *cobra.Command) {
	c.Flags().StringVar(&o.KDS, "kds", servers.KDSBaseURL, "AMD's key distribution service, or a mirror")
	c.Flags().StringVar(&o.PCS, "pcs", servers.PCSBaseURL, "Intel's provisioning certification service, or a cache of it (PCCS)")
}

// CollateralSource returns where collateral is looked for: the directories first, then the cache and the servers if they
// may be asked. It is nil without either.
func (a *App) CollateralSource(cmd *cobra.Command, o *CollateralOptions) (collateral.Source, error) {
	if !o.Fetch && (cmd.Flags().Changed("kds") || cmd.Flags().Changed("pcs")) {
		return nil, console.Usage(cmd, "--kds and --pcs name servers that are not asked without --fetch")
	}
	var sources []collateral.Source
	for _, d := range o.Dirs {
		info, err := os.Stat(d)
		if err != nil || info.IsDir() { // a directory that is missing has nothing
			sources = append(sources, collateral.Directory(d))
			continue
		}
		file, err := readCollateralFile(d)
		if err != nil {
			return nil, err
		}
		sources = append(sources, file)
	}
	if o.Fetch {
		cached, err := a.serverSources(o)
		if err != nil {
			return nil, err
		}
		sources = append(sources, cached...)
	}
	if len(sources) == 0 {
		return nil, nil
	}
	return collateral.Join(sources...), nil
}

// serverSources returns the servers, each behind a cache of its own: what a mirror says stays apart from what the vendor
// says.
func (a *App) serverSources(o *CollateralOptions) ([]collateral.Source, error) {
	fetcher := servers.Fetcher{HTTP: servers.NewHTTPClient()}
	intel := servers.PCCS(fetcher, o.PCS)
	if o.PCS == servers.PCSBaseURL {
		intel = servers.PCS(fetcher)
	}
	var log *slog.Logger
	if a.Verbose {
		log = slog.New(slog.NewTextHandler(a.Err, nil))
	}
	vendors := []struct {
		base   string
		source collateral.Source
	}{{o.KDS, &servers.KDS{Fetcher: fetcher, BaseURL: o.KDS}}, {o.PCS, intel}}
	var sources []collateral.Source
	for _, s := range vendors {
		dir := filepath.Join(a.Home, "collateral", serverName(s.base))
		c, err := cache.Open(cache.Options{Dir: dir, Source: s.source, Now: a.Now, Log: log})
		if err != nil {
			return nil, err
		}
		sources = append(sources, c)
	}
	return sources, nil
}

// serverName names a server's directory: the host, and for what is no host alone a part of the URL's hash.
func serverName(base string) string {
	u, err := url.Parse(base)
	if err == nil && u.Scheme == "https" && u.Host == u.Hostname() && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" &&
		u.Host != "" && !strings.HasPrefix(u.Host, ".") {
		return strings.ToLower(u.Host)
	}
	sum := sha256.Sum256([]byte(base))
	return "other-" + hex.EncodeToString(sum[:8])
}
