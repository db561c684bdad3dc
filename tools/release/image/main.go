// Command image builds the manager's image for every architecture, as an OCI
// layout, with ko. It asks no registry: the base is empty, since the program is static.
// It runs in the root of the repository.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/ko/pkg/build"
)

const (
	program = "github.com/external-lb/external-lb"
	source  = "https://" + program
	nobody  = "65532:65532" // as config/manager runs it
)

func main() {
	version := flag.String("version", "", "what is built, as v0.1.0")
	ldflags := flag.String("ldflags", "", "as for the binaries")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "to build for")
	dir := flag.String("dir", "", "directory of the layout, which must be empty")
	sboms := flag.String("sboms", "", "directory of the bills of materials, one for each platform")
	flag.Parse()
	if err := run(context.Background(), *version, *ldflags, strings.Split(*platforms, ","), *dir, *sboms); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, version, ldflags string, platforms []string, dir, sboms string) error {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	base, err := emptyBase(platforms)
	if err != nil {
		return err
	}
	builder, err := build.NewGo(ctx, ".",
		build.WithBaseImages(func(context.Context, string) (name.Reference, build.Result, error) {
			ref, err := name.ParseReference("scratch")
			return ref, base, err
		}),
		build.WithConfig(map[string]build.Config{program: {Ldflags: strings.Fields(ldflags)}}),
		build.WithPlatforms(platforms...),
		build.WithTrimpath(true),
		build.WithUser(nobody),
		build.WithCreationTime(v1.Time{Time: time.Unix(seconds, 0).UTC()}),
		build.WithLabel("org.opencontainers.image.source", source),
		build.WithLabel("org.opencontainers.image.version", version),
		build.WithLabel("org.opencontainers.image.licenses", "Apache-2.0"),
		build.WithSPDX("library"),
		build.WithSBOMDir(sboms),
	)
	if err != nil {
		return err
	}
	built, err := builder.Build(ctx, build.StrictScheme+program)
	if err != nil {
		return err
	}
	index, ok := built.(v1.ImageIndex)
	if !ok {
		return fmt.Errorf("built %T for %q, not an index", built, platforms)
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version}))
}

// emptyBase has an image without files for each platform.
func emptyBase(platforms []string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, text := range platforms {
		p, err := v1.ParsePlatform(text)
		if err != nil {
			return nil, err
		}
		image, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
			&v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, RootFS: v1.RootFS{Type: "layers"}})
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: p}})
	}
	return index, nil
}
