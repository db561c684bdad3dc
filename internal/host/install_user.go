package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/external-lb/external-lb/internal/engine"
)

const sudoersPath = "/etc/sudoers.d/external-lb"

// readSettings reads the machine's own, or those that it will get.
func (in *installer) readSettings() (err error) {
	data, err := os.ReadFile(in.settingsPath)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = fmt.Appendf(nil, "engine: %s\ndatagrams: %q\nvrrp: %t\nfamily: %s\n", in.Engine, in.Datagrams, in.VRRP, in.Family), nil
	}
	if err == nil {
		in.settings, err = ParseSettings(data, in.table)
		in.settings.program = in.Command
	}
	if err != nil {
		return fmt.Errorf("%s: %w; correct it, or move it away to start from the defaults: then what it admits is lost", in.settingsPath, err)
	}
	if in.Engine != "" && in.Engine != in.settings.Engine {
		return fmt.Errorf("%s says that this machine's engine is %s, not %s: end what %[2]s reads, write `engine: %[3]s` there, keep what else is in there, and run this again", in.settingsPath, in.settings.Engine, in.Engine)
	}
	if in.Family != "" && in.Family != in.settings.Family {
		return fmt.Errorf("%s says that this machine is laid out as %s, not %s: change that line first", in.settingsPath, in.settings.Family, in.Family)
	}
	if in.Datagrams != "" && in.Datagrams != in.settings.Datagrams {
		return fmt.Errorf("%s does not say that %s carries datagrams here: add the line `datagrams: %[2]s`, and run this again", in.settingsPath, in.Datagrams)
	}
	if in.VRRP && !in.settings.VRRP {
		return fmt.Errorf("%s does not say that addresses may move here: add the line `vrrp: true`, and run this again", in.settingsPath)
	}
	if in.settings.VRRP {
		in.NonlocalBind = true // what listens does so before the addresses arrive
	}
	for _, u := range newUnits(in.settings, in.Runner) {
		p := &part{installer: in, unit: u}
		p.Installer = u.daemon.Installer(p)
		in.parts = append(in.parts, p)
	}
	return nil
}

// settingsFile writes the settings, unless there are some: those are the
// administrator's.
func (in *installer) settingsFile(context.Context) error {
	if err := in.directory(filepath.Dir(in.settingsPath), 0o755, 0, 0); err != nil {
		return err
	}
	_, err := os.Stat(in.settingsPath)
	text := "# How this machine takes deliveries. What is not here has its default.\nengine: " + in.settings.Engine + "\nroot: " + in.settings.Root + "\n"
	if in.Family != "" {
		text += "family: " + in.Family + "\n"
	}
	if in.settings.Datagrams != "" {
		text += "datagrams: " + in.settings.Datagrams + "\n"
	}
	if in.settings.VRRP {
		text += "vrrp: true\n"
	}
	for _, p := range in.parts {
		text += p.Settings() + in.share(p)
	}
	if err != nil {
		admission, err := in.admission()
		if err != nil {
			return in.fail("settings", err)
		}
		text += admission
	}
	return in.Step("settings", in.settingsPath, err == nil, func() error { return engine.ReplaceFile(in.settingsPath, []byte(text), 0o644) })
}

// sharers is how many busy Services it takes to use up what all of them share.
const sharers = 4

// share are the lines of the settings that keep one Service from using up what a daemon holds.
func (in *installer) share(p *part) string {
	b, ok := p.Installer.(engine.Bounded)
	if !ok {
		return ""
	}
	return fmt.Sprintf("# How many clients of one Service may be connected: a quarter of what %s holds. 0: no limit.\nconnectionsPerService: %d\n",
		p.unit.daemon.Name(), b.Holds()/sharers)
}

// user is who the controller logs in as. Its password is one that nothing
// matches, and not a locked one: sshd may refuse a locked account.
func (in *installer) user(ctx context.Context) error {
	u, err := user.Lookup(account)
	if err != nil {
		in.uid, in.gid, in.home = -1, -1, in.settings.Root
		err := in.Step("user", account, false, func() error {
			return engine.Do(ctx, in, "useradd", "--system", "--user-group", "--home-dir", in.settings.Root, "--no-create-home",
				"--shell", "/bin/sh", "--password", "*", account)
		})
		if err != nil || in.DryRun {
			return err
		}
		u, err = user.Lookup(account)
		if err != nil {
			return err
		}
		return in.identify(u)
	}
	if err := in.identify(u); err != nil {
		return err
	}
	shell, password := field("/etc/passwd", 6), field("/etc/shadow", 1)
	usable := shell != "" && !strings.HasSuffix(shell, "/nologin") && !strings.HasSuffix(shell, "/false") && !strings.HasPrefix(password, "!")
	return in.Step("user", account, usable, func() error {
		return engine.Do(ctx, in, "usermod", "--shell", "/bin/sh", "--password", "*", account)
	})
}

func (in *installer) identify(u *user.User) (err error) {
	in.home = u.HomeDir
	if in.uid, err = strconv.Atoi(u.Uid); err != nil {
		return err
	}
	in.gid, err = strconv.Atoi(u.Gid)
	return err
}

// field of the account's line in a file like /etc/passwd.
func field(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); fields[0] == account && n < len(fields) {
			return fields[n]
		}
	}
	return ""
}

// directories: only that of the deliveries is the account's own. It cannot
// change which keys may log in.
func (in *installer) directories(context.Context) error {
	if err := in.directory(in.settings.Root, 0o755, 0, 0); err != nil {
		return err
	}
	if err := in.directory(filepath.Join(in.home, ".ssh"), 0o755, 0, 0); err != nil {
		return err
	}
	if err := in.directory(in.settings.modelDir(), 0o700, in.uid, in.gid); err != nil {
		return err
	}
	return in.each(func(p *part) error { return in.directory(p.unit.dir, 0o755, in.uid, in.gid) })
}

func ownedBy(info fs.FileInfo, uid, gid int) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid && int(st.Gid) == gid
}

// sudoers lets the account run exactly the commands in the settings.
func (in *installer) sudoers(ctx context.Context) error {
	const name = "sudo rights"
	s, err := in.accountSettings()
	if err != nil {
		return in.fail(name, err)
	}
	// A session of PAM would take the limit of open files to 1024, and a check may open each listener that is new.
	text := "# Made by `external-lb host install`: what the account may do as root.\n" +
		"Defaults:" + account + " !pam_session\n"
	for _, u := range newUnits(s, in.Runner) {
		for _, argv := range u.commands() {
			if command, viaSudo := engine.WithoutSudo(argv); viaSudo {
				text += account + " ALL=(root) NOPASSWD: " + sudoersCommand(command) + "\n"
			}
		}
	}
	have, err := os.ReadFile(sudoersPath)
	return in.Step(name, sudoersPath, err == nil && string(have) == text, func() error {
		// sudo ignores names with a dot.
		draft := filepath.Join(filepath.Dir(sudoersPath), ".external-lb.draft")
		if err := engine.ReplaceFile(draft, []byte(text), 0o440); err != nil {
			return err
		}
		if err := engine.Do(ctx, in, "/usr/sbin/visudo", "-cqf", draft); err != nil {
			return errors.Join(err, os.Remove(draft))
		}
		return os.Rename(draft, sudoersPath)
	})
}

// accountSettings are the settings as the account will read them: its commands
// go through sudo.
func (in *installer) accountSettings() (Settings, error) {
	data, err := os.ReadFile(in.settingsPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Settings{}, err
	}
	s, err := parseSettings(data, in.table, true)
	s.program = in.Command
	return s, err
}

// sudoersCommand quotes what sudoers would take for its own. A command without arguments
// would be allowed with any: "" allows none.
func sudoersCommand(argv []string) string {
	quote := []string{`\`, `\\\\`} // for sudoers, and for the patterns that its arguments are
	for _, special := range strings.Split(`, : = # * ? [ ] ! ^ "`, " ") {
		quote = append(quote, special, `\`+special)
	}
	replacer := strings.NewReplacer(append(quote, ` `, `\ `)...)
	words := slices.Clone(argv)
	for i := range words {
		words[i] = replacer.Replace(words[i])
	}
	if len(words) == 1 {
		words = append(words, `""`)
	}
	return strings.Join(words, " ")
}

func (in *installer) keys(context.Context) error {
	const name = "authorized keys"
	keys, err := readKeys(in.AuthorizedKeys)
	if err != nil {
		return in.fail(name, err)
	}
	path := filepath.Join(in.home, ".ssh", "authorized_keys")
	have, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return in.fail(name, err)
	}
	text := follow(string(have), in.Command)
	switch {
	case len(keys) > 0:
		text = authorize(text, keys, in.Command)
	case len(have) == 0:
		in.Report(name, engine.StepWarning, "nobody may deliver yet: give --authorized-key FILE")
		return nil
	case text == string(have):
		return nil
	}
	return in.File(name, path, []byte(text), 0o644)
}
