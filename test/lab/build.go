package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build external-lb in a directory.
func Build(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "external-lb")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/external-lb/external-lb")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
}
