package cluster

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// kernelPackage depends on the kernel of Debian for virtual machines, which has IPVS.
const kernelPackage = "linux-image-cloud-amd64"

// kernelModules are what a virtual machine loads, and what these depend on.
var kernelModules = []string{
	"virtio_pci", "virtio_net", "virtio_blk", "virtio_rng", "virtiofs", "overlay", "crc32c_generic", "ext4",
	"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_sh", "ip_vs_dh", "ip_vs_sed", "ip_vs_nq", "ip_vs_mh",
	"nf_tables", "nft_chain_nat", "nft_masq", "nft_ct", "nft_reject_inet", "nf_conntrack_netlink", "dummy", "veth", "sctp",
	// Of a kube-proxy in mode ipvs, by way of iptables and ipset.
	"nft_compat", "nft_nat", "xt_comment", "xt_mark", "xt_MASQUERADE", "xt_conntrack", "xt_set", "xt_tcpudp", "xt_addrtype", "xt_multiport",
	"ipt_REJECT", "ip6t_REJECT", "ip_set_hash_ip", "ip_set_hash_net", "ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "ip_set_bitmap_port",
}

// kernel is what a virtual machine boots.
type kernel struct{ image, initrd string }

// virtualKernel returns a kernel that is unpacked, never installed, and an initial file system with its
// modules and the helper. It downloads what is missing in the cache.
func virtualKernel(ctx context.Context, helper string, log io.Writer) (kernel, error) {
	root, err := cacheRoot()
	if err != nil {
		return kernel{}, err
	}
	unlock, err := lockFile(filepath.Join(root, "kernel.lock"))
	if err != nil {
		return kernel{}, err
	}
	defer unlock()
	tree := filepath.Join(root, "kernel")
	if !exists(tree) {
		fmt.Fprintf(log, "downloading %s, once, into %s …\n", kernelPackage, tree)
		if err := downloadKernel(ctx, tree); err != nil {
			return kernel{}, fmt.Errorf("a kernel for virtual machines: %w", err)
		}
	}
	images, err := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("%s has not one kernel: remove it, and it is downloaded again", tree)
	}
	hash := sha256.Sum256([]byte(helper + images[0] + fmt.Sprint(kernelModules)))
	k := kernel{images[0], filepath.Join(root, "initrd-"+hex.EncodeToString(hash[:8]))}
	if exists(k.initrd) {
		return k, nil
	}
	data, err := initrd(tree, helper)
	if err != nil {
		return kernel{}, err
	}
	return k, errors.Join(os.WriteFile(k.initrd+".part", data, 0o644), os.Rename(k.initrd+".part", k.initrd))
}

func downloadKernel(ctx context.Context, tree string) error {
	dir, err := os.MkdirTemp(filepath.Dir(tree), "download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	script := exec.CommandContext(ctx, "/bin/sh", "-ec", `
cd "$1"
package=$(apt-cache depends "$2" | awk '/Depends:/ {print $2; exit}')
apt-get -o APT::Sandbox::User=root download "$package" || { apt-get update; apt-get -o APT::Sandbox::User=root download "$package"; }
dpkg-deb -x ./*.deb tree
`, "sh", dir, kernelPackage)
	if out, err := script.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return os.Rename(filepath.Join(dir, "tree"), tree)
}

// initrd is an archive of the helper and the modules, as the kernel unpacks it.
func initrd(tree, helper string) ([]byte, error) {
	modules, err := inOrder(tree)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(helper)
	if err != nil {
		return nil, err
	}
	archive := cpio{w: zip}
	archive.add("dev", fs.ModeDir|0o755, nil)
	archive.add("modules", fs.ModeDir|0o755, nil)
	archive.add("init", 0o755, program)
	var list strings.Builder
	for _, path := range modules {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		archive.add("modules/"+filepath.Base(path), 0o644, data)
		fmt.Fprintln(&list, filepath.Base(path))
	}
	archive.add("modules/list", 0o644, []byte(list.String()))
	archive.add("TRAILER!!!", 0, nil)
	err = errors.Join(archive.err, zip.Close()) // before the bytes are taken
	return packed.Bytes(), err
}

var dependsOn = regexp.MustCompile(`(?:^|\x00)depends=([^\x00]*)`)

// inOrder finds the modules, each after those that it depends on. What is not a file is in the kernel.
func inOrder(tree string) ([]string, error) {
	files := map[string]string{}
	name := func(file string) string {
		return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
	}
	err := filepath.WalkDir(filepath.Join(tree, "lib", "modules"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".ko") {
			files[name(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var ordered []string
	var add func(module string) error
	add = func(module string) error {
		path := files[module]
		if path == "" || slices.Contains(ordered, path) {
			return nil
		}
		f, err := elf.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Section(".modinfo").Data()
		if err != nil {
			return err
		}
		if m := dependsOn.FindSubmatch(info); m != nil {
			for _, d := range strings.Split(string(m[1]), ",") {
				if err := add(name(d)); err != nil {
					return err
				}
			}
		}
		ordered = append(ordered, path)
		return nil
	}
	for _, module := range kernelModules {
		if err := add(module); err != nil {
			return nil, fmt.Errorf("module %s: %w", module, err)
		}
	}
	return ordered, nil
}

// cpio writes the archive format of an initial file system ("newc").
type cpio struct {
	w       io.Writer
	written int
	err     error
}

func (c *cpio) add(name string, mode fs.FileMode, data []byte) {
	kind := 0o100000
	if mode.IsDir() {
		kind = 0o040000
	}
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.written, kind|int(mode.Perm()), 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0))
	c.write([]byte(name + "\x00"))
	c.align()
	c.write(data)
	c.align()
}

func (c *cpio) write(data []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(data)
		c.written += len(data)
	}
}

func (c *cpio) align() { c.write(make([]byte, (4-c.written%4)%4)) }
