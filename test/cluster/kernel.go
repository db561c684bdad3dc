package cluster

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// kernelOptions are what is switched on in the kernel of virtual machines.
//
//go:embed kernel.options
var kernelOptions string

// virtualKernel returns the kernel of virtual machines, a program that needs nothing of this machine's
// kernel. It builds what is missing in the cache: minutes the first time.
func virtualKernel(ctx context.Context, log io.Writer) (string, error) {
	return Cached("linux", kernelOptions+buildKernel, func(path string) error {
		fmt.Fprintln(log, "building a kernel for virtual machines, once …")
		began := time.Now()
		build := exec.CommandContext(ctx, "/bin/bash", append([]string{"-euo", "pipefail", "-c", buildKernel, "bash", filepath.Dir(path)}, options()...)...)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("a kernel for virtual machines: %w: %s", err, lastLines(out, 20))
		}
		took, _ := build.ProcessState.SysUsage().(*syscall.Rusage)
		fmt.Fprintf(log, "built it in %s, %s of this machine's processors\n", time.Since(began).Round(time.Second),
			time.Duration(took.Utime.Nano()+took.Stime.Nano()).Round(time.Second))
		return nil
	})
}

// options of the kernel, without the remarks.
func options() (all []string) {
	for line := range strings.Lines(kernelOptions) {
		if !strings.HasPrefix(line, "#") {
			all = append(all, strings.Fields(line)...)
		}
	}
	return all
}

func lastLines(out []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}

// buildKernel builds "linux" in a directory, with options, from the newest kernel that Debian backports:
// User-Mode Linux before 6.16 starts programs ten times as slowly (it has no seccomp mode). Of the
// sources, it leaves out what a kernel for this purpose never has.
const buildKernel = `
cd "$1"; shift
archive() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p; }
[ -n "$(archive)" ] || apt-get -qq update
mkdir -p lists/partial cache/archives/partial source build
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(archive) stable-backports main" >sources.list
own=(-qq -o Dir::Etc::SourceList="$PWD/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$PWD/lists"
  -o Dir::Cache="$PWD/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none)
apt-get "${own[@]}" update
apt-get "${own[@]}" download "$(apt-cache "${own[@]}" show --no-all-versions linux-source | sed -n 's/^Depends: \([^ ,]*\).*/\1/p')"
out=()
for part in Documentation drivers/{gpu,infiniband,media,scsi,staging} drivers/net/{ethernet,wireless} fs/{btrfs,xfs} sound tools/{perf,testing} \
  arch/{alpha,arc,arm,arm64,csky,hexagon,loongarch,m68k,microblaze,mips,nios2,openrisc,parisc,powerpc,riscv,s390,sh,sparc,xtensa}; do
  out+=(--exclude="*/$part/*."{c,h,S,dts,dtsi,rst,yaml,json})
done
dpkg-deb --fsys-tarfile linux-source-*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
  tar -xJ -C source --strip-components=1 "${out[@]}"
printf 'CONFIG_%s=y\n' "$@" >options
make -s -C source ARCH=um O="$PWD/build" KCONFIG_ALLCONFIG="$PWD/options" allnoconfig
for option; do grep -qx "CONFIG_$option=y" build/.config || { echo "this kernel has no option $option"; exit 1; }; done
make -s -C source ARCH=um O="$PWD/build" -j"$(nproc)" linux
cp build/linux linux
`
